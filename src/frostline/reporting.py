"""`report`: the folder of a run as one page. What is there is read; what is not, is said."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from frostline.benching import bench as bench_file
from frostline.compiler.exported import read_certificate
from frostline.errors import CheckpointError, FileError, FrostlineError, Offence
from frostline.pages import Story, write_report_page
from frostline.records import complaints, read_records
from frostline.runs import planned
from frostline.training import HISTORY, PROBE

MODEL = "model.onnx"

Share = Annotated[float, Field(ge=0, le=1)]


class Row(BaseModel):
    """A row of `history.csv`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: NonNegativeInt
    step: NonNegativeInt
    window: str
    loss: float
    masked: Share
    binary: Share


def report(folder: Path, page: Path, bench: bool = False) -> tuple[tuple[str, str], ...]:
    """Write the page of a run: its plan, accuracies, gradients, flips, the certificate of its file, and its speed.

    Returns what is not there, and why. With `bench` the exported file is timed, which takes about ten seconds. Raises
    CheckpointError where the folder holds nothing of a run, and FileError where a file in it is damaged.
    """
    missing: list[tuple[str, str]] = []
    held = {name for name in ("run.json", HISTORY, PROBE, MODEL) if (folder / name).is_file()}
    if not held:
        what = Offence(f"it has none of run.json, {HISTORY}, {PROBE}, {MODEL}")
        raise CheckpointError(f"{folder} is not the folder of a run", [what])
    recipe: dict[str, Any] = {}
    program = None
    if "run.json" in held:
        try:
            recipe, program = planned(folder)
        except FrostlineError as error:
            missing.append(("plan", "; ".join([error.headline, *(one.what for one in error.offences)])))
    else:
        missing.append(("plan", "there is no run.json"))
    history = _history(folder / HISTORY) if HISTORY in held else []
    records = read_records(folder / PROBE) if PROBE in held else []
    certificate = read_certificate(folder / MODEL) if MODEL in held else None
    timed = bench_file(folder / MODEL) if bench and certificate else None
    if not history:
        missing.append(("accuracy of the test set", f"there is no {HISTORY}"))
    if not records:
        missing.append(("gradients and flips", f"there is no {PROBE}: train with --probe-every"))
    if certificate is None:
        missing.append(("certificate and speed", f"there is no {MODEL}: frostline export {folder}"))
    elif timed is None:
        missing.append(("speed", "it was not measured: frostline report --bench"))
    story = Story(folder.resolve().name, recipe, program, history, records, certificate, timed, missing)
    write_report_page(story, page)
    return tuple(missing)


def _history(path: Path) -> list[Row]:
    """The rows of a history. Raises FileError with every damaged line."""
    try:
        rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
        found, faults = [], []
        for row in rows:
            try:
                found.append(Row.model_validate(row))
            except ValidationError as error:
                faults += [Offence(what, f"{path}:{rows.line_num}") for what in complaints(error)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"cannot read {path}", [Offence(str(error))]) from error
    if faults:
        raise FileError(f"{path} is damaged", faults)
    return found
