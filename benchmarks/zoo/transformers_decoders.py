"""Decoders of transformers: models that continue a text, by attention, by experts or by a state."""

from __future__ import annotations

from benchmarks.zoo.recipe import SMALL, WORDS, Recipe, classified_ids, continued_ids, ids, named_ids, padded_ids

# The key-value cache is on unless a model says otherwise: some of them return it, as generation needs, others do not.
CACHED = {**SMALL, "num_key_value_heads": 2, "head_dim": 8}
GROUPED = {**CACHED, "use_cache": False}
WINDOWED = {**GROUPED, "sliding_window": 4}
GPT = {
    "vocab_size": WORDS,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ROTATED_GPT = {**GPT, "rotary_dim": 4}
ALTERNATING = {
    **SMALL,
    "num_layers": 2,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 4,
}
MPT = {"vocab_size": WORDS, "d_model": 32, "n_heads": 4, "n_layers": 2, "expansion_ratio": 2, "max_seq_len": 64}
FALCON = {**SMALL, "use_cache": False}

LOCAL_EXPERTS = {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}
EXPERTS = {**GROUPED, "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
LATENT_EXPERTS = {
    **SMALL,
    "use_cache": False,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "first_k_dense_replace": 1,
}

RECURRENT = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "use_cache": False}
MAMBA = {**RECURRENT, "state_size": 4}
MAMBA2 = {**MAMBA, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 4}
GRIFFIN = {**SMALL, "use_cache": False, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 4}
XLSTM = {
    **RECURRENT,
    "num_heads": 4,
    "qk_dim_factor": 0.5,
    "v_dim_factor": 1.0,
    "chunk_size": 4,
    "ffn_round_up_to_multiple_of": 8,
    "mlstm_round_up_to_multiple_of": 8,
}

RECIPES = (
    Recipe("gpt2", "GPT2LMHeadModel", ids, GPT),
    Recipe("gpt2-uncached", "GPT2LMHeadModel", continued_ids, {**GPT, "use_cache": False}),
    Recipe("gpt-neo", "GPTNeoForCausalLM", padded_ids, ALTERNATING),
    Recipe("gpt-neox", "GPTNeoXForCausalLM", named_ids, SMALL),
    Recipe("gptj", "GPTJForCausalLM", ids, ROTATED_GPT),
    Recipe("gpt-bigcode", "GPTBigCodeForCausalLM", ids, GPT),
    Recipe("codegen", "CodeGenForCausalLM", named_ids, {**ROTATED_GPT, "use_cache": False}),
    Recipe("ctrl", "CTRLModel", ids, {**GPT, "dff": 64}),
    Recipe("openai-gpt", "OpenAIGPTLMHeadModel", continued_ids, GPT),
    Recipe("opt", "OPTForCausalLM", padded_ids, {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 16}),
    Recipe("bloom", "BloomForCausalLM", padded_ids, {**SMALL, "n_layer": 2, "n_head": 4}),
    Recipe("mpt", "MptForCausalLM", ids, MPT),
    Recipe("biogpt", "BioGptForCausalLM", ids, SMALL),
    Recipe("llama", "LlamaForCausalLM", ids, CACHED),
    Recipe("llama-uncached", "LlamaForCausalLM", continued_ids, GROUPED),
    Recipe("llama-classification", "LlamaForSequenceClassification", classified_ids, CACHED),
    Recipe("mistral", "MistralForCausalLM", padded_ids, WINDOWED),
    Recipe("qwen2", "Qwen2ForCausalLM", ids, CACHED),
    Recipe("qwen3", "Qwen3Model", named_ids, GROUPED),
    Recipe("gemma", "GemmaForCausalLM", ids, CACHED),
    Recipe("gemma2", "Gemma2ForCausalLM", ids, WINDOWED),
    Recipe("gemma3", "Gemma3ForCausalLM", ids, WINDOWED),
    Recipe("phi", "PhiForCausalLM", ids, SMALL),
    Recipe("phi3", "Phi3ForCausalLM", padded_ids, GROUPED),
    Recipe("falcon", "FalconForCausalLM", ids, {**FALCON, "alibi": False, "multi_query": True}),
    Recipe("falcon-alibi", "FalconForCausalLM", padded_ids, {**FALCON, "alibi": True, "multi_query": False}),
    Recipe("stablelm", "StableLmForCausalLM", ids, GROUPED),
    Recipe("starcoder2", "Starcoder2ForCausalLM", ids, GROUPED),
    Recipe("olmo2", "Olmo2ForCausalLM", ids, GROUPED),
    Recipe("cohere", "CohereForCausalLM", ids, GROUPED),
    Recipe("granite", "GraniteForCausalLM", continued_ids, GROUPED),
    Recipe("glm", "GlmForCausalLM", ids, GROUPED),
    Recipe("nemotron", "NemotronForCausalLM", ids, GROUPED),
    Recipe("persimmon", "PersimmonForCausalLM", ids, FALCON),
    Recipe("bitnet", "BitNetForCausalLM", ids, GROUPED),
    Recipe("mixtral", "MixtralForCausalLM", ids, LOCAL_EXPERTS),
    Recipe("granite-moe", "GraniteMoeForCausalLM", ids, LOCAL_EXPERTS),
    Recipe("gpt-oss", "GptOssForCausalLM", ids, {**LOCAL_EXPERTS, "sliding_window": 4}),
    Recipe("qwen2-moe", "Qwen2MoeForCausalLM", ids, {**EXPERTS, "shared_expert_intermediate_size": 32}),
    Recipe("qwen3-moe", "Qwen3MoeForCausalLM", continued_ids, EXPERTS),
    Recipe("olmoe", "OlmoeForCausalLM", ids, EXPERTS),
    Recipe("deepseek-v3", "DeepseekV3ForCausalLM", ids, LATENT_EXPERTS),
    Recipe("mamba", "MambaForCausalLM", ids, MAMBA),
    Recipe("mamba2", "Mamba2ForCausalLM", ids, MAMBA2),
    Recipe("rwkv", "RwkvForCausalLM", ids, {**RECURRENT, "attention_hidden_size": 32}),
    Recipe("recurrent-gemma", "RecurrentGemmaForCausalLM", ids, GRIFFIN),
    Recipe("xlstm", "xLSTMForCausalLM", ids, XLSTM),
    Recipe("lfm2", "Lfm2ForCausalLM", ids, {**GROUPED, "layer_types": ["conv", "full_attention"]}),
)
