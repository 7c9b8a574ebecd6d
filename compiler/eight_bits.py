"""Eight bits a weight: whole numbers from -127 to 127, and one float32 scale a channel that they are multiplied by."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

_LARGEST = 127


def round_off(weight: Tensor, channels: Collection[int]) -> tuple[Tensor, Tensor]:
    """The bytes and scales of finite weights; `channels` are the axes along which scales differ.

    >>> bytes, scale = round_off(torch.tensor([[1.0, -0.5], [0.0, 0.0]]), [0])
    >>> bytes.tolist(), scale.shape
    ([[127, -64], [0, 0]], torch.Size([2, 1]))
    """
    summed = [axis for axis in range(weight.dim()) if axis not in channels]
    largest = weight.abs().amax(summed, keepdim=True) if summed else weight.abs()
    scale = largest / _LARGEST
    scale = torch.where(scale == 0, 1, scale)  # of zeros, and of what is too small to be divided
    return (weight / scale).round().clamp(-_LARGEST, _LARGEST).to(torch.int8), scale


def widen(bytes: Tensor, scale: Tensor) -> Tensor:
    """The float32 weights that bytes and their scales stand for, rounded the same in every runtime."""
    return bytes.to(torch.float32) * scale
