"""Networks by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from examples.cifar.networks.mobilenet import MobileNetV2
from examples.cifar.networks.parts import Normalise
from examples.cifar.networks.pretrained import MEAN, STD, SmallResNet, load_pretrained
from examples.cifar.networks.resnet import ResNet
from examples.cifar.networks.vgg import VGG
from frostline.errors import Offence, UsageError, nearest

RESNETS = {f"resnet{depth}{suffix}": (depth, suffix != "") for depth in (18, 34, 50) for suffix in ("", "-bireal")}
CHAINS = {"vgg7": 7, "vgg16": 16}
PRETRAINED = {f"resnet{depth}{suffix}": (depth, suffix == "") for depth in (20, 56) for suffix in ("", "-hardtanh")}
NETWORKS = (*RESNETS, "mobilenetv2", *CHAINS, *PRETRAINED)


@dataclass(frozen=True)
class Images:
    """What a network is made for: square RGB images of `size` pixels a side, in so many classes."""

    classes: int
    size: int
    mean: Sequence[float]
    std: Sequence[float]


def build(name: str, images: Images, width: float = 1.0) -> nn.Module:
    """A network with random weights, its channels multiplied by `width`. Raises UsageError for an unknown name."""
    normalise = Normalise(images.mean, images.std)
    if name in RESNETS:
        depth, every = RESNETS[name]
        return ResNet(depth, images.classes, images.size, normalise, _channels(64, width), every)
    if name in CHAINS:
        return VGG(CHAINS[name], images.classes, images.size, normalise, _channels(64, width))
    if name in PRETRAINED:
        depth, relu = PRETRAINED[name]
        return SmallResNet(depth, images.classes, Normalise(MEAN, STD), _channels(16, width), relu)
    if name == "mobilenetv2":
        return MobileNetV2(images.classes, images.size, normalise, width)
    raise UsageError(f'there is no network "{name}"', [Offence("unknown name", remedy=nearest(name, NETWORKS))])


def pretrained(name: str, images: Images, data: Path) -> nn.Module:
    """A float network with the weights of its file in the data folder. Raises UsageError where there is none."""
    net = build(name, images)
    load_pretrained(net, PRETRAINED[name][0], data)
    return net


def reads_zero_one(name: str) -> bool:
    """Whether a network has ReLU, so that its activations are never negative and want the levels 0 and 1."""
    return PRETRAINED.get(name, (0, False))[1]


def _channels(channels: int, width: float) -> int:
    return max(1, round(channels * width))
