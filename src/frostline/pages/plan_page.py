"""The page of a plan: what will happen to a model, before it is paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frostline.amounts import amounts
from frostline.comparing import compare
from frostline.compiler.plan import Plan
from frostline.pages.picture import picture, told
from frostline.pages.progression import Shades, by_depth, chart
from frostline.pages.rendering import write_page
from frostline.pages.wiring import wiring
from frostline.program import Program


def write_plan_page(program: Program, path: str | Path, against: Program | None = None) -> None:
    """Write the page of a program's plan, and what another plan of the model would do otherwise.

    Raises FileError where it cannot be written.
    """
    write_page("plan.html", path, **plan_facts(program, against))


def plan_facts(program: Program, against: Program | None = None) -> dict[str, Any]:
    """What the page of a plan shows."""
    plan, found, shades = program.plan, amounts(program), Shades()
    other = against.plan if against else None
    drawn = picture(found, wiring(program.graph, found), shades, by_depth(other) if other else None)
    return {
        "plan": plan,
        "amounts": found,
        "chart": chart(plan, shades, other),
        "picture": drawn,
        "gradients": shades.gradients,
        "readings": [reading for work in found.works for reading in (work.activation, work.weight)],
        "told": told,
        "model": type(program.model).__name__,
        "comparison": compare(plan, other) if other else None,
        "other_amounts": amounts(against) if against else None,
        "source": _source(plan),
        "other_source": _source(other) if other else "",
    }


def _source(plan: Plan) -> str:
    """The name of the file that a plan's spec came from; empty where it came from none."""
    return Path((plan.spec.where("version") or "").rpartition(":")[0]).name
