"""Losses and weights that are no longer finite: in which step it began, and what was turning then."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from frostline.compiler.plan import Plan


class FirstBad:
    """The first step whose loss was not finite, or that left weights behind that are not.

    It stays on the device, so that looking at every step costs no synchronisation; `found()` costs one.
    """

    def __init__(self, device: torch.device) -> None:
        self._step = torch.full((), -1, dtype=torch.int64, device=device)
        self._loss = torch.zeros((), device=device)

    def see(self, step: int, loss: Tensor, weights: Iterable[Tensor]) -> None:
        """Look at the loss of a step, and at the weights after it: a mask hides from the loss what is infinite."""
        largest = torch.nn.utils.get_total_norm([one for one in weights if one.requires_grad], math.inf)
        loss, largest = (one.to(self._step.device) for one in (loss, largest))
        new = ~(torch.isfinite(loss) & torch.isfinite(largest)) & (self._step < 0)
        self._step.masked_fill_(new, step)
        self._loss = torch.where(new, loss, self._loss)

    def found(self) -> tuple[int, float] | None:
        """The first bad step with its loss, which may be finite, if there was one."""
        step = int(self._step)
        return None if step < 0 else (step, float(self._loss))

    def told(self, plan: Plan | None) -> str | None:
        """What was not finite, in which step, and what was turning then; None if all was. A float run has no plan."""
        found = self.found()
        if found is None:
            return None
        step, loss = found
        what = (
            f"weights that are not finite after step {step}" if math.isfinite(loss) else f"loss {loss} at step {step}"
        )
        return f"{what}, {turning(plan, step)}" if plan else what


def not_finite(net: nn.Module) -> Iterator[str]:
    """The names of trained parameters that hold NaN or infinity, and of buffers that hold NaN."""
    bad = {name: ~torch.isfinite(value).all() for name, value in net.named_parameters() if value.requires_grad}
    bad |= {name: torch.isnan(value).any() for name, value in net.named_buffers() if value.is_floating_point()}
    if bad:
        device = next(iter(bad.values())).device
        found = torch.stack([one.to(device) for one in bad.values()]).tolist()  # one synchronisation
        yield from (name for name, is_bad in zip(bad, found, strict=True) if is_bad)


def turning(plan: Plan, step: int) -> str:
    """What was turning in a step, for messages."""
    window = plan.window_at(step)
    return f"while {window.label} was turning" if window else "outside of any window"
