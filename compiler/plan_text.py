"""A plan as a table of text: windows and their sites, what overrides decide, what stays float and why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from frostline.compiler.sites import Site
from frostline.schedules import SIGNS, Gradient, Levels, Override, Refresh, ScheduleSpec

if TYPE_CHECKING:
    from frostline.compiler.plan import Plan, Turn


def table(plan: Plan) -> str:
    """The text form of a plan."""
    turns, spec = plan.turns, plan.spec
    per_epoch = f", {plan.steps_per_epoch} an epoch" if plan.steps_per_epoch else ""
    progression = spec.progression
    lines = [
        f"plan: {len(turns)} sites turn binary in {len(plan.windows)} windows of {plan.total_steps} steps{per_epoch}",
        f"      curve {progression.curve}; {_refresh(progression.refresh)}; "
        f"gradient on frozen entries {gradient_of(spec.gradient)}; seed {spec.seed}",
        f"      depth {progression.depth}; {'; '.join(_choices(spec))}",
        f"      masks take {plan.mask_bytes:,} bytes, one for each entry",
        "",
    ]
    rows = [("window", "steps", "entries", "mask", "sites")]
    for window in plan.windows:
        entries = sum(math.prod(turn.shape) for turn in window.turns)
        rows.append((window.label, f"[{window.start}, {window.stop})", f"{entries:,}", "", ""))
        rows += [("", "", f"{math.prod(turn.shape):,}", mask_of(turn), _site_row(turn)) for turn in window.turns]
    lines += _columns(rows)
    lines += [""] * bool(spec.overrides)
    for override in spec.overrides:
        won = sum(turn.rule == override.sites for turn in turns)
        lines.append(f'override "{override.sites}": {_changes(override)}; the most specific one of {won} sites')
    floats = [(one.name, one.why) for one in plan.kept_float] + [(one.name, one.why) for one in plan.unreached]
    if floats:
        lines += ["", "stays float"]
        lines += ["  " + row for row in _columns(floats)]
    if plan.constant:
        lines += ["", "WARNING: never negative, so that every sign will be +1 and nothing gets through"]
        lines += ["  " + row for row in _columns([(site.name, site.where or "") for site in plan.constant])]
        lines += [
            "  -> give them `levels: [0, 1]` in overrides, or put a normalisation after the ReLU, use Hardtanh in"
        ]
        lines += ["     its place, or keep these float"]
    if plan.unmatched:
        lines += ["", f"no operation has this role: {', '.join(plan.unmatched)}"]
    return "\n".join(line.rstrip() for line in lines)


def _refresh(refresh: Refresh) -> str:
    return "no refresh" if refresh.rate == "none" else f"refresh 1/{refresh.rate} a step"


def gradient_of(gradient: Gradient) -> str:
    """What frozen entries get."""
    return f"{gradient.frozen}" + (f", in the tail {gradient.tail}" if gradient.tail else "")


def _choices(spec: ScheduleSpec) -> Iterator[str]:
    """What the spec chooses beyond the paper."""
    progression = spec.progression
    yield "sites sharpen" if progression.transition == "sharpen" else f"a mask entry per {progression.per}"
    if progression.windows != "equal":
        yield f"windows by {progression.windows}" if isinstance(progression.windows, str) else "windows as given"
    if progression.hold:
        yield "frozen weights are held"
    if spec.binarize.scale == "channel":
        yield "weights scaled by channel"
    if spec.batch_norm:
        yield f"BatchNorm estimated anew from {spec.batch_norm.reestimate} batches"


def mask_of(turn: Turn) -> str:
    """The shape of a site's mask."""
    return "ramp" if turn.transition == "sharpen" else "x".join(map(str, turn.shape))


def _site_row(turn: Turn) -> str:
    others = [operand.name for operand in turn.site.operands[1:]]
    shared = f" (also {', '.join(others)})" if turn.site.kind == "activation" and others else ""
    tied = f" (used by {', '.join(o.operation for o in turn.site.operands)})" if _tied(turn.site) else ""
    levels = f" to {levels_of(turn.levels)}" if turn.levels != SIGNS else ""
    rule = f'   <- "{turn.rule}"' if turn.rule else ""
    return f"{turn.site.name}{shared}{tied}{levels}{rule}"


def levels_of(levels: Levels) -> str:
    """The two values of a site that has turned."""
    return " and ".join(map(str, levels))


def _tied(site: Site) -> bool:
    return site.kind == "weight" and len(site.operands) > 1


def _changes(override: Override) -> str:
    parts = [
        f"curve {override.curve}" if override.curve else "",
        _refresh(override.refresh) if override.refresh else "",
        f"gradient {gradient_of(override.gradient)}" if override.gradient else "",
        f"a mask entry per {override.per}" if override.per else "",
        f"to {levels_of(override.levels)}" if override.levels else "",
        f"scale {override.scale}" if override.scale else "",
    ]
    return ", ".join(part for part in parts if part)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
