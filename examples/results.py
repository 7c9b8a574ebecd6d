"""Results: one line of JSON a run, and what the tables made of them share.

A line has at least `seed`, `device`, `torch` and `date` beside what its example measures. Tables go into a document
between two marks, `<!-- name -->` and `<!-- /name -->`, and by a command only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from frostline.compiler.files import replacing
from frostline.errors import FileError, FrostlineError, Offence, UsageError, first_line

Line = Mapping[str, Any]


def where_and_when(device: torch.device) -> dict[str, str]:
    """The device, the version of torch, and the day, for a line."""
    return {"device": _named(device), "torch": torch.__version__, "date": datetime.now(UTC).date().isoformat()}


def _named(device: torch.device) -> str:
    """The GPU's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    known = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", known.read_text()) if known.exists() else None
    threads = torch.get_num_threads()
    return f"{found[1].strip() if found else 'CPU'}, {threads} thread{'s' if threads > 1 else ''}"


def append(path: Path, line: Line) -> None:
    """Add a line to a file of results, which need not exist. Raises FileError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise FileError(f"cannot write {path}", [Offence(error.strerror or str(error))]) from error


def read(path: Path, check: Callable[[Line], object]) -> list[Line]:
    """The lines of a file of results. Raises FileError, naming every line that is none: where `check` fails."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read {path}", [Offence(first_line(error))]) from error
    lines: list[Line] = []
    faults = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
            check(line)
            lines.append(line)
        except (ValueError, KeyError, TypeError, AttributeError, FrostlineError) as error:
            what = f"this is no result: {type(error).__name__}: {first_line(error)}"
            faults.append(Offence(what, f"{path}:{number}"))
    if faults:
        raise FileError(f"{path} is damaged", faults)
    return lines


def by_seed(lines: Iterable[Line], same: Callable[[Line], object]) -> list[list[Line]]:
    """The lines that are alike but for their seed, by seed; of several lines of one seed the last counts."""
    groups: dict[str, dict[int, Line]] = {}
    for line in lines:
        groups.setdefault(json.dumps(same(line), sort_keys=True), {})[line["seed"]] = line
    return [[group[seed] for seed in sorted(group)] for group in groups.values()]


def percent(shares: Sequence[float], digits: int = 1) -> str:
    """The mean in per cent, and after it the standard deviation of one run.

    >>> percent([0.5, 0.75]), percent([0.5]), percent([])
    ('62.5 ± 17.7', '50.0', '-')
    """
    if not shares:
        return "-"
    deviation = f" ± {stdev(shares) * 100:.{digits}f}" if len(shares) > 1 else ""
    return f"{mean(shares) * 100:.{digits}f}{deviation}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def insert(text: str, path: Path, name: str) -> None:
    """Put a table between its two marks in a document. Raises FileError, and UsageError where they are not there."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    try:
        before = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read {path}", [Offence(first_line(error))]) from error
    start, stop = before.find(begin), before.find(end)
    if start < 0 or stop < start:
        remedy = f"put a line {begin} and below it a line {end} where the table belongs"
        raise UsageError(f"{path} has no place for the table", [Offence("the marks are missing", str(path), remedy)])
    with replacing(path) as part:
        part.write_text(f"{before[: start + len(begin)]}\n{text}\n{before[stop:]}", encoding="utf-8")
