"""The driver: it shows the plan to the masks, step by step. The only file with effects in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b

import torch
from torch import Tensor

from frostline.compiler.masks import Mask, Ramp
from frostline.compiler.plan import Plan, Turn
from frostline.compiler.ranks import beside
from frostline.errors import UsageError

_STEEPEST = 1e-3
"""The narrowest ramp before it is a step; its gradient, where no surrogate stands in, is 1,000."""


class Driver:
    """Turns masks as a plan says. The masks are a pure function of the plan and the step.

    Every entry of a turning site has a noise value in [0, 1), and is binary where `noise < fraction`. In every step
    one of `refresh` interleaved parts of the noise is drawn anew, from a generator keyed by seed, site and step. So
    every rank of a distributed run has the same masks, and `resume` is exact to the bit.

    `weights` give the parameters of the sites whose masks hold: what an optimizer does to frozen entries is undone.
    """

    def __init__(
        self, plan: Plan, masks: Mapping[str, Mask], weights: Mapping[str, Callable[[], Tensor]] | None = None
    ) -> None:
        self.plan = plan
        self.masks = dict(masks)
        self._changing = [turn for turn in plan.turns if turn.gradient.changes]
        self._weights = dict(weights or {})
        self._noise: dict[str, Tensor] = {}
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
        for turn in self.plan.turns:
            if turn.start <= self._step <= turn.stop:
                self._turn(turn, redraw=self._step == turn.start)
        self._show_surrogates()

    def resume(self, step: int) -> None:
        """Set the masks for the forward of any step, as if it had been reached by advancing."""
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise UsageError(f"a step is a whole number from 0 on, not {step!r}")
        self._step = step
        self._noise.clear()
        for turn in self.plan.turns:
            self._turn(turn, redraw=True)
        self._show_surrogates()
        for mask in self.masks.values():
            if mask.latent is not None:
                mask.latent.fill_(torch.nan)

    @contextmanager
    def binarized(self) -> Iterator[None]:
        """Within this context every site is fully binary; afterwards the masks are what they were."""
        self._binarized += 1
        try:
            for turn in self.plan.turns:
                self.masks[turn.site.name].mask.fill_(True)
            yield
        finally:
            self._binarized -= 1
            if not self._binarized:
                for turn in self.plan.turns:
                    self._show(turn)

    def _turn(self, turn: Turn, redraw: bool) -> None:
        name, step = turn.site.name, self._step
        if turn.start <= step < turn.stop and turn.transition == "mask":
            if redraw:
                self._noise[name] = self._whole_noise(turn, step)
            elif turn.refresh is not None:
                part = step % turn.refresh
                flat = self._noise[name].view(-1)
                flat[part :: turn.refresh] = self._draw(turn, step, len(flat[part :: turn.refresh])).to(flat.device)
        else:
            self._noise.pop(name, None)
        self._show(turn)

    def _show(self, turn: Turn) -> None:
        shown = self.masks[turn.site.name]
        fraction = turn.fraction(self._step)
        if isinstance(shown, Ramp):
            shown.width.fill_(max(1 - fraction, _STEEPEST))
        mask = shown.mask
        noise = self._noise.get(turn.site.name)
        if noise is None:
            mask.fill_(fraction == 1)
            return
        if noise.device != mask.device:
            noise = self._noise[turn.site.name] = noise.to(mask.device)
        torch.lt(noise, fraction, out=mask)

    def _show_surrogates(self) -> None:
        in_tail, done = self._step >= self.plan.settled_at, min(self._step / self.plan.total_steps, 1.0)
        for turn in self._changing:
            mask, gradient = self.masks[turn.site.name], turn.gradient
            surrogate = gradient.tail if in_tail and gradient.tail is not None else gradient.frozen
            sharpness = surrogate.sharpness_at(done)
            mask.in_tail.fill_(in_tail and gradient.tail is not None)
            mask.sharpness.fill_(1.0 if sharpness is None else sharpness)

    @torch.no_grad()
    def _hold(self) -> None:
        """Give the entries that were frozen in the step that is done the values that its forward read, if one did."""
        for name, held in self._weights.items():
            mask, weight = self.masks[name], held()
            if mask.latent is not None:
                with beside(weight):
                    weight.copy_(torch.where(mask.mask & ~mask.latent.isnan(), mask.latent, weight))
                mask.latent.fill_(torch.nan)

    def _whole_noise(self, turn: Turn, step: int) -> Tensor:
        """The noise of a step: each part as it was last drawn, in one of the `refresh` steps up to this one."""
        noise = torch.empty(turn.shape, dtype=torch.float32, device="cpu")
        flat = noise.view(-1)
        if turn.refresh is None:
            flat.copy_(self._draw(turn, turn.start, len(flat)))
        else:
            for part in range(min(turn.refresh, len(flat))):
                drawn = step - (step - part) % turn.refresh
                flat[part :: turn.refresh] = self._draw(turn, drawn, len(flat[part :: turn.refresh]))
        return noise.to(self.masks[turn.site.name].mask.device)

    def _draw(self, turn: Turn, step: int, count: int) -> Tensor:
        """Uniform noise in [0, 1) on the CPU, the same on every machine."""
        key = blake2b(f"{self.plan.spec.seed}/{turn.site.name}/{step}".encode(), digest_size=8).digest()
        generator = torch.Generator("cpu").manual_seed(int.from_bytes(key, "big") >> 1)
        return torch.rand(count, generator=generator, dtype=torch.float32, device="cpu")
