"""The binary operations as torch operators: an exporter and a compiler carry them through as what they are.

Products of signs run on the kernels where there are some; all others, and where nothing builds the kernels, on the
unpacked weights. Tracing with fake tensors asks for shapes alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from frostline.compiler import bits as packing
from frostline.compiler import masks
from frostline.compiler.kernels import prepared
from frostline.compiler.kernels.cpu import Window
from frostline.schedules import ZERO_ONE

_CONVOLUTIONS = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


@torch.library.custom_op("frostline::binarize", mutates_args=())
def binarize(x: Tensor, site: str) -> Tensor:
    """The signs of an activation."""
    return masks.binarize(x)


@torch.library.custom_op("frostline::binarize_zero_one", mutates_args=())
def binarize_zero_one(x: Tensor, site: str) -> Tensor:
    """An activation as 0 and 1."""
    return masks.binarize(x, ZERO_ONE)


@torch.library.custom_op("frostline::binarize_at", mutates_args=())
def binarize_at(x: Tensor, thresholds: Tensor, high: Tensor, site: str) -> Tensor:
    """Integers as signs: `high` from their channel's threshold on."""
    return masks.binarize_at(x, thresholds, high)


@torch.library.custom_op("frostline::binarize_zero_one_at", mutates_args=())
def binarize_zero_one_at(x: Tensor, thresholds: Tensor, high: Tensor, site: str) -> Tensor:
    """Integers as 0 and 1: `high` from their channel's threshold on."""
    return masks.binarize_at(x, thresholds, high, ZERO_ONE)


@torch.library.custom_op("frostline::binary_linear", mutates_args=())
def binary_linear(x: Tensor, bits: Tensor, inputs: int, operand: str, site: str) -> Tensor:
    """The product of an activation `[..., inputs]` and packed weights."""
    sums = prepared.sums(x, bits, inputs, Window()) if operand == "signs" else None
    return torch.nn.functional.linear(x, packing.unpack(bits, inputs)) if sums is None else sums


@torch.library.custom_op("frostline::binary_conv", mutates_args=())
def binary_conv(
    x: Tensor,
    bits: Tensor,
    inputs: int,
    kernel_shape: list[int],
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    group: int,
    operand: str,
    site: str,
) -> Tensor:
    """The convolution of an activation with packed weights; `pads` as ONNX has them, all begins before all ends."""
    window = Window(tuple(kernel_shape), tuple(strides), tuple(pads), tuple(dilations), group)
    sums = prepared.sums(x, bits, inputs, window) if operand == "signs" else None
    return _convolved(x, packing.unpack(bits, inputs), window) if sums is None else sums


@torch.library.custom_op("frostline::binary_narrow_conv", mutates_args=())
def binary_narrow_conv(
    x: Tensor,
    bits: Tensor,
    inputs: int,
    shape: list[int],
    kernel_shape: list[int],
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    group: int,
    operand: str,
    site: str,
) -> Tensor:
    """The convolution of an activation with weights of `shape` that are packed as one row, `inputs` signs in all."""
    window = Window(tuple(kernel_shape), tuple(strides), tuple(pads), tuple(dilations), group)
    return _convolved(x, packing.unpack_row(bits, shape), window)


def _convolved(x: Tensor, weight: Tensor, window: Window) -> Tensor:
    spatial = len(window.kernel)
    before, after = window.pads[:spatial], window.pads[spatial:]
    padded = torch.nn.functional.pad(x, [p for pair in zip(before[::-1], after[::-1], strict=True) for p in pair])
    result = _CONVOLUTIONS[spatial](padded, weight, None, window.strides, 0, window.dilations, window.groups)
    return result.contiguous()  # as the fake one is, and the kernels' own


@torch.library.custom_op("frostline::unpack", mutates_args=())
def unpack(bits: Tensor, inputs: int, shape: list[int], site: str) -> Tensor:
    """The signs of a packed weight, for an operation that is computed in float."""
    return packing.unpack(bits, inputs).reshape(shape)


@unpack.register_fake
def _(bits: Tensor, inputs: int, shape: list[int], site: str) -> Tensor:
    return bits.new_empty(shape, dtype=torch.float32)


@binarize.register_fake
@binarize_zero_one.register_fake
def _(x: Tensor, site: str) -> Tensor:
    return torch.empty_like(x)


@binarize_at.register_fake
@binarize_zero_one_at.register_fake
def _(x: Tensor, thresholds: Tensor, high: Tensor, site: str) -> Tensor:
    return torch.empty_like(x)


@binary_linear.register_fake
def _(x: Tensor, bits: Tensor, inputs: int, operand: str, site: str) -> Tensor:
    return x.new_empty((*x.shape[:-1], bits.shape[0]))


@binary_conv.register_fake
def _(x: Tensor, bits: Tensor, inputs: int, *window: Any) -> Tensor:
    return x.new_empty((x.shape[0], bits.shape[0], *_sizes(x, *window[:4])))


@binary_narrow_conv.register_fake
def _(x: Tensor, bits: Tensor, inputs: int, shape: list[int], *window: Any) -> Tensor:
    return x.new_empty((x.shape[0], shape[0], *_sizes(x, *window[:4])))


def _sizes(x: Tensor, kernel: list[int], strides: list[int], pads: list[int], dilations: list[int]) -> list[int]:
    """The places that a window has along each axis."""
    spatial = len(kernel)
    return [
        (x.shape[2 + i] + pads[i] + pads[spatial + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i in range(spatial)
    ]
