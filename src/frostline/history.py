"""The history of a run: one row an epoch, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from frostline.compiler.files import replacing
from frostline.errors import FileError, Offence
from frostline.records import Share, Step, complaints


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Epoch:
    """One row of a run's history. Accuracies are shares of the test set, masked and fully binary."""

    epoch: Step
    step: Step
    window: str
    loss: float
    masked: Share
    binary: Share


def write_history(path: Path, history: Iterable[Epoch]) -> None:
    """Write the rows to a file, whole or not at all. Raises FileError when it cannot be written."""
    with replacing(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in history)


def read_history(path: Path) -> list[Epoch]:
    """The rows of a file. Raises FileError with every damaged line."""
    made = TypeAdapter(Epoch)
    try:
        rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
        found, faults = [], []
        for row in rows:
            try:
                found.append(made.validate_python(row))
            except ValidationError as error:
                faults += [Offence(what, f"{path}:{rows.line_num}") for what in complaints(error)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"cannot read {path}", [Offence(str(error))]) from error
    if faults:
        raise FileError(f"{path} is damaged", faults)
    return found
