"""What the adapters refuse, before training begins and with every offence at once, and what they resume from."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from frostline.errors import Offence, UsageError
from frostline.program import Program


def not_installed(extra: str, error: ImportError) -> UsageError:
    """The error of an adapter whose library cannot be imported."""
    remedy = f"pip install 'frostline[{extra}]'"
    return UsageError(f"{extra} is not installed", [Offence(str(error), remedy=remedy)])


def check_trained(program: Program, model: nn.Module) -> None:
    """Raises UsageError where the program's net is no part of the model that is trained."""
    _refuse(_elsewhere(program, model))


def check_training(program: Program, model: nn.Module, steps: float, setting: str) -> None:
    """Raises UsageError where a trainer trains another model, or another number of optimizer steps than the plan has.

    `steps` is that number, at most 0 or infinite where the trainer does not know it. `setting` is how to tell it, with
    `{}` for the number.
    """
    _refuse([*_elsewhere(program, model), *_other_budget(program, steps, setting)])


def resume(program: Program, state: Mapping[str, Any], edited: bool) -> None:
    """Continue at the step of a saved state, with a warning of what differs where another spec or budget may.

    Raises CheckpointError where it is of another model, or of another spec or budget that may not differ.
    """
    if differences := program.load_state_dict(state, edited=edited):
        warnings.warn(f"the program goes on under another plan:\n{differences}", stacklevel=3)


def check_step(program: Program, done: int) -> None:
    """Raises UsageError where a trainer goes on at another step than the program."""
    if program.step != done:
        what = f"the program is at step {program.step:,} of its plan, and the trainer at step {done:,}"
        remedy = "resume from a checkpoint that was written with this callback, or compile the model anew"
        _refuse([Offence(what, remedy=remedy)])


def _elsewhere(program: Program, model: nn.Module) -> Iterator[Offence]:
    if all(part is not program.net for part in model.modules()):
        remedy = "train program.net, or a module that holds it: self.net = program.net"
        yield Offence("program.net is no part of the model that is trained", remedy=remedy)


def _other_budget(program: Program, steps: float, setting: str) -> Iterator[Offence]:
    total = program.plan.total_steps
    if not 0 < steps < math.inf:
        what = f"the plan has {total:,} optimizer steps, and the trainer does not know how many it makes"
        yield Offence(what, remedy=setting.format(total))
    elif steps != total:
        what = f"the plan has {total:,} optimizer steps, and the trainer makes {int(steps):,}"
        yield Offence(what, remedy=f"{setting.format(total)}, or fl.compile(..., total_steps={int(steps)})")


def _refuse(faults: Iterator[Offence] | list[Offence]) -> None:
    if offences := list(faults):
        raise UsageError("the training does not fit the program", offences)
