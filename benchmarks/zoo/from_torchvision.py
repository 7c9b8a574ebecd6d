"""The models of torchvision with random weights: classification, segmentation, detection, motion and video."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.zoo.entry import Entry, Example
from benchmarks.zoo.torchvision_operators import define_torchvision_operators


@dataclass(frozen=True)
class Architecture:
    """A model that torchvision knows by `name`, or a class of `torchvision.models`; and what it is called with."""

    name: str
    args: Callable[[], tuple[Any, ...]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def entry(self) -> Entry:
        return Entry(f"torchvision/{self.name}", "torchvision", functools.partial(_make, self))


def entries() -> list[Entry]:
    """One entry an architecture; none where torchvision is not installed."""
    if find_spec("torchvision") is None:
        return []
    return [architecture.entry() for architecture in (*CLASSIFIERS, *SEGMENTERS, *DETECTORS, *MOVING)]


def _make(architecture: Architecture) -> Example:
    define_torchvision_operators()
    models = importlib.import_module("torchvision.models")
    torch.manual_seed(0)
    if architecture.name in models.list_models():
        model = models.get_model(architecture.name, weights=None, **architecture.settings)
    else:
        model = getattr(models, architecture.name)(**architecture.settings)
    return model, architecture.args(), {}


def images(side: int) -> Callable[[], tuple[Any, ...]]:
    """Two images: (2, 3, side, side)."""
    return lambda: (torch.randn(2, 3, side, side),)


def films(length: int, side: int) -> Callable[[], tuple[Any, ...]]:
    """Two films of `length` images: (2, 3, length, side, side)."""
    return lambda: (torch.randn(2, 3, length, side, side),)


def before_and_after() -> tuple[Any, ...]:
    """Two scenes at two moments, and how often the motion between them is refined."""
    return torch.rand(2, 3, 128, 128), torch.rand(2, 3, 128, 128), 2


def scenes() -> tuple[Any, ...]:
    """Two images of different sizes, and what is to be found in each; the latter is read in training only."""
    return [torch.rand(3, 64, 64), torch.rand(3, 64, 48)], [_found(64, 64), _found(64, 48)]


def _found(height: int, width: int) -> dict[str, torch.Tensor]:
    """One object: its corners (x1, y1, x2, y2), class, mask, and 17 key points (x, y, visible)."""
    return {
        "boxes": torch.tensor([[5.0, 5.0, 40.0, 40.0]]),
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, height, width, dtype=torch.uint8),
        "keypoints": torch.tensor([10.0, 10.0, 1.0]).expand(1, 17, 3).clone(),
    }


FIVE = {"num_classes": 5}
UNTRAINED = {**FIVE, "weights_backbone": None}
SMALL_IMAGES = {**UNTRAINED, "min_size": 64, "max_size": 64}
FEW_REGIONS = {
    **SMALL_IMAGES,
    "rpn_pre_nms_top_n_train": 50,
    "rpn_pre_nms_top_n_test": 50,
    "rpn_post_nms_top_n_train": 4,
    "rpn_post_nms_top_n_test": 4,
    "box_batch_size_per_image": 4,
    "box_detections_per_img": 2,
}
VISION_TRANSFORMER = {
    **FIVE,
    "image_size": 32,
    "patch_size": 8,
    "num_layers": 2,
    "num_heads": 4,
    "hidden_dim": 32,
    "mlp_dim": 64,
}
MAX_VIT = {
    **FIVE,
    "input_size": (64, 64),
    "stem_channels": 16,
    "partition_size": 2,
    "block_channels": [16, 32],
    "block_layers": [1, 1],
    "head_dim": 16,
    "stochastic_depth_prob": 0.1,
}

CLASSIFIERS = (
    Architecture("alexnet", images(64), FIVE),
    Architecture("convnext_tiny", images(32), FIVE),
    Architecture("densenet121", images(32), FIVE),
    Architecture("efficientnet_b0", images(32), FIVE),
    Architecture("efficientnet_v2_s", images(32), FIVE),
    Architecture("googlenet", images(64), {**FIVE, "init_weights": False}),
    Architecture("inception_v3", images(96), {**FIVE, "init_weights": False, "aux_logits": False}),
    Architecture("MaxVit", images(64), MAX_VIT),
    Architecture("mnasnet0_5", images(32), FIVE),
    Architecture("mobilenet_v2", images(32), FIVE),
    Architecture("mobilenet_v3_small", images(32), FIVE),
    Architecture("regnet_x_400mf", images(32), FIVE),
    Architecture("regnet_y_400mf", images(32), FIVE),
    Architecture("resnet18", images(32), FIVE),
    Architecture("resnet50", images(32), FIVE),
    Architecture("resnext50_32x4d", images(32), FIVE),
    Architecture("shufflenet_v2_x0_5", images(32), FIVE),
    Architecture("squeezenet1_1", images(64), FIVE),
    Architecture("swin_t", images(32), FIVE),
    Architecture("swin_v2_t", images(32), FIVE),
    Architecture("VisionTransformer", images(32), VISION_TRANSFORMER),
)
SEGMENTERS = (
    Architecture("deeplabv3_mobilenet_v3_large", images(64), UNTRAINED),
    Architecture("deeplabv3_resnet50", images(32), {**UNTRAINED, "aux_loss": True}),
    Architecture("fcn_resnet50", images(32), UNTRAINED),
    Architecture("lraspp_mobilenet_v3_large", images(64), UNTRAINED),
)
DETECTORS = (
    Architecture("fasterrcnn_mobilenet_v3_large_320_fpn", scenes, FEW_REGIONS),
    Architecture("fasterrcnn_resnet50_fpn", scenes, FEW_REGIONS),
    Architecture("fcos_resnet50_fpn", scenes, SMALL_IMAGES),
    Architecture("keypointrcnn_resnet50_fpn", scenes, {**FEW_REGIONS, "num_classes": 2}),
    Architecture("maskrcnn_resnet50_fpn", scenes, FEW_REGIONS),
    Architecture("retinanet_resnet50_fpn", scenes, SMALL_IMAGES),
    Architecture("ssdlite320_mobilenet_v3_large", scenes, UNTRAINED),
)
MOVING = (
    Architecture("mc3_18", films(8, 32), FIVE),
    Architecture("r2plus1d_18", films(8, 32), FIVE),
    Architecture("r3d_18", films(8, 32), FIVE),
    Architecture("swin3d_t", films(4, 32), FIVE),
    Architecture("raft_small", before_and_after),
)
