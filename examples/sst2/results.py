"""Results: one line of JSON a run, and a Markdown table of means over seeds."""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from examples.sst2.train import Job, Progress
from frostline.compiler.files import replacing
from frostline.errors import FileError, Offence, UsageError

FULL_EPOCHS = 3
BEGIN, END = "<!-- sst2 -->", "<!-- /sst2 -->"


def record(job: Job, progress: Progress) -> dict[str, Any]:
    """What is kept of a run that ended: settings, accuracies after the last epoch, and where and when it ran."""
    on_gpu = job.train.labels.is_cuda
    return {
        "settings": asdict(job.settings),
        "seed": job.seed,
        "masked": progress.masked[-1],
        "binary": progress.binary[-1] if job.program else None,
        "seconds": round(progress.seconds, 1),
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {platform.machine()}",
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a file of results. Raises FileError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise FileError(f"cannot write {path}", [Offence(error.strerror or str(error))]) from error


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results. Raises FileError, with the line that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise FileError(f"cannot read {path}", [Offence(error.strerror or str(error))]) from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            result = json.loads(line)
            _row([result])
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(f"{path} is damaged", [Offence("this is no result", f"{path}:{number}")]) from error
        found.append(result)
    return found


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """One row for each settings and device: mean and deviation over seeds; of one that ran twice the later run."""
    groups: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for result in results:
        key = json.dumps([result["settings"], result["device"], result["torch"]], sort_keys=True)
        groups[key][result["seed"]] = result
    head = ["checkpoint", "schedule", "teacher", "run", "seeds", "masked %", "fully binary %", "seconds", "device"]
    lines = [head, ["---"] * len(head), *(_row(list(group.values())) for group in groups.values())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put_into(path: Path, text: str) -> None:
    """Replace what stands between the two markers in a document. Raises UsageError where they are not there."""
    try:
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        _, after = rest.split(END)
    except OSError as error:
        raise FileError(f"cannot read {path}", [Offence(error.strerror or str(error))]) from error
    except ValueError as error:
        remedy = f"put a line {BEGIN} and below it a line {END} where the table belongs"
        raise UsageError(f"{path} has no one place for the table", [Offence("markers", remedy=remedy)]) from error
    with replacing(path) as part:
        part.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _row(runs: Sequence[Mapping[str, Any]]) -> list[str]:
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
        _percent([run["masked"] for run in runs]),
        _percent([run["binary"] for run in runs if run["binary"] is not None]),
        f"{mean(run['seconds'] for run in runs):.0f}",
        f"{first['device']}, torch {first['torch']}, {max(run['date'] for run in runs)}",
    ]


def _percent(shares: Sequence[float]) -> str:
    if not shares:
        return "-"
    spread = f" ± {100 * stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * mean(shares):.1f}{spread}"
