"""Random signs, and what a float convolution makes of them."""

from __future__ import annotations

import torch
from torch import Tensor

from frostline.compiler.kernels.cpu import Window

CONVOLUTIONS = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


def signs(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).float() * 2 - 1


def expected(x: Tensor, weight: Tensor, window: Window) -> Tensor:
    axes = len(window.kernel)
    before, after = window.pads[:axes], window.pads[axes:]
    padded = torch.nn.functional.pad(x, [p for pair in zip(before[::-1], after[::-1], strict=True) for p in pair])
    convolve = CONVOLUTIONS[axes]
    return convolve(padded, weight, None, window.strides, 0, window.dilations, window.groups)
