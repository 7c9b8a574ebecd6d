"""Encoders with a decoder of transformers: models that turn one text into another."""

from __future__ import annotations

from benchmarks.zoo.recipe import WORDS, Recipe, ids, source_and_labels, source_and_target

CACHED = {
    "vocab_size": WORDS,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
PLAIN = {**CACHED, "use_cache": False}
WINDOWED = {
    **PLAIN,
    "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 64,
    "attention_window": [4, 4],
}
BILINGUAL = {**PLAIN, "langs": ["en", "de"], "src_vocab_size": WORDS, "tgt_vocab_size": WORDS}
T5 = {
    "vocab_size": WORDS,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
PLAIN_T5 = {**T5, "use_cache": False}
SWITCH = {
    **PLAIN_T5,
    "num_experts": 2,
    "expert_capacity": 8,
    "num_sparse_encoder_layers": 1,
    "num_sparse_decoder_layers": 1,
}
PROPHET = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "use_cache": False,
}

RECIPES = (
    Recipe("t5", "T5ForConditionalGeneration", source_and_labels, T5),
    Recipe("t5-encoder", "T5EncoderModel", ids, T5),
    Recipe("mt5", "MT5Model", source_and_target, PLAIN_T5),
    Recipe("umt5", "UMT5ForConditionalGeneration", source_and_labels, PLAIN_T5),
    Recipe("longt5", "LongT5ForConditionalGeneration", source_and_labels, {**PLAIN_T5, "local_radius": 2}),
    Recipe("switch", "SwitchTransformersForConditionalGeneration", source_and_labels, SWITCH),
    Recipe("bart", "BartForConditionalGeneration", source_and_labels, CACHED),
    Recipe("mbart", "MBartForConditionalGeneration", source_and_labels, PLAIN),
    Recipe("marian", "MarianMTModel", source_and_target, CACHED),
    Recipe("pegasus", "PegasusForConditionalGeneration", source_and_target, PLAIN),
    Recipe("blenderbot", "BlenderbotForConditionalGeneration", source_and_labels, PLAIN),
    Recipe("m2m-100", "M2M100ForConditionalGeneration", source_and_target, PLAIN),
    Recipe("led", "LEDForConditionalGeneration", source_and_labels, WINDOWED),
    Recipe("prophetnet", "ProphetNetForConditionalGeneration", source_and_target, PROPHET),
    Recipe("fsmt", "FSMTForConditionalGeneration", source_and_target, BILINGUAL),
)
