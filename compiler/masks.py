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
from frostline.schedules import SIGNS, Clipped, Gradient, Levels, NoSurrogate

ALL = 256
"""The limit below which every noise value is."""


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
    """A mask over one site, a byte for each entry.

    `noise` has no batch axis, or one of 1, and is broadcast over the site's value. An entry is frozen, and so binary,
    where its noise, from 0 to 255, is below `limit`, one number from 0 to 256. Both are buffers that are changed in
    place, outside of any forward, and no part of the `state_dict`: they are a pure function of the plan and the step.
    So are `sharpness`, where a surrogate has one, and `in_tail`, where the tail has a surrogate of its own.

    `scaled` is the axis of channels by whose scale a frozen weight is multiplied, without gradient. A mask that holds
    keeps as `latent`, of the shape `hold`, what the first forward with gradients after a step read, and NaN before it.
    `name` and `where` are the site's, for messages.
    """

    noise: Tensor
    limit: Tensor
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
        self.register_buffer("noise", torch.zeros(shape, dtype=torch.uint8, device=device), persistent=False)
        self.register_buffer("limit", torch.zeros((), device=device), persistent=False)
        self.register_buffer("sharpness", torch.ones((), device=device), persistent=False)
        self.register_buffer("in_tail", torch.zeros((), dtype=torch.bool, device=device), persistent=False)
        self.register_buffer("latent", latent, persistent=False)

    @property
    def frozen(self) -> Tensor:
        """Which entries are frozen, in the mask's shape."""
        return self.noise < self.limit

    def freeze(self, entries: Tensor | bool) -> None:
        """Freeze these entries, and no others."""
        if isinstance(entries, bool):
            self.limit.fill_(ALL if entries else 0)
        else:
            self.noise.copy_(torch.where(entries, 0, ALL - 1))
            self.limit.fill_(1)

    def forward(self, u: Tensor) -> Tensor:
        """The masked value of u, in u's shape: `[batch, *shape]` for an activation, `shape` for a weight.

        Raises UsageError where u has another shape than the mask was made for.
        """
        if not _fits(self.noise.shape, u.shape):
            raise self._misfit(u.shape)
        if self.latent is not None and torch.is_grad_enabled():
            self.latent.copy_(torch.where(self.latent.isnan(), u.detach(), self.latent))
        scale = None if self.scaled is None else channel_scale(u, self.scaled)
        given = u, self.noise, self.limit, self._width, scale, self.sharpness, self.in_tail, self.gradient, self.levels
        masked: Tensor = _Masked.apply(*given)  # type: ignore[no-untyped-call]
        return masked

    @property
    def _width(self) -> Tensor | None:
        return None

    def _misfit(self, given: Sequence[int]) -> UsageError:
        own = self.noise.shape
        what = f"a value of {_shown(given)} does not fit a mask of {_shown(own[1:] if own[:1] == (1,) else own)}"
        remedy = "where height, width or token count varies, mask whole channels: `per: channel` in the spec"
        return UsageError(f"{self.name} has another shape than in the example", [Offence(what, self.where, remedy)])

    def extra_repr(self) -> str:
        return f"{list(self.noise.shape)}, frozen={self.gradient.frozen}, levels={list(self.levels)}"


class Ramp(Mask):
    """What a site that sharpens has in place of a mask: `u' = clip(v / width)`, a ramp that becomes a step.

    All entries turn alike: `width` goes from 1 to 0, and then the mask's one entry is frozen. A surrogate stands in
    for the ramp's gradient, too, as identity does in bitorch's ProgressiveSign (github.com/hpi-xnor/bitorch).
    """

    width: Tensor

    def __init__(self, gradient: Gradient, levels: Levels = SIGNS, **rest: Any) -> None:
        super().__init__((), gradient, levels, **rest)
        self.register_buffer("width", torch.ones_like(self.sharpness), persistent=False)

    @property
    def _width(self) -> Tensor:
        return self.width


class _Masked(torch.autograd.Function):
    """`u' = M * binarize(u) + (1 - M) * clip(u / width)`, in few passes over u, with the gradient of each side.

    The arguments are u, what a mask has for M, the width of a ramp or None, the scale of frozen entries or None, the
    sharpness, whether it is the tail, the spec's gradient and the levels; v is u on a scale where these are -1 and 1.
    What is NaN stays NaN, so that training that diverges is seen.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        u: Tensor, noise: Tensor, limit: Tensor, width: Tensor | None, scale: Tensor | None, _: Tensor, __: Tensor,
        ___: Gradient, levels: Levels,
    ) -> Tensor:  # fmt: skip
        v = _centred(u, levels)
        hard = v.sign().add_(0.5).sign_()  # that of 0 is +1
        soft = (v if width is None else v / width).clamp(-1.0, 1.0)
        if levels != SIGNS:
            hard, soft = hard.add_(1).mul_(0.5), (soft + 1) * 0.5 if width is not None else u.clamp(0.0, 1.0)
        # At its ends lerp is exact.
        return torch.lerp(soft, hard if scale is None else hard * scale, _frozen(noise, limit, u))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, noise, limit, width, _, sharpness, in_tail, ctx.gradient, ctx.levels = inputs
        ctx.save_for_backward(u, noise, limit, width, sharpness, in_tail)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (received,) = grad_outputs
        u, noise, limit, width, sharpness, in_tail = ctx.saved_tensors
        surrogate, tail = ctx.gradient.frozen, ctx.gradient.tail
        v = _centred(u, ctx.levels)
        given = _through_clip(received, v) if width is None else _through_clip(received, v / width) / width
        if tail is None and isinstance(surrogate, NoSurrogate):
            given = given * _unfrozen(noise, limit, u)
        elif tail is not None or width is not None or not isinstance(surrogate, Clipped):
            stood_in = received * surrogate.slope(v, sharpness)
            if tail is not None:
                stood_in = torch.where(in_tail, received * tail.slope(v, sharpness), stood_in)
            turning = width is not None and not isinstance(surrogate, NoSurrogate)
            given = stood_in if turning else torch.lerp(given, stood_in, _frozen(noise, limit, u))
        return given, *[None] * 8


def _frozen(noise: Tensor, limit: Tensor, u: Tensor) -> Tensor:
    """M, in the dtype of u: 1 where the noise is below the limit, else 0. Comparing bytes is slow in fused kernels."""
    return (limit - noise.to(limit.dtype)).clamp_(0.0, 1.0).to(u.dtype)


def _unfrozen(noise: Tensor, limit: Tensor, u: Tensor) -> Tensor:
    """1 - M, in one pass less."""
    return (noise.to(limit.dtype) - (limit - 1)).clamp_(0.0, 1.0).to(u.dtype)


def _centred(u: Tensor, levels: Levels) -> Tensor:
    return u if levels == SIGNS else u * 2 - 1


def _through_clip(received: Tensor, v: Tensor) -> Tensor:
    """What arrives at v through `clip(v)`, both ends included."""
    edge = 1 + torch.finfo(v.dtype).eps
    through: Tensor = torch.ops.aten.hardtanh_backward(received, v, -edge, edge)
    return through


def _fits(mask: Sequence[int], value: Sequence[int]) -> bool:
    """Whether a mask is broadcast over a value's own shape; the batch, in front or as an axis of 1, is free."""
    missing = len(value) - len(mask)
    return missing >= 0 and all(size == 1 or size == value[missing + axis] for axis, size in enumerate(mask))


def _shown(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a single number"
