"""The results: what is kept of a run, and its row in the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from examples import results
from examples.results import Line, percent
from examples.sst2.train import Job, Progress

FULL_EPOCHS = 3
"""A run of fewer is reduced."""


def line_of(job: Job, progress: Progress) -> dict[str, Any]:
    """The result of a run that ended, as plain values. Accuracies are of after the last epoch, as shares of dev."""
    return {
        "settings": asdict(job.settings),
        "seed": job.seed,
        "masked": progress.masked[-1],
        "binary": progress.binary[-1] if job.program else None,
        "seconds": round(progress.seconds, 1),
        **results.where_and_when(job.train.labels.device),
    }


def read(path: Path) -> list[Line]:
    """The lines of a file of results. Raises FileError, naming every line that is none."""
    return results.read(path, lambda line: table([line]))


def table(lines: Iterable[Line]) -> str:
    """A Markdown table with one row for all seeds of the same settings and device.

    Of several results of one seed the last counts.
    """
    head = ["checkpoint", "schedule", "teacher", "run", "seeds", "masked %", "fully binary %", "seconds", "device"]
    groups = results.by_seed(lines, lambda line: [line["settings"], line["device"], line["torch"]])
    return results.markdown(head, map(_row, groups))


def _row(runs: Sequence[Line]) -> list[str]:
    first = runs[0]
    settings = first["settings"]
    budget = "epochs {epochs}, batch {batch}, lr {rate:g}, length {length}".format(**settings)
    if settings["fraction"] < 1:
        budget += f", {100 * settings['fraction']:g} % of the phrases"
    if settings["fraction"] < 1 or settings["epochs"] < FULL_EPOCHS:
        budget = f"reduced: {budget}"
    return [
        settings["checkpoint"],
        (settings["schedule"] or "float") + (", no scale" if settings["schedule"] and not settings["scale"] else ""),
        (settings["teacher"] or "none") + (f", hidden {settings['hidden']:g}" if settings["hidden"] else ""),
        budget,
        ", ".join(str(run["seed"]) for run in runs),
        percent([run["masked"] for run in runs]),
        percent([run["binary"] for run in runs if run["binary"] is not None]),
        f"{mean(run['seconds'] for run in runs):.0f}",
        f"{first['device']}, torch {first['torch']}, {max(run['date'] for run in runs)}",
    ]
