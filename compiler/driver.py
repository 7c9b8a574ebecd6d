"""The driver: it shows the plan to the masks, step by step. The only file with effects in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frostline.compiler.masks import ALL, Mask, Ramp
from frostline.compiler.plan import Plan, Turn
from frostline.compiler.ranks import beside
from frostline.errors import UsageError

_STEEPEST = 1e-3
"""The narrowest ramp before it is a step; its gradient, where no surrogate stands in, is 1,000."""

_AT_ITS_START: dict[str, Any] = {
    "bit_generator": "Philox",
    "buffer": [0] * 4,
    "buffer_pos": 4,
    "has_uint32": 0,
    "uinteger": 0,
}


class Driver:
    """Turns masks as a plan says. The masks are a pure function of the plan and the step.

    Every entry of a turning site has a noise value, one of 256, and is binary where that is below the fraction of 256.
    In every step one of `refresh` parts of the noise, as many entries after one another, is drawn anew, from a
    generator keyed by seed, site and step. So every rank of a distributed run has the same masks, and `resume` is exact
    to the bit. Nothing waits for the device, and a site that does not turn costs nothing.

    `weights` give the parameters of the sites whose masks hold: what an optimizer does to frozen entries is undone.
    """

    def __init__(
        self, plan: Plan, masks: Mapping[str, Mask], weights: Mapping[str, Callable[[], Tensor]] | None = None
    ) -> None:
        self.plan = plan
        self.masks = dict(masks)
        self._turns = plan.turns
        self._changing = [turn for turn in plan.turns if turn.gradient.changes]
        self._weights = dict(weights or {})
        self._generator = np.random.Philox()
        self._written: dict[tuple[str, str], float] = {}
        self._binarized = 0
        self._step = 0
        self.resume(0)

    @property
    def step(self) -> int:
        """The number of optimizer steps that are done; the masks are those of the next forward."""
        return self._step

    def advance(self) -> None:
        """One optimizer step is done: set the masks for the next forward."""
        self._hold()
        self._step += 1
        for turn in self._turns:
            if turn.start <= self._step <= turn.stop:
                self._draw(turn)
                self._show(turn)
        self._show_surrogates()

    def resume(self, step: int) -> None:
        """Set the masks for the forward of any step, as if it had been reached by advancing."""
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise UsageError(f"a step is a whole number from 0 on, not {step!r}")
        self._step = step
        self._written.clear()
        for turn in self._turns:
            self._draw(turn, every=True)
            self._show(turn)
        self._show_surrogates()
        for mask in self.masks.values():
            if mask.latent is not None:
                mask.latent.fill_(torch.nan)

    @contextmanager
    def binarized(self) -> Iterator[None]:
        """Within this context every site is fully binary; afterwards the masks are what they were."""
        self._binarized += 1
        try:
            for turn in self._turns:
                self._write(turn.site.name, "limit", ALL)
            yield
        finally:
            self._binarized -= 1
            if not self._binarized:
                for turn in self._turns:
                    self._show(turn)

    def _show(self, turn: Turn) -> None:
        name, fraction = turn.site.name, turn.fraction(self._step)
        limit = ALL if fraction == 1 else min(round(ALL * fraction), ALL - 1)
        if isinstance(self.masks[name], Ramp):
            self._write(name, "width", max(1 - fraction, _STEEPEST))
            limit = ALL if fraction == 1 else 0
        self._write(name, "limit", limit)

    def _show_surrogates(self) -> None:
        in_tail, done = self._step >= self.plan.settled_at, min(self._step / self.plan.total_steps, 1.0)
        for turn in self._changing:
            gradient = turn.gradient
            surrogate = gradient.tail if in_tail and gradient.tail is not None else gradient.frozen
            sharpness = surrogate.sharpness_at(done)
            self._write(turn.site.name, "in_tail", in_tail and gradient.tail is not None)
            self._write(turn.site.name, "sharpness", 1.0 if sharpness is None else sharpness)

    def _write(self, name: str, buffer: str, value: float) -> None:
        """Set a mask's buffer of one number, unless it is set."""
        if self._written.get((name, buffer)) != value:
            getattr(self.masks[name], buffer).fill_(value)
            self._written[name, buffer] = value

    def _draw(self, turn: Turn, every: bool = False) -> None:
        """Draw the noise of a turn that is due in this step, or every part of it as it was last drawn."""
        step, noise = self._step, self.masks[turn.site.name].noise
        if turn.transition != "mask" or not turn.start <= step < turn.stop:
            if every or step == turn.stop:
                noise.zero_()
            return
        if every or step == turn.start:
            _put(noise, 0, self._drawn(turn, turn.start, noise.numel()))
        if turn.refresh is None:
            return
        size = -(-noise.numel() // turn.refresh)
        first = max(step - turn.refresh if every else step - 1, turn.start)
        for drawn in range(first + 1, step + 1):
            begin = drawn % turn.refresh * size
            if (count := min(size, noise.numel() - begin)) > 0:
                _put(noise, begin, self._drawn(turn, drawn, count))

    def _drawn(self, turn: Turn, step: int, count: int) -> Tensor:
        """Bytes, the same on every machine."""
        key = blake2b(f"{self.plan.spec.seed}/{turn.site.name}/{step}".encode(), digest_size=16).digest()
        # Ten times as fast as a generator of its own for each draw.
        started: Any = {**_AT_ITS_START, "state": {"counter": [0] * 4, "key": np.frombuffer(key, "<u8")}}
        self._generator.state = started
        raw = self._generator.random_raw(-(-count // 8))
        return torch.from_numpy(raw.astype("<u8", copy=False).view(np.uint8)[:count])

    @torch.no_grad()
    def _hold(self) -> None:
        """Give the entries that were frozen in the step that is done the values that its forward read, if one did."""
        for name, held in self._weights.items():
            mask, weight = self.masks[name], held()
            if mask.latent is not None:
                with beside(weight):
                    weight.copy_(torch.where(mask.frozen & ~mask.latent.isnan(), mask.latent, weight))
                mask.latent.fill_(torch.nan)


def _put(noise: Tensor, begin: int, values: Tensor) -> None:
    """Write entries of the noise, counted in the order of its axes however it lies in memory, without waiting."""
    count = values.numel()
    if noise.is_cuda:
        values = values.pin_memory()
    if noise.is_contiguous():
        noise.view(-1).narrow(0, begin, count).copy_(values, non_blocking=True)
    elif count == noise.numel():
        noise.copy_(values.view(noise.shape), non_blocking=True)
    else:
        axis = 0 if noise.shape[0] > 1 else 1
        each = noise.numel() // noise.shape[axis]
        first, last = begin // each, -(-(begin + count) // each)
        rows = noise.narrow(axis, first, last - first)
        block = rows.contiguous()
        block.view(-1).narrow(0, begin - first * each, count).copy_(values, non_blocking=True)
        rows.copy_(block)
