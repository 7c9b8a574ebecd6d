"""The mask: entry by entry, a binary or a clipped continuous value, and the gradient of each.

`u' = M * binarize(u) + (1 - M) * clip(u)` (StoMPP, arXiv 2606.27759). With the levels -1 and 1, binarize is the sign,
and that of 0 is +1. With the levels 0 and 1, it is `round(clip(u, 0, 1))`, and 0.5 is rounded up: BiT (Liu et al.,
arXiv 2205.13016) without its learned scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from frostline.errors import Offence, UsageError
from frostline.schedules import SIGNS, Levels, Surrogate


def binarize(u: Tensor, levels: Levels = SIGNS) -> Tensor:
    """The high level where u is at least halfway between the two, else the low, in the dtype of u. No gradient.

    >>> binarize(torch.tensor([-0.5, 0.0, 2.0]))
    tensor([-1.,  1.,  1.])
    >>> binarize(torch.tensor([0.25, 0.5, 2.0]), (0, 1))
    tensor([0., 1., 1.])
    """
    low, high = levels
    return torch.where(u >= threshold(levels), float(high), float(low)).to(u.dtype)


def threshold(levels: Levels) -> float:
    """The smallest value that becomes the high level."""
    return sum(levels) / 2


def clip(u: Tensor, levels: Levels = SIGNS) -> Tensor:
    """u, limited to the range of the levels: the continuous side of a mask."""
    return u.clamp(*map(float, levels))


def _identity(u: Tensor, levels: Levels) -> Tensor:
    return u


SURROGATES: dict[Surrogate, Callable[[Tensor, Levels], Tensor] | None] = {
    "none": None,
    "identity": _identity,
    "clipped": clip,
}
"""For each gradient of frozen entries, the function whose gradient stands in for binarize's; None stops it."""


class Mask(nn.Module):
    """A mask over one site.

    `mask` has no batch axis and is broadcast over the site's value; True is a frozen, binary entry. It is a buffer that
    is changed in place, outside of any forward, and no part of the `state_dict`: it is a pure function of the plan and
    the step. `name` and `where` are the site's, for messages.
    """

    mask: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        frozen: Surrogate,
        levels: Levels = SIGNS,
        device: torch.device | None = None,
        name: str = "a mask",
        where: str | None = None,
    ) -> None:
        super().__init__()
        self.frozen: Surrogate = frozen
        self.levels: Levels = levels
        self.name, self.where = name, where
        self.register_buffer("mask", torch.zeros(shape, dtype=torch.bool, device=device), persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        """The masked value of u, in u's shape: `[batch, *shape]` for an activation, `shape` for a weight.

        Raises UsageError where u has another shape than the mask was made for.
        """
        if not _fits(self.mask.shape, u.shape):
            raise self._misfit(u.shape)
        surrogate = SURROGATES[self.frozen]
        hard = binarize(u, self.levels)
        if surrogate is not None:
            soft = surrogate(u, self.levels)
            hard = hard + (soft - soft.detach())
        return torch.where(self.mask, hard, clip(u, self.levels))

    def _misfit(self, given: Sequence[int]) -> UsageError:
        what = f"a value of {_shown(given)} does not fit a mask of {_shown(self.mask.shape)}"
        remedy = "where height, width or token count varies, mask whole channels: `per: channel` in the spec"
        return UsageError(f"{self.name} has another shape than in the example", [Offence(what, self.where, remedy)])

    def extra_repr(self) -> str:
        return f"{list(self.mask.shape)}, frozen={self.frozen}, levels={list(self.levels)}"


def _fits(mask: Sequence[int], value: Sequence[int]) -> bool:
    """Whether a mask is broadcast over a value's own shape; the batch, in front or as an axis of 1, is free."""
    missing = len(value) - len(mask)
    return missing >= 0 and all(size == 1 or size == value[missing + axis] for axis, size in enumerate(mask))


def _shown(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a single number"
