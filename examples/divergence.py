"""How a run that diverges ends: it names the step, and what was turning then."""

from __future__ import annotations

import math
from pathlib import Path

import frostline as fl
from frostline.divergence import FirstBad, turning
from frostline.errors import FrostlineError, Offence


def stop_if_diverged(bad: FirstBad, program: fl.Program | None, checkpoint: Path, remedy: str) -> None:
    """Raise FrostlineError where a loss or a weight was not finite; `program` is None in a float run."""
    found = bad.found()
    if found is None:
        return
    step, loss = found
    what = f"weights that are not finite after step {step}" if math.isfinite(loss) else f"loss {loss} at step {step}"
    when = f", {turning(program.plan, step)}" if program else ""
    kept = f"; {checkpoint} is of before" if checkpoint.exists() else ""
    raise FrostlineError("training diverged", [Offence(what + when, remedy=remedy + kept)])
