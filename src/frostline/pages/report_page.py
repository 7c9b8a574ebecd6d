"""The page of a run: what was planned, how it went, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.benching import Bench
from frostline.compiler.certificate import Certificate
from frostline.history import Epoch
from frostline.pages.accuracy import Band, Point, curves
from frostline.pages.heat import blockade, flips
from frostline.pages.plan_page import plan_facts
from frostline.pages.rendering import write_page
from frostline.program import Program
from frostline.records import Record


@dataclass(frozen=True)
class Story:
    """All that is known of a run. `missing` says what is not there, and why: (what, why)."""

    name: str
    recipe: Mapping[str, Any]
    program: Program | None
    history: Sequence[Epoch]
    records: Sequence[Record]
    certificate: Certificate | None
    bench: Bench | None
    missing: Sequence[tuple[str, str]]


def write_report_page(story: Story, path: str | Path) -> None:
    """Write the page of a run. Raises FileError where it cannot be written."""
    write_page("report.html", path, **report_facts(story))


def report_facts(story: Story) -> dict[str, Any]:
    """What the page of a run shows."""
    planned = plan_facts(story.program) if story.program else None
    points, where = _points(story)
    last = _last(story)
    bench = story.bench
    whole = sum(node.seconds for node in bench.nodes) if bench else 0.0
    return {
        **(planned or {"gradients": {}}),
        "story": story,
        "planned": planned is not None,
        "curves": curves(points, _bands(story), last) if points else None,
        "measured_on": where,
        "blockade": blockade(story.records, last) if story.records else None,
        "flips": flips(story.records, last) if story.records else None,
        "whole": whole,
        "slowest": max((node.seconds for node in bench.nodes), default=1.0) if bench else 1.0,
    }


def _points(story: Story) -> tuple[list[Point], str]:
    """The accuracies of the history; of the probe where there is no history."""
    if story.history:
        return [
            Point(one.step, one.masked, one.binary, f"epoch {one.epoch}, step {one.step:,}\nmasked {one.masked:.2%}\n"
                  f"fully binary {one.binary:.2%}\nloss {one.loss:.4f}")
            for one in story.history
        ], "the whole test set, after each epoch"  # fmt: skip
    by_step = {one.step: one for one in story.records}
    return [
        Point(step, one.masked, one.binary, f"step {step:,}\nmasked {one.masked:.2%}\nfully binary {one.binary:.2%}")
        for step, one in sorted(by_step.items())
        if one.masked is not None and one.binary is not None
    ], "the samples that the probe was given"


def _bands(story: Story) -> list[Band]:
    """The windows, of the plan, or by depth from the probe's table."""
    if story.program:
        return [Band(one.label, one.start, one.stop) for one in story.program.plan.windows]
    found = sorted({(one.start, one.stop, one.depth) for one in story.records})
    return [Band(f"depth {depth}", start, stop) for start, stop, depth in found]


def _last(story: Story) -> int:
    if story.program:
        return story.program.plan.total_steps
    return max([0, *(one.step for one in story.history), *(one.stop for one in story.records)])
