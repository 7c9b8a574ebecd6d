"""Models of transformers that say where things are: detection, segmentation, depth, key points, video."""

from __future__ import annotations

import torch

from benchmarks.zoo.recipe import PATCHES, Inputs, Recipe, named_image, named_large_image


def segmented_image() -> Inputs:
    """Pictures with a class for each pixel."""
    args, kwargs = named_image()
    return args, {**kwargs, "labels": torch.randint(0, 2, (2, 32, 32))}


def image_with_boxes() -> Inputs:
    """Pictures, and for each a box to be found: its centre and size, as parts of the picture's."""
    args, kwargs = named_large_image()
    found = {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]])}
    return args, {**kwargs, "labels": [found, {name: value.clone() for name, value in found.items()}]}


def video() -> Inputs:
    """Two films of four pictures: (2, 4, 3, 32, 32)."""
    return (torch.randn(2, 4, 3, 32, 32),), {}


def encoded_video() -> Inputs:
    """Films, of which only the encoder's view is asked for."""
    films, _ = video()
    return films, {"skip_predictor": True}


def masked_video() -> Inputs:
    """Films of 2 x 16 tubes, every other one hidden."""
    (films,), _ = video()
    return (films, torch.arange(32).expand(2, 32) % 2 == 0), {}


RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
LAST_STAGE = {**RESNET, "out_features": ["stage4"]}
LAST_STAGES = {**RESNET, "out_features": ["stage2", "stage3", "stage4"]}
EVERY_STAGE = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
SWIN = {
    "model_type": "swin",
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 1, 1],
    "window_size": 4,
    **EVERY_STAGE,
}
DETR = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_queries": 5,
    "num_labels": 3,
}
DETECTOR = {
    **DETR,
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": LAST_STAGE,
}
DEFORMABLE = {**DETECTOR, "backbone_config": LAST_STAGES, "num_feature_levels": 3}
REAL_TIME = {
    "backbone_config": {**LAST_STAGES, "model_type": "rt_detr_resnet"},
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [16, 24, 32],
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 4,
    "d_model": 32,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "num_queries": 5,
    "num_denoising": 0,
    "num_labels": 3,
    "disable_custom_kernels": True,
}
YOLOS = {**PATCHES, "image_size": [32, 32], "num_detection_tokens": 4, "use_mid_position_embeddings": False}
SEGFORMER = {
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "hidden_sizes": [16, 32],
    "num_attention_heads": [1, 2],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "mlp_ratios": [2, 2],
    "decoder_hidden_size": 16,
}
GLPN = {
    "num_encoder_blocks": 4,
    "depths": [1, 1, 1, 1],
    "sr_ratios": [4, 2, 1, 1],
    "hidden_sizes": [8, 16, 16, 32],
    "num_attention_heads": [1, 1, 2, 2],
    "patch_sizes": [7, 3, 3, 3],
    "strides": [4, 2, 2, 2],
    "mlp_ratios": [2, 2, 2, 2],
    "decoder_hidden_size": 16,
}
UPERNET = {
    "backbone_config": {**RESNET, **EVERY_STAGE},
    "hidden_size": 16,
    "pool_scales": [1, 2],
    "auxiliary_in_channels": 24,
    "auxiliary_channels": 8,
    "num_labels": 3,
}
MASKFORMER = {
    "backbone_config": SWIN,
    "decoder_config": {"model_type": "detr", **DETR},
    "fpn_feature_size": 32,
    "mask_feature_size": 16,
}
MASK_2_FORMER = {
    "backbone_config": SWIN,
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_feedforward_dim": 32,
    "dim_feedforward": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 2,
    "num_queries": 5,
}
SEGMENT_ANYTHING = {
    "vision_config": {
        "hidden_size": 32,
        "output_channels": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 8,
        "window_size": 4,
        "global_attn_indexes": [1],
        "num_pos_feats": 8,
        "mlp_dim": 32,
    },
    "prompt_encoder_config": {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4},
    "mask_decoder_config": {
        "hidden_size": 16,
        "mlp_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    },
}
NECK = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 8}
DPT = {
    **PATCHES,
    **NECK,
    "num_hidden_layers": 4,
    "backbone_out_indices": [0, 1, 2, 3],
    "reassemble_factors": [4, 2, 1, 0.5],
    "is_hybrid": False,
}
DINO = {"model_type": "dinov2", **PATCHES, **EVERY_STAGE, "num_hidden_layers": 4, "reshape_hidden_states": False}
DEPTH_ANYTHING = {**NECK, "backbone_config": DINO, "patch_size": 8, "reassemble_hidden_size": 32, "head_hidden_size": 8}
SUPERPOINT = {"encoder_hidden_sizes": [8, 8, 16, 16], "decoder_hidden_size": 16, "descriptor_decoder_dim": 16}
POSES = {**PATCHES, "model_type": "vitpose_backbone", "image_size": [64, 64], "patch_size": [8, 8]}
FRAMES = {**PATCHES, "num_frames": 4}
TUBES = {**FRAMES, "tubelet_size": 2}
MASKED_TUBES = {
    **TUBES,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
}
PREDICTED_TUBES = {
    **PATCHES,
    "crop_size": 32,
    "frames_per_clip": 4,
    "mlp_ratio": 2.0,
    "pred_hidden_size": 32,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
}

RECIPES = (
    Recipe("detr", "DetrForObjectDetection", named_image, DETECTOR),
    Recipe("detr-boxes", "DetrForObjectDetection", image_with_boxes, {**DETECTOR, "auxiliary_loss": True}),
    Recipe("conditional-detr", "ConditionalDetrForObjectDetection", named_image, DETECTOR),
    Recipe("dab-detr", "DabDetrForObjectDetection", named_image, {**DETECTOR, "hidden_size": 32}),
    Recipe("deformable-detr", "DeformableDetrForObjectDetection", named_large_image, DEFORMABLE),
    Recipe("rt-detr", "RTDetrForObjectDetection", named_large_image, REAL_TIME),
    Recipe("yolos", "YolosForObjectDetection", named_image, YOLOS),
    Recipe("segformer", "SegformerForSemanticSegmentation", segmented_image, SEGFORMER),
    Recipe("upernet", "UperNetForSemanticSegmentation", named_large_image, UPERNET),
    Recipe("maskformer", "MaskFormerForInstanceSegmentation", named_large_image, MASKFORMER),
    Recipe("mask2former", "Mask2FormerForUniversalSegmentation", named_large_image, MASK_2_FORMER),
    Recipe("sam", "SamModel", named_large_image, SEGMENT_ANYTHING),
    Recipe("glpn", "GLPNForDepthEstimation", named_large_image, GLPN),
    Recipe("dpt", "DPTForDepthEstimation", named_image, DPT),
    Recipe("depth-anything", "DepthAnythingForDepthEstimation", named_image, DEPTH_ANYTHING),
    Recipe("superpoint", "SuperPointForKeypointDetection", named_image, SUPERPOINT),
    Recipe("vitpose", "VitPoseForPoseEstimation", named_large_image, {"backbone_config": POSES, "num_labels": 3}),
    Recipe("timesformer", "TimesformerForVideoClassification", video, FRAMES),
    Recipe("videomae", "VideoMAEForVideoClassification", video, TUBES),
    Recipe("videomae-masked", "VideoMAEForPreTraining", masked_video, MASKED_TUBES),
    Recipe("vivit", "VivitForVideoClassification", video, {**FRAMES, "tubelet_size": [2, 8, 8]}),
    Recipe("vjepa2", "VJEPA2Model", encoded_video, PREDICTED_TUBES),
)
