"""Models of transformers that read and see or hear: towers side by side, and one that talks about what it sees."""

from __future__ import annotations

import torch

from benchmarks.zoo.recipe import PATCHES, SMALL, WORDS, Inputs, Recipe, named_image

IMAGE_WORD = WORDS - 1
"""The word that stands where a patch of the image goes."""


def text(length: int = 8) -> torch.Tensor:
    """Two sentences without the image's word: (2, length) int64."""
    return torch.randint(3, IMAGE_WORD, (2, length))


def places() -> torch.Tensor:
    """Where on a page of 64 x 64 the eight words of a sentence stand: (2, 8, 4) int64."""
    corner = torch.randint(0, 50, (2, 8, 2))
    return torch.cat([corner, corner + 10], dim=-1)


def image_and_text() -> Inputs:
    """A picture and a sentence each."""
    _, kwargs = named_image()
    words = text()
    return (), {**kwargs, "input_ids": words, "attention_mask": torch.ones_like(words)}


def matching_image_and_text() -> Inputs:
    """The same, and the loss that brings the two together."""
    args, kwargs = image_and_text()
    return args, {**kwargs, "return_loss": True}


def image_in_text() -> Inputs:
    """Sentences in which 16 words stand for the picture's 16 patches."""
    args, kwargs = named_image()
    words = text(24)
    words[:, 1:17] = IMAGE_WORD
    return args, {**kwargs, "input_ids": words, "attention_mask": torch.ones_like(words)}


def image_to_text() -> Inputs:
    """A picture, and what a decoder has said of it so far."""
    args, kwargs = named_image()
    return args, {**kwargs, "decoder_input_ids": text(6)}


def patches_to_text() -> Inputs:
    """Six patches, each its row and column before its 12 values, and the text so far."""
    where = torch.ones(2, 6, 2)
    return (), {"flattened_patches": torch.cat([where, torch.randn(2, 6, 12)], dim=-1), "decoder_input_ids": text(6)}


def sound_and_text() -> Inputs:
    """A spectrogram and a sentence each."""
    short = torch.zeros(2, 1, dtype=torch.bool)
    return (), {"input_ids": text(), "input_features": torch.randn(2, 1, 32, 16), "is_longer": short}


def video_and_text() -> Inputs:
    """A film of four pictures and a sentence each."""
    return (), {"input_ids": text(), "pixel_values": torch.randn(2, 4, 3, 32, 32)}


def words_and_regions() -> Inputs:
    """A sentence, and what was found in three regions of a picture."""
    return (), {"input_ids": text(), "visual_embeds": torch.randn(2, 3, 16)}


def words_and_boxes() -> Inputs:
    """The same, and where the regions lie."""
    return (), {"input_ids": text(), "visual_feats": torch.randn(2, 3, 16), "visual_pos": torch.rand(2, 3, 4)}


def page() -> Inputs:
    """Words and where they stand."""
    return (), {"input_ids": text(), "bbox": places()}


def seen_page() -> Inputs:
    """Words, where they stand, and the picture of the page."""
    args, kwargs = page()
    return args, {**kwargs, **named_image()[1]}


def seen_page_in_parts() -> Inputs:
    """The same with places as parts of the page's size."""
    args, kwargs = seen_page()
    return args, {**kwargs, "bbox": kwargs["bbox"] / 64}


TEXT = {**SMALL, "projection_dim": 16}
SIGHT = {**PATCHES, "projection_dim": 16}
TOWERS = {"text_config": TEXT, "vision_config": SIGHT, "projection_dim": 16}
GROUPS = {**PATCHES, "depths": [1, 1, 1], "num_group_tokens": [4, 2, 0], "num_output_groups": [4, 2, 0]}
GROUPVIT = {**TOWERS, "vision_config": GROUPS, "projection_intermediate_dim": 16}
CLIPSEG = {
    **TOWERS,
    "extract_layers": [0, 1],
    "reduce_dim": 8,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}
