"""Tables as CSV that pandas and spreadsheets read: a line for each row, whose columns are the fields of its class."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frostline.compiler.files import replacing, whole
from frostline.errors import FileError, Offence

Step = Annotated[int, Field(ge=0, lt=2**53)]
"""Every one of them is a float as well, to the bit: pictures are drawn in floats."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

_BEYOND = "cells beyond the last column"


class Row(BaseModel):
    """One line of a table; a subclass says which."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = TypeVar("Kind", bound=Row)


def written(kind: type[Kind], rows: Iterable[Kind]) -> str:
    """Rows as the text of a CSV file, every number to the bit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(kind.model_fields)
    writer.writerows([cell for _, cell in row] for row in rows)
    return text.getvalue()


def parsed(kind: type[Kind], text: str, source: str, what: str) -> list[tuple[str, Kind]]:
    """The rows in the text of a CSV file, each with its place, `source:line`.

    Raises FileError with every damaged line, or where it is not `what`: where the first line names other columns.
    """
    lines = csv.DictReader(io.StringIO(text), restkey=_BEYOND)
    headline = f"{source} is not {what}"
    rows, faults = [], []
    try:
        if list(lines.fieldnames or ()) != (columns := list(kind.model_fields)):
            raise FileError(headline, [Offence(f"its first line is not {','.join(columns)}", f"{source}:1")])
        for line in lines:
            where = f"{source}:{lines.line_num}"
            try:
                rows.append((where, kind.model_validate(line)))
            except ValidationError as error:
                faults += [Offence(fault, where) for fault in complaints(error)]
    except csv.Error as error:
        raise FileError(headline, [Offence(str(error), f"{source}:{lines.line_num}")]) from error
    if faults:
        raise FileError(f"{source} is damaged", faults)
    return rows


def text_of(path: str | Path) -> str:
    """What a file holds. Raises FileError when it cannot be read, or is no text."""
    try:
        return whole(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no text"
        raise FileError(f"cannot read {path}", [Offence(what or str(error))]) from error


def write(path: str | Path, kind: type[Kind], rows: Iterable[Kind]) -> None:
    """Write a file, whole or not at all. Raises FileError when it cannot be written."""
    with replacing(path) as part:
        part.write_text(written(kind, rows), encoding="utf-8")


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
