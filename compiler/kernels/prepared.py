"""Sums of signs on the kernels of the device that the tensors are on, with weights that are prepared once.

What is prepared is kept for as long as the tensor of bits lives, and made anew when the bits were changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from functools import cache
from threading import Lock

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from frostline.compiler.kernels import cpu, cuda
from frostline.compiler.kernels.cpu import Product, Window
from frostline.compiler.kernels.fitting import Affine
from frostline.errors import FrostlineError

Compute = Callable[[Tensor], Tensor]

_Prepared = tuple[tuple[int, int], Compute | None]
_KEPT: MutableMapping[Tensor, dict[tuple[int, Window], _Prepared]] = WeakTensorKeyDictionary()
"""Of a tensor of bits, by inputs and window: where and which version they are, and what computes with them."""
_LOCK = Lock()


def sums(x: Tensor, bits: Tensor, inputs: int, window: Window) -> Tensor | None:
    """The product of the signs of `x` and packed weights: float32, contiguous. None where no kernel computes it.

    `x` is `[batch, channels, *pixels]`, or `[..., channels]` where the window has no axes, and `inputs` are the
    channels of one group. The first call on a device may compile its kernels.
    """
    if x.dtype != torch.float32 or x.device != bits.device or not x.numel() or not _fits(x, inputs, window):
        return None
    compute = _prepared(bits, inputs, window)
    try:
        return None if compute is None else compute(x)
    except FrostlineError:  # a window that is larger than the image, say: torch has its own words for it
        return None


def _fits(x: Tensor, inputs: int, window: Window) -> bool:
    axes, channels = len(window.kernel), inputs * window.groups
    return x.dim() == axes + 2 and x.shape[1] == channels if axes else x.dim() > 1 and x.shape[-1] == channels


def _prepared(bits: Tensor, inputs: int, window: Window) -> Compute | None:
    if bits.is_inference():  # nothing tells when it changes
        return _made(bits, inputs, window)
    state = bits.data_ptr(), bits._version
    with _LOCK:
        kept = _KEPT.setdefault(bits, {})
        if (inputs, window) not in kept or kept[inputs, window][0] != state:
            kept[inputs, window] = state, _made(bits.detach(), inputs, window)  # the key itself would live for ever
        return kept[inputs, window][1]


def _made(bits: Tensor, inputs: int, window: Window) -> Compute | None:
    try:
        if not _usable(bits.device):
            return None
        return Product(bits, inputs, window).floats if bits.device.type == "cpu" else on_cuda(bits, inputs, window)
    except FrostlineError:
        return None


@cache
def _usable(device: torch.device) -> bool:
    """Whether there are kernels for a device, and what builds them. Found out once, by packing a number."""
    if device.type not in ("cpu", "cuda"):
        return False
    try:
        (cpu if device.type == "cpu" else cuda).pack(torch.zeros(1, 1, device=device))
    except FrostlineError:
        return False
    return True


def on_cuda(bits: Tensor, inputs: int, window: Window) -> Compute | None:
    """What computes with bits on a GPU; None for convolutions in one and three dimensions."""
    if len(window.kernel) not in (0, 2):
        return None
    corrected = cuda.corrections(bits if window.kernel else bits[:, None, None], inputs)

    def conv(x: Tensor) -> Tensor:
        sliding = (window.strides, window.pads, window.dilations, window.groups)
        return cuda.conv(cuda.pack(x), bits, inputs, *sliding, Affine(), corrected=corrected).contiguous()

    def linear(x: Tensor) -> Tensor:
        rows = cuda.pack(x.flatten(0, -2))
        result = cuda.linear(rows, bits, inputs, Affine(), corrected=corrected)
        return result.reshape(*x.shape[:-1], len(bits)).contiguous()

    return conv if window.kernel else linear
