"""The mask: entry by entry, a binary or a clipped continuous value, and the gradient of each.

`u' = M * binarize(u) + (1 - M) * clip(u)` (StoMPP, arXiv 2606.27759). With the levels -1 and 1, binarize is the sign,
and that of 0 is +1. With the levels 0 and 1, it is `round(clip(u, 0, 1))`, and 0.5 is rounded up: BiT (Liu et al.,
arXiv 2205.13016) without its learned scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from frostline.errors import Offence, UsageError
from frostline.schedules import SIGNS, Gradient, Levels, NoSurrogate


def binarize(u: Tensor, levels: Levels = SIGNS) -> Tensor:
    """The high level where u is at least halfway between the two, else the low, in the dtype of u. No gradient.

    >>> binarize(torch.tensor([-0.5, 0.0, 2.0]))
    tensor([-1.,  1.,  1.])
    >>> binarize(torch.tensor([0.25, 0.5, 2.0]), (0, 1))
    tensor([0., 1., 1.])
    """
    low, high = levels
    return torch.where(u >= threshold(levels), float(high), float(low)).to(u.dtype)


def binarize_at(x: Tensor, thresholds: Tensor, high: Tensor, levels: Levels = SIGNS) -> Tensor:
    """`high` where x is at least the threshold, else the other level. Thresholds and `high` are broadcast over x.

    Where `high` is the lower of the two levels, the value falls as x rises.

    >>> binarize_at(torch.tensor([[2.0, 2.0], [3.0, 3.0]]), torch.tensor([3.0, 3.0]), torch.tensor([1.0, -1.0]))
    tensor([[-1.,  1.],
            [ 1., -1.]])
    """
    return torch.where(x >= thresholds, high, sum(levels) - high)


def threshold(levels: Levels) -> float:
    """The smallest value that becomes the high level."""
    return sum(levels) / 2


def clip(u: Tensor, levels: Levels = SIGNS) -> Tensor:
    """u, limited to the range of the levels: the continuous side of a mask."""
    return u.clamp(*map(float, levels))


def channel_scale(weight: Tensor, axis: int) -> Tensor:
    """The mean absolute value of each channel, an axis of 1 for each other axis (XNOR-Net, arXiv 1603.05279).

    >>> channel_scale(torch.tensor([[0.5, -1.5], [2.0, 0.0]]), 0)
    tensor([[1.],
            [1.]])
    """
    others = [other for other in range(weight.dim()) if other != axis]
    return weight.detach().abs().mean(others, keepdim=True)


class Mask(nn.Module):
    """A mask over one site.

    `mask` has no batch axis and is broadcast over the site's value; True is a frozen, binary entry. It is a buffer that
    is changed in place, outside of any forward, and no part of the `state_dict`: it is a pure function of the plan and
    the step. So are `sharpness`, where a surrogate has one, and `in_tail`, where the tail has a surrogate of its own.

    `scaled` is the axis of channels by whose scale a frozen weight is multiplied, without gradient. A mask that holds
    keeps as `latent`, of the shape `hold`, what the first forward with gradients after a step read, and NaN before it.
    `name` and `where` are the site's, for messages.
    """

    mask: Tensor
    sharpness: Tensor
    in_tail: Tensor
    latent: Tensor | None

    def __init__(
        self,
        shape: tuple[int, ...],
        gradient: Gradient,
        levels: Levels = SIGNS,
        *,
        scaled: int | None = None,
        hold: tuple[int, ...] | None = None,
        device: torch.device | None = None,
        name: str = "a mask",
        where: str | None = None,
    ) -> None:
        super().__init__()
        self.gradient, self.levels, self.scaled = gradient, levels, scaled
        self.name, self.where = name, where
        latent = None if hold is None else torch.full(hold, torch.nan, device=device)
        self.register_buffer("mask", torch.zeros(shape, dtype=torch.bool, device=device), persistent=False)
        self.register_buffer("sharpness", torch.ones((), device=device), persistent=False)
        self.register_buffer("in_tail", torch.zeros((), dtype=torch.bool, device=device), persistent=False)
        self.register_buffer("latent", latent, persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        """The masked value of u, in u's shape: `[batch, *shape]` for an activation, `shape` for a weight.

        Raises UsageError where u has another shape than the mask was made for.
        """
        if not _fits(self.mask.shape, u.shape):
            raise self._misfit(u.shape)
        if self.latent is not None and torch.is_grad_enabled():
            self.latent.copy_(torch.where(self.latent.isnan(), u.detach(), self.latent))
        return torch.where(self.mask, self._frozen(u), self._turning(u))

    def _frozen(self, u: Tensor) -> Tensor:
        hard = binarize(u, self.levels)
        if self.scaled is not None:
            hard = hard * channel_scale(u, self.scaled)
        return self._with_surrogate(hard, u)

    def _turning(self, u: Tensor) -> Tensor:
        return clip(u, self.levels)

    def _with_surrogate(self, hard: Tensor, u: Tensor) -> Tensor:
        """A value without gradient, given that of the surrogate, if there is one."""
        frozen, tail = self.gradient.frozen, self.gradient.tail
        if isinstance(frozen, NoSurrogate) and (tail is None or isinstance(tail, NoSurrogate)):
            return hard
        v, size = (u, 1.0) if self.levels == SIGNS else (2 * u - 1, 0.5)
        soft: Tensor = frozen.stand_in(v, self.sharpness)
        if tail is not None:
            soft = torch.where(self.in_tail, tail.stand_in(v, self.sharpness), soft)
        return hard + (soft - soft.detach()) * size

    def _misfit(self, given: Sequence[int]) -> UsageError:
        what = f"a value of {_shown(given)} does not fit a mask of {_shown(self.mask.shape)}"
        remedy = "where height, width or token count varies, mask whole channels: `per: channel` in the spec"
        return UsageError(f"{self.name} has another shape than in the example", [Offence(what, self.where, remedy)])

    def extra_repr(self) -> str:
        return f"{list(self.mask.shape)}, frozen={self.gradient.frozen}, levels={list(self.levels)}"


class Ramp(Mask):
    """What a site that sharpens has in place of a mask: `u' = clip(v / width)`, a ramp that becomes a step.

    All entries turn alike: `width` goes from 1 to 0, and then the one entry of `mask` is True. A surrogate stands in
    for the ramp's gradient, too, as identity does in bitorch's ProgressiveSign (github.com/hpi-xnor/bitorch).
    """

    width: Tensor

    def __init__(self, gradient: Gradient, levels: Levels = SIGNS, **rest: Any) -> None:
        super().__init__((), gradient, levels, **rest)
        self.register_buffer("width", torch.ones_like(self.sharpness), persistent=False)

    def _turning(self, u: Tensor) -> Tensor:
        low, high = self.levels
        middle, half = threshold(self.levels), (high - low) / 2
        ramp = ((u - middle) / (half * self.width)).clamp(-1.0, 1.0) * half + middle
        own = isinstance(self.gradient.frozen, NoSurrogate)
        return ramp if own else self._with_surrogate(ramp.detach(), u)


def _fits(mask: Sequence[int], value: Sequence[int]) -> bool:
    """Whether a mask is broadcast over a value's own shape; the batch, in front or as an axis of 1, is free."""
    missing = len(value) - len(mask)
    return missing >= 0 and all(size == 1 or size == value[missing + axis] for axis, size in enumerate(mask))


def _shown(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a single number"
