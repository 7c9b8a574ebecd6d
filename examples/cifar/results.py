"""The results: what is kept of a run, and its row in the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from examples import results
from examples.cifar.recipe import Settings, settings_of
from examples.cifar.train import Training
from examples.results import Line, percent

BUDGET = ("epochs", "fraction", "width")
"""The settings of which a smaller value than the row's own makes a result reduced."""


def line_of(training: Training) -> dict[str, Any]:
    """The result of a finished run, as plain values. Accuracies are shares of the test set."""
    settings, history = training.settings, training.history
    return {
        "row": settings.row,
        "seed": settings.seed,
        **{name: getattr(settings, name) for name in BUDGET},
        "masked": _last_and_best([epoch.masked for epoch in history if epoch.masked is not None]),
        "binary": _last_and_best([epoch.binary for epoch in history if epoch.binary is not None]),
        "steps": training.step,
        "seconds": round(sum(epoch.seconds for epoch in history), 1),
        **results.where_and_when(training.device),
        "settings": settings.model_dump(),
        "spec": training.program.plan.spec.as_data() if training.program else None,
    }


def _last_and_best(accuracies: Sequence[float]) -> dict[str, float] | None:
    return {"last": accuracies[-1], "best": max(accuracies)} if accuracies else None


def read(path: Path) -> list[Line]:
    """The lines of a file of results. Raises FileError, naming every line that is none."""
    return results.read(path, lambda line: table([line]))


def table(lines: Iterable[Line]) -> str:
    """A Markdown table with one row for all seeds of the same settings, spec and device; accuracies in per cent.

    Of several results of one seed the last counts.
    """
    head = [
        "row", "budget", "changed", "seeds", "masked", "fully binary", "best epoch", "minutes",
        "device", "torch", "date",
    ]  # fmt: skip
    groups = results.by_seed(lines, _but_for_the_seed)
    return results.markdown(head, sorted(map(_row, groups)))


def _but_for_the_seed(line: Line) -> list[Any]:
    settings, spec = ({**(line[part] or {}), "seed": None} for part in ("settings", "spec"))
    return [settings, spec, line["device"], line["torch"]]


def _row(group: Sequence[Line]) -> list[str]:
    first = group[0]
    settings = Settings(**first["settings"])
    own = settings_of(settings.row, {})
    differing = [name for name in Settings.model_fields if getattr(settings, name) != getattr(own, name)]
    changed = [name for name in differing if name not in (*BUDGET, "seed", "bf16", "compiled", "measure_every")]
    binary = [line["binary"] for line in group if line["binary"]]
    return [
        settings.row,
        _budget(settings, own),
        ", ".join(f"{name} {getattr(settings, name)}" for name in changed) or "-",
        ", ".join(str(line["seed"]) for line in group),
        percent([line["masked"]["last"] for line in group], 2),
        percent([line["last"] for line in binary], 2),
        percent([line["best"] for line in binary or [line["masked"] for line in group]], 2),
        f"{mean(line['seconds'] for line in group) / 60:.1f}",
        first["device"] + (", bf16" if settings.bf16 else ""),
        first["torch"],
        max(line["date"] for line in group),
    ]


def _budget(settings: Settings, own: Settings) -> str:
    """What the run had less of than its row, or "full"."""
    reduced = []
    if settings.epochs < own.epochs:
        reduced.append(f"{settings.epochs} of {own.epochs} epochs")
    if settings.fraction < own.fraction:
        reduced.append(f"{settings.fraction:.3g} of the data")
    if settings.width < own.width:
        reduced.append(f"width {settings.width:.3g}")
    larger = [f"{name} {getattr(settings, name)}" for name in BUDGET if getattr(settings, name) > getattr(own, name)]
    return ", ".join([f"reduced: {', '.join(reduced)}"] if reduced else ["full"]) + "".join(f", {x}" for x in larger)
