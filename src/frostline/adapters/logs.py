"""How far a plan is, in plain numbers for any logger."""

from __future__ import annotations

import math

from frostline.program import Program


def progress(program: Program) -> dict[str, float]:
    """How far the plan is at the program's step. It is computed from the plan alone, without a look at the device.

    - `frostline/step`: the optimizer steps of the plan that are done.
    - `frostline/window`: how many of the plan's windows have begun, in the order of its table; 0 in the warm-up.
    - `frostline/fraction`: the share of all masks' entries that is binary in the next forward.
    - `frostline/settled`: the share of sites that are settled.
    """
    plan, step = program.plan, program.step
    entries = [math.prod(turn.shape) for turn in plan.turns]
    frozen = sum(turn.fraction(step) * count for turn, count in zip(plan.turns, entries, strict=True))
    return {
        "frostline/step": step,
        "frostline/window": sum(window.start <= step for window in plan.windows),
        "frostline/fraction": frozen / sum(entries),
        "frostline/settled": sum(turn.fraction(step) == 1 for turn in plan.turns) / len(plan.turns),
    }
