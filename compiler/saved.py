"""What may stand in a checkpoint: tensors and plain values, whoever wrote it. A seal that fits says nothing of that."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt, ValidationError

from frostline.errors import Offence, offences_of

_DEEPEST = 50
_MOST = 1_000_000
"""The parts of a program's state at most, in all: a site has a dozen."""
_LONGEST = 128
"""The bits of a number at most: those of a seed are 64."""

Steps = Annotated[StrictInt, Field(ge=0, lt=2**63)]


class State(BaseModel):
    """The form of what `Program.state_dict` returns; it may hold more."""

    model_config = ConfigDict(strict=True)

    spec: dict[str, JsonValue]
    total_steps: Steps
    steps_per_epoch: Steps | None = None
    step: Steps
    plan: str | None = None
    windows: dict[str, Annotated[list[Steps], Field(min_length=2, max_length=2)]]
    shapes: dict[str, list[Steps]]


def state_faults(state: object) -> Iterator[Offence]:
    """Why something is not the state of a program, if it is none."""
    remedy = "pass what state_dict() returned"
    try:
        _check_plain(state, _MOST)
        read = State.model_validate(dict(state) if isinstance(state, Mapping) else {})
    except ValidationError as error:
        missing = [str(fault["loc"][0]) for fault in error.errors() if fault["type"] == "missing"]
        yield from (
            [Offence(f"it has no {', '.join(missing)}", remedy=remedy)] if missing else offences_of(error, remedy)
        )
    except ValueError as error:
        yield Offence(str(error), remedy=remedy)
    else:
        if read.windows.keys() != read.shapes.keys():
            yield Offence("its windows and shapes are not of the same sites", remedy=remedy)


def unpacked(content: bytes, map_location: str | torch.device) -> Any:
    """What `torch.save` wrote. No code is run, and nothing takes more room than it has in the file.

    Raises an exception of any kind for anything else.
    """
    records = zipfile.ZipFile(io.BytesIO(content)).infolist()
    if any(each.compress_type != zipfile.ZIP_STORED for each in records) or len(content) < sum(
        each.file_size for each in records
    ):
        raise ValueError("it would unpack to more than it is")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how the file was written
        try:
            state = torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
        except RuntimeError:
            raise
        except Exception as error:  # whose text tells how to run the file's code after all
            raise ValueError("it holds something else than tensors and plain values") from error
    _check_plain(state, len(content))
    return state


def _check_plain(state: object, most: int) -> None:
    """Raise ValueError for what is nested without end, or holds parts over and over: each of them takes a byte."""
    waiting, seen = [(state, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > most or depth > _DEEPEST:
            raise ValueError("it is nested without end")
        if isinstance(value, int) and value.bit_length() > _LONGEST:
            raise ValueError(f"it holds a number of {value.bit_length():,} bits")
        if isinstance(value, dict):
            waiting += ((part, depth + 1) for pair in value.items() for part in pair)
        elif isinstance(value, list | tuple | set):
            waiting += ((part, depth + 1) for part in value)
