"""The mask: entry by entry, a binary or a clipped continuous value, and the gradient of each.

`u' = M * sign(u) + (1 - M) * clip(u)` (StoMPP, arXiv 2606.27759), with sign(0) = +1 and clip to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from frostline.schedules import Surrogate


def binarize(u: Tensor) -> Tensor:
    """+1 where u >= 0, else -1, in the dtype of u. Its gradient is zero.

    >>> binarize(torch.tensor([-0.5, 0.0, 2.0]))
    tensor([-1.,  1.,  1.])
    """
    return torch.where(u >= 0, 1.0, -1.0).to(u.dtype)


def clip(u: Tensor) -> Tensor:
    """u, limited to [-1, 1]: the continuous side of a mask."""
    return u.clamp(-1.0, 1.0)


def _identity(u: Tensor) -> Tensor:
    return u


SURROGATES: dict[Surrogate, Callable[[Tensor], Tensor] | None] = {"none": None, "identity": _identity, "clipped": clip}
"""For each gradient of frozen entries, the function whose gradient stands in for that of sign; None stops it."""


class Mask(nn.Module):
    """A mask over one site.

    `mask` has the site's shape and no batch axis; True is a frozen, binary entry. It is a buffer that is changed in
    place, outside of any forward, and no part of the `state_dict`: it is a pure function of the plan and the step.
    """

    mask: Tensor

    def __init__(self, shape: tuple[int, ...], frozen: Surrogate, device: torch.device | None = None) -> None:
        super().__init__()
        self.frozen: Surrogate = frozen
        self.register_buffer("mask", torch.zeros(shape, dtype=torch.bool, device=device), persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        """The masked value of u, in u's shape: `[batch, *shape]` for an activation, `shape` for a weight."""
        surrogate = SURROGATES[self.frozen]
        hard = binarize(u)
        if surrogate is not None:
            soft = surrogate(u)
            hard = hard + (soft - soft.detach())
        return torch.where(self.mask, hard, clip(u))

    def extra_repr(self) -> str:
        return f"{list(self.mask.shape)}, frozen={self.frozen}"
