"""One bit a weight: `[outputs, inputs, *kernel]` of +1 and -1, packed along the inputs.

A set bit is +1. Bytes are little-endian along the inputs, which are padded with clear bits to a multiple of 32, so the
packed shape is `[outputs, *kernel, ceil(inputs / 32) * 4]`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_WORD = 32


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
