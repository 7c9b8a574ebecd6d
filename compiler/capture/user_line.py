"""The user's own line: the innermost frame that is neither torch's nor ours."""

from __future__ import annotations

import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from frostline.errors import Offence

_HERE = Path(__file__).resolve().parents[2]
_NOT_THEIRS = (
    str(Path(torch.__file__).parent) + os.sep,
    *(str(_HERE / name) + os.sep for name in ("compiler", "passes", "schedules", "src", "frostline")),
    sysconfig.get_path("stdlib") + os.sep,
    "<",
)


def user_line(error: BaseException) -> str | None:
    """The innermost line of the user's that an exception passed through, as `model.py:31`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _theirs(frame.filename):
            return _shown(frame.filename, frame.lineno)
    return None


def calling_frame() -> FrameType | None:
    """The innermost frame of the user's on the current stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _theirs(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def callers(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that it was called from, as far as they are the user's, up to the capture of the model."""
    while frame is not None and (frame.f_code.co_name != "trace" or _theirs(frame.f_code.co_filename)):
        if _theirs(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


def calling_line(inside: str) -> str | None:
    """The innermost line of the user's on the current stack, called from a frame of the function named `inside`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != inside:
        if _theirs(frame.f_code.co_filename):
            return _shown(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def frame_line(filename: str, line: int | None) -> str | None:
    """The line of a frame, if it is the user's."""
    return _shown(filename, line) if _theirs(filename) else None


def reads_of_training(model: nn.Module) -> Iterator[Offence]:
    """Every line of the user's modules that asks `self.training`, the usual reason why a traced graph differs."""
    for kind in dict.fromkeys(type(module) for module in model.modules()):
        try:
            filename, (lines, first) = inspect.getfile(kind), inspect.getsourcelines(kind)
        except (OSError, TypeError):
            continue
        for offset, line in enumerate(lines):
            if "self.training" in line and _theirs(filename):
                yield Offence("it asks self.training here", _shown(filename, first + offset))


def _theirs(filename: str) -> bool:
    return not filename.startswith(_NOT_THEIRS) and not os.path.realpath(filename).startswith(_NOT_THEIRS)


def _shown(filename: str, line: int | None) -> str:
    try:
        near = os.path.relpath(filename)
    except ValueError:
        near = filename
    return f"{Path(filename).name if near.startswith('..') else near}:{line}"
