"""Results: one JSON line a run, and the table made of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from examples.cifar.recipe import Settings, settings_of
from examples.cifar.train import Training
from frostline.compiler.files import replacing
from frostline.errors import Offence, UsageError

Line = Mapping[str, Any]

BEGIN, END = "<!-- cifar -->", "<!-- /cifar -->"
"""Between these two lines of a Markdown file stands the table."""

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
        "device": device_name(training.device),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "settings": settings.model_dump(),
        "spec": training.program.plan.spec.as_data() if training.program else None,
    }


def _last_and_best(accuracies: Sequence[float]) -> dict[str, float] | None:
    return {"last": accuracies[-1], "best": max(accuracies)} if accuracies else None


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    known = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", known.read_text()) if known.exists() else None
    threads = torch.get_num_threads()
    return f"{found[1].strip() if found else 'CPU'}, {threads} thread{'s' if threads > 1 else ''}"


def append(path: Path, line: Line) -> None:
    """Add a result to a file, which need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read(path: Path) -> list[Line]:
    """All results of a file. Raises UsageError, naming every line that is none."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("there are no results", [Offence(str(error), remedy="the command run writes them")]) from error
    lines, faults = [], []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
            Settings(**line["settings"])
            float(line["masked"]["last"])
            lines.append(line)
        except (ValueError, KeyError, TypeError) as error:
            faults.append(Offence(f"{type(error).__name__}: {str(error).splitlines()[0]}", f"{path}:{number}"))
    if faults:
        raise UsageError("lines that are no result", faults)
    return lines


def table(lines: Iterable[Line]) -> str:
    """A Markdown table with one row for all seeds of the same settings, spec and device; in per cent.

    Of several results of one seed the last counts. After +- stands the standard deviation of one run over the seeds.
    """
    groups: dict[str, dict[int, Line]] = {}
    for line in lines:
        spec = {name: value for name, value in (line["spec"] or {}).items() if name != "seed"}
        settings = {name: value for name, value in line["settings"].items() if name != "seed"}
        key = json.dumps([settings, spec, line["device"], line["torch"]], sort_keys=True)
        groups.setdefault(key, {})[line["seed"]] = line
    head = "| row | budget | changed | seeds | masked | fully binary | best epoch | minutes | device | torch | date |"
    rows = [_row(list(group.values())) for group in groups.values()]
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *sorted(rows)])


def _row(group: Sequence[Line]) -> str:
    first = group[0]
    settings = Settings(**first["settings"])
    own = settings_of(settings.row, {})
    differing = [name for name in Settings.model_fields if getattr(settings, name) != getattr(own, name)]
    changed = [name for name in differing if name not in (*BUDGET, "seed", "bf16", "compiled", "measure_every")]
    binary = [line["binary"] for line in group if line["binary"]]
    cells = [
        settings.row,
        _budget(settings, own),
        ", ".join(f"{name} {getattr(settings, name)}" for name in changed) or "-",
        ", ".join(str(line["seed"]) for line in sorted(group, key=lambda line: line["seed"])),
        _shown([line["masked"]["last"] for line in group]),
        _shown([line["last"] for line in binary]),
        _shown([line["best"] for line in binary or [line["masked"] for line in group]]),
        f"{mean(line['seconds'] for line in group) / 60:.1f}",
        first["device"] + (", bf16" if settings.bf16 else ""),
        first["torch"],
        max(line["date"] for line in group),
    ]
    return f"| {' | '.join(cells)} |"


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


def _shown(accuracies: Sequence[float]) -> str:
    if not accuracies:
        return "-"
    deviation = f" ± {stdev(accuracies) * 100:.2f}" if len(accuracies) > 1 else ""
    return f"{mean(accuracies) * 100:.2f}{deviation}"


def insert(text: str, path: Path) -> None:
    """Replace what stands between the two marks of a Markdown file. Raises UsageError where they are not there."""
    try:
        before = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}", [Offence(str(error))]) from error
    begin, end = before.find(BEGIN), before.find(END)
    if begin < 0 or end < begin:
        raise UsageError(f"{path} has no place for the table", [Offence(f"it needs the lines {BEGIN} and {END}")])
    with replacing(path) as part:
        part.write_text(f"{before[: begin + len(BEGIN)]}\n{text}\n{before[end:]}", encoding="utf-8")
