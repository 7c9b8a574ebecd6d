"""`report`: the folder of a run as one page. What is there is read; what is not, is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frostline.benching import bench as bench_file
from frostline.compiler.exported import read_certificate
from frostline.errors import CheckpointError, FrostlineError, Offence
from frostline.history import read_history
from frostline.pages import Story, write_report_page
from frostline.records import read_records
from frostline.runs import planned
from frostline.training import HISTORY, PROBE

MODEL = "model.onnx"


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
    history = read_history(folder / HISTORY) if HISTORY in held else []
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
