"""Models of transformers that say what an image shows: transformers over patches, windows and pools; convolutions."""

from __future__ import annotations

import torch

from benchmarks.zoo.recipe import PATCHES, Inputs, Recipe, classified_image, image, named_image, named_large_image


def masked_image() -> Inputs:
    """Pictures, and which of their 16 patches are hidden."""
    args, kwargs = named_image()
    return args, {**kwargs, "bool_masked_pos": torch.rand(2, 16) < 0.5}


def partly_hidden_image() -> Inputs:
    """Pictures of 16 patches, and the noise that says which are hidden: the model would draw it otherwise."""
    args, kwargs = named_image()
    return args, {**kwargs, "noise": torch.rand(2, 16)}


def colours() -> Inputs:
    """Two pictures of 4 x 4 as the numbers of their colours."""
    return (torch.randint(0, 16, (2, 16)),), {}


BEIT = {**PATCHES, "use_relative_position_bias": True, "use_mean_pooling": True}
MASKED_BEIT = {**PATCHES, "vocab_size": 20, "use_mask_token": True}
MASKED = {
    **PATCHES,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
}
REGISTERS = {**PATCHES, "num_register_tokens": 2}
WINDOWS = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
SUPER_RESOLUTION = {**WINDOWS, "patch_size": 1, "image_size": 16, "depths": [2], "num_heads": [2]}
FOCAL = {
    "image_size": 32,
    "embed_dim": 16,
    "hidden_sizes": [16, 32],
    "depths": [1, 1],
    "focal_levels": [2, 2],
    "focal_windows": [3, 3],
}
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2]}
CONVNEXT = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "drop_path_rate": 0.1}
EFFICIENT = {
    "image_size": 32,
    "width_coefficient": 0.25,
    "depth_coefficient": 0.5,
    "hidden_dim": 320,
    "in_channels": [32, 16],
    "out_channels": [16, 24],
    "kernel_sizes": [3, 3],
    "strides": [1, 2],
    "expand_ratios": [1, 4],
    "num_block_repeats": [1, 1],
}
NARROW = {"depth_multiplier": 0.25, "min_depth": 4}
MOBILE = {
    "image_size": 64,
    "hidden_sizes": [16, 24, 32],
    "neck_hidden_sizes": [8, 8, 8, 8, 16, 16, 32],
    "num_attention_heads": 2,
}
MOBILE_2 = {
    "image_size": 64,
    "width_multiplier": 0.25,
    "base_attn_unit_dims": [32, 32, 32],
    "n_attn_blocks": [1, 1, 1],
}
POOLED = {
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "num_encoder_blocks": 2,
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "padding": [2, 1],
}
LEVIT = {
    "image_size": 64,
    "hidden_sizes": [16, 24, 32],
    "num_attention_heads": [2, 2, 2],
    "depths": [1, 1, 1],
    "key_dim": [8, 8, 8],
}
CONVOLUTIONAL = {"embed_dim": [8, 16, 16], "num_heads": [1, 2, 2], "depth": [1, 2, 3]}
REDUCED = {
    "image_size": 32,
    "num_encoder_blocks": 2,
    "hidden_sizes": [16, 32],
    "depths": [1, 1],
    "num_attention_heads": [1, 2],
    "strides": [4, 2],
    "mlp_ratios": [2, 2],
}
PVT = {**REDUCED, "sequence_reduction_ratios": [2, 1], "patch_sizes": [4, 2]}
PVT_2 = {**REDUCED, "sr_ratios": [2, 1], "patch_sizes": [7, 3]}
SWIFT = {"depths": [1, 1, 1, 1], "embed_dims": [8, 16, 16, 32]}
HIERA = {
    "image_size": [64, 64],
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "patch_stride": [4, 4],
    "query_stride": [2, 2],
    "masked_unit_size": [8, 8],
    "num_query_pool": 1,
    "embed_dim_multiplier": 2.0,
}
IMAGE_GPT = {"vocab_size": 17, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4, "use_cache": False}

RECIPES = (
    Recipe("vit", "ViTModel", image, PATCHES),
    Recipe("vit-classification", "ViTForImageClassification", classified_image, PATCHES),
    Recipe("vit-eager", "ViTForImageClassification", image, {**PATCHES, "attn_implementation": "eager"}),
    Recipe("deit", "DeiTForImageClassificationWithTeacher", image, PATCHES),
    Recipe("beit", "BeitForImageClassification", classified_image, BEIT),
    Recipe("beit-masked", "BeitForMaskedImageModeling", masked_image, MASKED_BEIT),
    Recipe("vit-mae", "ViTMAEForPreTraining", partly_hidden_image, MASKED),
    Recipe("dinov2", "Dinov2ForImageClassification", named_image, PATCHES),
    Recipe("dinov2-registers", "Dinov2WithRegistersModel", named_image, REGISTERS),
    Recipe("dinov3", "DINOv3ViTModel", named_image, REGISTERS),
    Recipe("swin", "SwinForImageClassification", classified_image, WINDOWS),
    Recipe("swinv2", "Swinv2ForImageClassification", named_image, WINDOWS),
    Recipe("swin2sr", "Swin2SRForImageSuperResolution", named_image, SUPER_RESOLUTION),
    Recipe("focalnet", "FocalNetForImageClassification", named_image, FOCAL),
    Recipe("convnext", "ConvNextForImageClassification", classified_image, CONVNEXT),
    Recipe("convnextv2", "ConvNextV2ForImageClassification", named_image, CONVNEXT),
    Recipe("resnet", "ResNetForImageClassification", classified_image, {**STAGES, "layer_type": "bottleneck"}),
    Recipe("resnet-basic", "ResNetModel", image, {**STAGES, "layer_type": "basic"}),
    Recipe("regnet", "RegNetForImageClassification", named_image, {**STAGES, "groups_width": 4}),
    Recipe("bit", "BitForImageClassification", named_image, {**STAGES, "num_groups": 4}),
    Recipe("efficientnet", "EfficientNetForImageClassification", named_image, EFFICIENT),
    Recipe("mobilenet-v1", "MobileNetV1ForImageClassification", named_image, NARROW),
    Recipe("mobilenet-v2", "MobileNetV2ForImageClassification", named_image, NARROW),
    Recipe("mobilevit", "MobileViTForImageClassification", named_large_image, MOBILE),
    Recipe("mobilevit-v2", "MobileViTV2ForImageClassification", named_large_image, MOBILE_2),
    Recipe("poolformer", "PoolFormerForImageClassification", classified_image, POOLED),
    Recipe("levit", "LevitForImageClassification", named_large_image, LEVIT),
    Recipe("cvt", "CvtForImageClassification", named_image, CONVOLUTIONAL),
    Recipe("pvt", "PvtForImageClassification", named_image, PVT),
    Recipe("pvt-v2", "PvtV2ForImageClassification", named_image, PVT_2),
    Recipe("swiftformer", "SwiftFormerForImageClassification", named_large_image, SWIFT),
    Recipe("hiera", "HieraForImageClassification", named_large_image, HIERA),
    Recipe("imagegpt", "ImageGPTForImageClassification", colours, IMAGE_GPT),
)
