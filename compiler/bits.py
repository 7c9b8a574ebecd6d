"""One bit a weight: `[outputs, inputs, *kernel]` of +1 and -1, packed along the inputs.

A set bit is +1. Bytes are little-endian along the inputs, which are padded with clear bits to a multiple of 32, so the
packed shape is `[outputs, *kernel, ceil(inputs / 32) * 4]`. Where groups leave a weight few inputs, that would be
mostly padding: all of it is one row then, `[1, ceil(entries / 32) * 4]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_WORD = 32
_FEW = 16
"""With fewer inputs padding more than doubles the bits, and operations on floats are the faster ones."""


def words(channels: int) -> int:
    """How many words of 32 bits hold so many channels.

    >>> words(32), words(33)
    (1, 2)
    """
    return -(-channels // _WORD)


def pack(signs: Tensor) -> Tensor:
    """The bits of a tensor of signs, uint8; entries >= 0 count as +1.

    >>> pack(torch.tensor([[1.0, -1.0, 1.0]])).tolist()
    [[5, 0, 0, 0]]
    """
    bits = (signs >= 0).movedim(1, -1).to(torch.uint8)
    padded = functional.pad(bits, (0, -bits.shape[-1] % _WORD))
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device=signs.device)
    octets = padded.reshape(*padded.shape[:-1], padded.shape[-1] // 8, 8)
    return (octets * weights).sum(-1, dtype=torch.uint8)


def unpack(bits: Tensor, inputs: int) -> Tensor:
    """The signs of packed bits, float32 of shape `[outputs, inputs, *kernel]`.

    >>> unpack(torch.tensor([[5, 0, 0, 0]], dtype=torch.uint8), 3)
    tensor([[ 1., -1.,  1.]])
    """
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    signs = (bits.unsqueeze(-1) >> places & 1).flatten(-2)[..., :inputs].movedim(-1, 1).contiguous()
    return signs.to(torch.float32) * 2 - 1


def is_narrow(shape: Sequence[int], groups: int) -> bool:
    """Whether a convolution's weight is packed as one row.

    >>> is_narrow((64, 1, 3, 3), groups=64), is_narrow((64, 1, 3, 3), groups=1)
    (True, False)
    """
    return groups > 1 and shape[1] < _FEW


def pack_row(signs: Tensor) -> Tensor:
    """The bits of a tensor of signs as one row.

    >>> pack_row(torch.tensor([[1.0], [-1.0], [1.0]])).tolist()
    [[5, 0, 0, 0]]
    """
    return pack(signs.reshape(1, -1))


def unpack_row(bits: Tensor, shape: Sequence[int]) -> Tensor:
    """The signs of one row, float32 of the shape that they had."""
    return unpack(bits, math.prod(shape)).reshape(tuple(shape))
