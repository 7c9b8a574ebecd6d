"""The table of a probe: one row a recorded step and site, as CSV that pandas, spreadsheets and `draw` read.

A row is a step and a site, not a step and a depth: a depth is a sum over its sites, and no site is told from a sum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import hypot
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from frostline import tables
from frostline.errors import FileError, Offence
from frostline.tables import Row, Share, Step

Finite = Annotated[float, Field(allow_inf_nan=False)]
MaybeShare = Annotated[Share | None, BeforeValidator(lambda cell: None if cell == "" else cell)]
"""A share, or an empty cell."""


class Record(Row):
    """One site at one recorded step; a recorded step has a row for every site."""

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
    return tables.written(Record, records)


def read(text: str, source: str) -> list[Record]:
    """The records in the text of a CSV file.

    Raises FileError with every damaged line, as `source:line`.
    """
    rows = tables.parsed(Record, text, source, "the table of a probe")
    seen: set[tuple[int, str]] = set()
    faults = []
    for where, record in rows:
        if (record.step, record.site) in seen:
            faults.append(Offence(f"{record.site} has a row for step {record.step} already", where))
        seen.add((record.step, record.site))
    if faults:
        raise FileError(f"{source} is damaged", faults)
    return [record for _, record in rows]


def read_records(path: str | Path) -> list[Record]:
    """The records in a file. Raises FileError when it cannot be read or is damaged, with every line that is."""
    return read(tables.text_of(path), str(path))


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Write a file, whole or not at all. Raises FileError when it cannot be written."""
    tables.write(path, Record, records)