OWL = {"text_config": SMALL, "vision_config": PATCHES, "projection_dim": 32}
RETRIEVAL = {
    "text_config": {**SMALL, "encoder_hidden_size": 32},
    "vision_config": PATCHES,
    "image_text_hidden_size": 16,
}
OPT = {"model_type": "opt", **SMALL, "ffn_dim": 32, "word_embed_proj_dim": 32, "use_cache": False}
BLIP_2 = {
    "vision_config": PATCHES,
    "qformer_config": {**SMALL, "encoder_hidden_size": 32},
    "text_config": OPT,
    "num_query_tokens": 16,
    "image_token_index": IMAGE_WORD,
}
LXMERT = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "l_layers": 1,
    "x_layers": 1,
    "r_layers": 1,
    "visual_feat_dim": 16,
    "max_position_embeddings": 64,
}
MIXED = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
FLAVA = {
    "text_config": SMALL,
    "image_config": PATCHES,
    "multimodal_config": MIXED,
    "hidden_size": 32,
    "projection_dim": 16,
}
PAGES = {**SMALL, "max_2d_position_embeddings": 64}
SEEN_PAGES = {**PAGES, "input_size": 32, "patch_size": 8, "coordinate_size": 4, "shape_size": 8}
UDOP = {
    "vocab_size": WORDS,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "max_2d_position_embeddings": 64,
}
LLAVA = {
    "text_config": {"model_type": "llama", **SMALL, "num_key_value_heads": 2, "use_cache": False},
    "vision_config": {"model_type": "clip_vision_model", **PATCHES},
    "image_token_index": IMAGE_WORD,
    "vision_feature_layer": -1,
    "image_seq_length": 16,
}
PALIGEMMA = {
    "text_config": {"model_type": "gemma", **SMALL, "num_key_value_heads": 1, "head_dim": 8, "use_cache": False},
    "vision_config": {"model_type": "siglip_vision_model", **PATCHES, "vision_use_head": False},
    "projection_dim": 32,
    "image_token_index": IMAGE_WORD,
}
CAPTIONER = {
    "model_type": "gpt2",
    "vocab_size": WORDS,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "is_decoder": True,
    "add_cross_attention": True,
    "use_cache": False,
}
CHOSEN_TOWERS = {
    "vision_config": {"model_type": "vit", **PATCHES},
    "text_config": {"model_type": "bert", **SMALL},
    "projection_dim": 16,
}
T5_PARTS = {"hidden_size": 32, "d_kv": 8, "d_ff": 64}
PIX_2_STRUCT = {
    "text_config": {**T5_PARTS, "vocab_size": WORDS, "num_layers": 2, "num_heads": 4, "use_cache": False},
    "vision_config": {**T5_PARTS, "patch_embed_hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4},
}
CLAP = {
    "text_config": SMALL,
    "audio_config": {
        "spec_size": 32,
        "num_mel_bins": 16,
        "patch_size": 4,
        "patch_stride": [4, 4],
        "patch_embeds_hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "hidden_size": 32,
        "window_size": 2,
        "enable_fusion": False,
        "enable_patch_fusion": False,
    },
    "projection_dim": 16,
}
FILMS = {
    **SIGHT,
    "num_frames": 4,
    "mit_hidden_size": 16,
    "mit_intermediate_size": 32,
    "mit_num_attention_heads": 2,
    "mit_num_hidden_layers": 1,
}
X_CLIP = {**TOWERS, "vision_config": FILMS, "prompt_num_attention_heads": 2, "prompt_layers": 1}

RECIPES = (
    Recipe("clip", "CLIPModel", image_and_text, TOWERS),
    Recipe("clip-matching", "CLIPModel", matching_image_and_text, TOWERS),
    Recipe("clip-vision", "CLIPVisionModelWithProjection", named_image, SIGHT),
    Recipe("siglip", "SiglipModel", matching_image_and_text, {"text_config": SMALL, "vision_config": PATCHES}),
    Recipe("chinese-clip", "ChineseCLIPModel", image_and_text, {**TOWERS, "text_config": SMALL}),
    Recipe("altclip", "AltCLIPModel", image_and_text, {**TOWERS, "text_config": {**SMALL, "project_dim": 16}}),
    Recipe("groupvit", "GroupViTModel", image_and_text, GROUPVIT),
    Recipe("clipseg", "CLIPSegForImageSegmentation", image_and_text, CLIPSEG),
    Recipe("owlvit", "OwlViTForObjectDetection", image_and_text, OWL),
    Recipe("blip", "BlipModel", image_and_text, {**TOWERS, "vision_config": PATCHES}),
    Recipe("blip-retrieval", "BlipForImageTextRetrieval", image_and_text, RETRIEVAL),
    Recipe("blip-2", "Blip2ForConditionalGeneration", image_in_text, BLIP_2),
    Recipe("vilt", "ViltForQuestionAnswering", image_and_text, {**SMALL, **PATCHES, "num_labels": 3}),
    Recipe("visual-bert", "VisualBertModel", words_and_regions, {**SMALL, "visual_embedding_dim": 16}),
    Recipe("lxmert", "LxmertModel", words_and_boxes, LXMERT),
    Recipe("flava", "FlavaModel", image_and_text, FLAVA),
    Recipe("git", "GitForCausalLM", image_and_text, {**SMALL, "vision_config": PATCHES, "use_cache": False}),
    Recipe("layoutlm", "LayoutLMForSequenceClassification", page, PAGES),
    Recipe("layoutlm-v3", "LayoutLMv3Model", seen_page, SEEN_PAGES),
    Recipe("lilt", "LiltModel", page, {**PAGES, "hidden_size": 24, "channel_shrink_ratio": 2}),
    Recipe("udop", "UdopEncoderModel", seen_page_in_parts, UDOP),
    Recipe("llava", "LlavaForConditionalGeneration", image_in_text, LLAVA),
    Recipe("paligemma", "PaliGemmaForConditionalGeneration", image_in_text, PALIGEMMA),
    Recipe(
        "vision-encoder-decoder",
        "VisionEncoderDecoderModel",
        image_to_text,
        {"encoder": {"model_type": "vit", **PATCHES}, "decoder": CAPTIONER},
    ),
    Recipe("vision-text", "VisionTextDualEncoderModel", matching_image_and_text, CHOSEN_TOWERS),
    Recipe("pix2struct", "Pix2StructForConditionalGeneration", patches_to_text, PIX_2_STRUCT),
    Recipe("clap", "ClapModel", sound_and_text, CLAP),
    Recipe("x-clip", "XCLIPModel", video_and_text, X_CLIP),
)
