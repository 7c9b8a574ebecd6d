"""ResNet-20 and -56 for CIFAR-10 as He et al. made them, for which pretrained float weights are at hand.

Shortcuts of option A: every second pixel, and zeros for new channels, so there is no convolution in a shortcut. With
ReLU it is the network that was trained; a binary convolution then reads what is never negative, and wants the levels 0
and 1. With Hardtanh it starts from the same weights, no longer as accurate, and reads signs.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.cifar.networks.parts import convolution
from frostline.errors import Offence, UsageError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""The normalisation that the pretrained weights were trained with."""


class Block(nn.Module):
    """Two 3x3 convolutions, and a shortcut around both that is clipped with them."""

    def __init__(self, inputs: int, outputs: int, act: nn.Module) -> None:
        super().__init__()
        self.stride, before = outputs // inputs, (outputs - inputs) // 2
        self.zeros = (before, outputs - inputs - before)
        self.conv1, self.bn1 = convolution(inputs, outputs, 3, self.stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = convolution(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.zeros))
        return self.act(y + x)


class SmallResNet(nn.Module):
    """Images `[n, 3, 32, 32]` in 0..1 to `[n, classes]`, in stages of 16, 32 and 64 channels for `width` 16."""

    def __init__(self, depth: int, classes: int, normalise: nn.Module, width: int = 16, relu: bool = True) -> None:
        super().__init__()
        self.act = nn.ReLU() if relu else nn.Hardtanh()
        self.normalise = normalise
        self.conv1, self.bn1 = convolution(3, width, 3), nn.BatchNorm2d(width)
        count = (depth - 2) // 6
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                *(Block(width << max(stage - (not index), 0), width << stage, self.act) for index in range(count))
            )
            for stage in range(3)
        )
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(self.normalise(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def load_pretrained(net: nn.Module, depth: int, data: Path) -> None:
    """Give a `SmallResNet` the weights of `resnet{depth}-cifar10.npz` in the data folder.

    Raises UsageError when the file is missing or damaged, or the network has other shapes.
    """
    path = data / f"resnet{depth}-cifar10.npz"
    try:
        with np.load(path) as arrays:
            state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        missing, unexpected = net.load_state_dict(state, strict=False)
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError) as error:
        remedy = "pretrained weights are for CIFAR-10 at width 1; --data names the folder of their files"
        raise UsageError(f"cannot start from {path}", [Offence(str(error), remedy=remedy)]) from error
    absent = [name for name in missing if "normalise" not in name and "num_batches_tracked" not in name]
    if absent or unexpected:
        raise UsageError(f"{path} holds other weights than ResNet-{depth}'s", map(Offence, [*absent, *unexpected]))
