"""What may follow a sum of signs, and whether the operands of a packed operation fit together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from frostline.compiler.bits import words
from frostline.errors import Offence

_MOST_TAPS = 2**15 - 1
_MOST_ROWS = 2**31 - 2**8


@dataclass(frozen=True)
class Affine:
    """`sum * scale + shift + residual`, in float32 and rounded after each step; what is None is left out.

    `scale` and `shift` are float32 `[outputs]`; `residual` has the result's shape and type. `dtype` is float32 or
    float16.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    residual: Tensor | None = None
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Threshold:
    """The bit `(sum >= at) != flip`: `at` is int32 `[outputs]`, `flip` bool `[outputs]`."""

    at: Tensor
    flip: Tensor | None = None


def misfits(
    x: Tensor,
    weights: Tensor,
    inputs: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> Iterator[Offence]:
    """What is wrong with the operands of a convolution."""
    if x.dtype != torch.uint8 or weights.dtype != torch.uint8:
        yield Offence(f"the bits are {x.dtype} and {weights.dtype}", remedy="give uint8, as pack() makes them")
    if x.device != weights.device:
        yield Offence(f"the activations are on {x.device}, the weights on {weights.device}")
    if x.dim() != 4 or weights.dim() != 4:
        yield Offence(f"activations and weights have {x.dim()} and {weights.dim()} dimensions", remedy="give four")
        return
    if (len(strides), len(pads), len(dilations)) != (2, 4, 2):
        yield Offence("strides, pads and dilations are not two, four and two numbers")
        return
    if min(*strides, *dilations, inputs, group) < 1 or min(pads) < 0:
        yield Offence("strides, dilations, inputs and group are at least 1, pads at least 0")
        return
    for name, tensor, channels in (("activations", x, inputs * group), ("weights", weights, inputs)):
        if tensor.shape[-1] != words(channels) * 4:
            what = f"{name} of {channels} channels have {words(channels) * 4} bytes a pixel, not {tensor.shape[-1]}"
            yield Offence(what)
    if weights.shape[0] % group:
        yield Offence(f"{weights.shape[0]} outputs do not divide into {group} groups")
    if not 0 < min(weights.shape[1:3]) <= max(weights.shape[1:3]) <= _MOST_TAPS:
        yield Offence(f"a kernel of {tuple(weights.shape[1:3])} taps", remedy=f"use from 1 to {_MOST_TAPS:,}")


def misfits_after(
    then: Affine | Threshold | None,
    corrected: Tensor | None,
    kernel: tuple[int, ...],
    shape: tuple[int, int, int, int],
    device: torch.device,
) -> Iterator[Offence]:
    """What is wrong with a result of `shape`, `[N, outputs, height, width]`, or with what makes it of sums."""
    if min(shape[2:]) < 1:
        yield Offence("the window is larger than the padded image")
        return
    if shape[0] * shape[2] * shape[3] > _MOST_ROWS:
        yield Offence(f"the result has more than {_MOST_ROWS:,} pixels", remedy="give fewer images at once")
    outputs = (shape[1],)
    corners = (kernel[0] + 1, kernel[1] + 1, shape[1])
    expected: list[tuple[str, Tensor | None, torch.dtype, tuple[int, ...]]] = []
    expected += [("corrected", corrected, torch.int32, corners)]
    if isinstance(then, Threshold):
        expected += [("at", then.at, torch.int32, outputs), ("flip", then.flip, torch.bool, outputs)]
    elif then is not None:
        if then.dtype not in (torch.float32, torch.float16):
            yield Offence(f"the result would be {then.dtype}", remedy="ask for float32 or float16")
        expected += [("scale", then.scale, torch.float32, outputs), ("shift", then.shift, torch.float32, outputs)]
        expected += [("residual", then.residual, then.dtype, shape)]
    for name, tensor, dtype, wanted in expected:
        if tensor is not None and (tensor.dtype != dtype or tensor.shape != wanted or tensor.device != device):
            found = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
            yield Offence(f"{name} is {found}", remedy=f"give {dtype} {wanted} on {device}")
