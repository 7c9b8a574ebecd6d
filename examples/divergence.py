"""How a run that diverges ends: it names the step, and what was turning then."""

from __future__ import annotations

from pathlib import Path

import frostline as fl
from frostline.divergence import FirstBad
from frostline.errors import FrostlineError, Offence


def stop_if_diverged(bad: FirstBad, program: fl.Program | None, checkpoint: Path, remedy: str) -> None:
    """Raise FrostlineError where a loss or a weight was not finite; `program` is None in a float run."""
    if told := bad.told(program.plan if program else None):
        kept = f"; {checkpoint} is of before" if checkpoint.exists() else ""
        raise FrostlineError("training diverged", [Offence(told, remedy=remedy + kept)])
