"""The table of a probe: one row a recorded step and site, as CSV that pandas, spreadsheets and `draw` read.

A row is a step and a site, not a step and a depth: a depth is a sum over its sites, and no site is told from a sum.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import hypot
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from frostline.compiler.files import replacing, whole
from frostline.errors import FileError, Offence

Step = Annotated[int, Field(ge=0, lt=2**53)]
"""Every one of them is a float as well, to the bit: pictures are drawn in floats."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
MaybeShare = Annotated[Share | None, BeforeValidator(lambda cell: None if cell == "" else cell)]
"""A share, or an empty cell."""

_BEYOND = "cells beyond the last column"


class Record(BaseModel):
    """One site at one recorded step; a recorded step has a row for every site."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: Step
    """The optimizer steps that are done."""
    depth: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    kind: Literal["weight", "activation"]
    site: str
    start: Step
    stop: Step
    """The site turns in the steps `[start, stop)`."""
    fraction: Share
    """The share of binary entries that the plan asks for."""
    frozen: Share
    """The share of binary entries that the mask really has."""
    gradient: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """The Euclidean norm of the loss's gradient in the masked value, over the batch: 0 where none arrives."""
    flips: MaybeShare
    """The share of a weight's entries whose sign is not the one of the record before; else nothing."""
    loss: Finite
    masked: MaybeShare
    """The accuracy of the network as it is, if it was given."""
    binary: MaybeShare
    """The accuracy of the network as if every site were binary, if it was given."""


def cells_of(records: Iterable[Record], value: Callable[[list[Record]], float]) -> dict[tuple[int, int], float]:
    """A value for each depth at each recorded step, from the rows of the depth's sites."""
    cells = defaultdict(list)
    for record in records:
        cells[record.depth, record.step].append(record)
    return {cell: value(rows) for cell, rows in cells.items()}


def norm(rows: Iterable[Record]) -> float:
    """The norm of the gradient that arrives at several sites together."""
    return hypot(*(row.gradient for row in rows))


def steps_of(records: Iterable[Record]) -> list[int]:
    """The recorded steps, the first one first."""
    return sorted({record.step for record in records})


def depths_of(records: Iterable[Record]) -> list[int]:
    """The depths of the recorded sites, the least first."""
    return sorted({record.depth for record in records})


def edges_of(steps: Sequence[int]) -> list[int]:
    """Where recorded steps begin and end: one holds until the next, the last as long as the one before it."""
    last = steps[-1] - steps[-2] if len(steps) > 1 else 1
    return [*steps, steps[-1] + last]


def written(records: Iterable[Record]) -> str:
    """Records as the text of a CSV file, every number to the bit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Record.model_fields)
    writer.writerows([cell for _, cell in record] for record in records)
    return text.getvalue()


def read(text: str, source: str) -> list[Record]:
    """The records in the text of a CSV file.

    Raises FileError with every damaged line, as `source:line`.
    """
    rows = csv.DictReader(io.StringIO(text), restkey=_BEYOND)
    headline = f"{source} is not the table of a probe"
    columns = list(Record.model_fields)
    try:
        if list(rows.fieldnames or ()) != columns:
            raise FileError(headline, [Offence(f"its first line is not {','.join(columns)}", f"{source}:1")])
        records, faults = [], []
        seen: set[tuple[int, str]] = set()
        for row in rows:
            where = f"{source}:{rows.line_num}"
            try:
                record = Record.model_validate(row)
            except ValidationError as error:
                faults += [Offence(what, where) for what in complaints(error)]
                continue
            if (record.step, record.site) in seen:
                faults.append(Offence(f"{record.site} has a row for step {record.step} already", where))
            seen.add((record.step, record.site))
            records.append(record)
    except csv.Error as error:
        raise FileError(headline, [Offence(str(error), f"{source}:{rows.line_num}")]) from error
    if faults:
        raise FileError(f"{source} is damaged", faults)
    return records


def read_records(path: str | Path) -> list[Record]:
    """The records in a file. Raises FileError when it cannot be read or is damaged, with every line that is."""
    try:
        text = whole(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no text"
        raise FileError(f"cannot read {path}", [Offence(what or str(error))]) from error
    return read(text, str(path))


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Write a file, whole or not at all. Raises FileError when it cannot be written."""
    with replacing(path) as part:
        part.write_text(written(records), encoding="utf-8")


def complaints(error: ValidationError) -> Iterator[str]:
    """What is wrong with the columns of one row."""
    for fault in error.errors():
        column, given = fault["loc"][0], fault["input"]
        if column == _BEYOND:
            yield "it has more cells than the first line"
        elif given is None or fault["type"] == "missing":
            yield f"{column} is missing"
        else:
            yield f"{column} is {given!r}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
