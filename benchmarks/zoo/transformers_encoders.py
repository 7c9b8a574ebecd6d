"""Encoders of transformers: models that read a text at once."""

from __future__ import annotations

from benchmarks.zoo.recipe import (
    SMALL,
    WORDS,
    Recipe,
    classified_ids,
    continued_ids,
    ids,
    named_ids,
    padded_ids,
    tagged_ids,
)

FACTORED = {**SMALL, "embedding_size": 16}
DISENTANGLED = {**SMALL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
MOBILE = {**FACTORED, "intra_bottleneck_size": 32, "true_hidden_size": 32}
DISTILLED = {
    "vocab_size": WORDS,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 64,
}
RELATIVE = {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}
MULTILINGUAL = {
    "vocab_size": WORDS,
    "emb_dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 64,
    "pad_index": 0,
}
FUNNEL = {"vocab_size": WORDS, "d_model": 32, "block_sizes": [1, 1], "n_head": 4, "d_head": 8, "d_inner": 64}
CHARACTERS = {
    **SMALL,
    "num_hash_buckets": 16,
    "num_hash_functions": 2,
    "local_transformer_stride": 4,
    "downsampling_rate": 4,
}
PROTEINS = {**SMALL, "mask_token_id": 2, "position_embedding_type": "rotary", "token_dropout": True}
MODERN = {**SMALL, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 4}
LATENT = {
    "vocab_size": WORDS,
    "d_model": 32,
    "d_latents": 32,
    "num_latents": 8,
    "num_blocks": 1,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 2,
    "num_cross_attention_heads": 2,
    "max_position_embeddings": 12,
}
REVERSIBLE = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "attention_head_size": 16,
    "feed_forward_size": 64,
    "attn_layers": ["local", "local"],
    "axial_pos_shape": [3, 4],
    "axial_pos_embds_dim": [16, 16],
    "local_attn_chunk_length": 4,
    "max_position_embeddings": 12,
    "is_decoder": False,
}

RECIPES = (
    Recipe("bert", "BertModel", ids, SMALL),
    Recipe("bert-classification", "BertForSequenceClassification", classified_ids, SMALL),
    Recipe("bert-masked-words", "BertForMaskedLM", padded_ids, {**SMALL, "attn_implementation": "eager"}),
    Recipe("roberta", "RobertaForTokenClassification", tagged_ids, SMALL),
    Recipe("distilbert", "DistilBertForSequenceClassification", padded_ids, DISTILLED),
    Recipe("albert", "AlbertForSequenceClassification", classified_ids, FACTORED),
    Recipe("electra", "ElectraForPreTraining", padded_ids, FACTORED),
    Recipe("deberta", "DebertaModel", padded_ids, DISENTANGLED),
    Recipe("deberta-v2", "DebertaV2ForSequenceClassification", padded_ids, {**DISENTANGLED, "position_buckets": 8}),
    Recipe("mpnet", "MPNetForSequenceClassification", classified_ids, SMALL),
    Recipe("xlnet", "XLNetForSequenceClassification", padded_ids, RELATIVE),
    Recipe("xlm", "XLMModel", padded_ids, MULTILINGUAL),
    Recipe("funnel", "FunnelForSequenceClassification", padded_ids, FUNNEL),
    Recipe("fnet", "FNetForSequenceClassification", named_ids, SMALL),
    Recipe("squeezebert", "SqueezeBertForSequenceClassification", padded_ids, {**SMALL, "embedding_size": 32}),
    Recipe("mobilebert", "MobileBertForSequenceClassification", padded_ids, MOBILE),
    Recipe("convbert", "ConvBertForSequenceClassification", padded_ids, FACTORED),
    Recipe("roformer", "RoFormerForMaskedLM", continued_ids, {**SMALL, "embedding_size": 32}),
    Recipe("longformer", "LongformerForSequenceClassification", padded_ids, {**SMALL, "attention_window": [4, 4]}),
    Recipe("big-bird", "BigBirdModel", padded_ids, {**SMALL, "attention_type": "original_full"}),
    Recipe("canine", "CanineModel", ids, CHARACTERS),
    Recipe("esm", "EsmForSequenceClassification", padded_ids, PROTEINS),
    Recipe("ibert", "IBertForSequenceClassification", named_ids, {**SMALL, "quant_mode": False}),
    Recipe("modernbert", "ModernBertForMaskedLM", padded_ids, MODERN),
    Recipe("perceiver", "PerceiverForMaskedLM", padded_ids, LATENT),
    Recipe("reformer", "ReformerModel", ids, REVERSIBLE),
    Recipe("yoso", "YosoModel", padded_ids, {**SMALL, "use_expectation": True}),
    Recipe("luke", "LukeModel", padded_ids, {**SMALL, "entity_vocab_size": 10, "entity_emb_size": 16}),
)
