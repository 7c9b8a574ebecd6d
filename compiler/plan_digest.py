"""The digest of a plan: equal digests, equal masks in every step."""

from __future__ import annotations

import json
from hashlib import blake2b

from frostline.compiler.plan import Plan, Turn


def digest(plan: Plan) -> str:
    """Sixteen hexadecimal digits of all that decides what a plan does in training, and of nothing else.

    How a spec is spelled does not count, nor the version of Python, nor the machine.
    """
    content = {
        "seed": plan.spec.seed,
        "hold": plan.spec.progression.hold,
        "total_steps": plan.total_steps,
        "turns": {turn.site.name: _turn(turn) for turn in plan.turns},
    }
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def _turn(turn: Turn) -> dict[str, object]:
    return {
        "kind": turn.site.kind,
        "shape": turn.shape,
        "steps": [turn.start, turn.stop],
        "curve": turn.curve.model_dump(mode="json"),
        "refresh": turn.refresh,
        "gradient": turn.gradient.model_dump(mode="json"),
        "levels": turn.levels,
        "scale": turn.scale,
        "transition": turn.transition,
    }
