"""The user's own lines: those of frames that are neither torch's nor ours."""

from __future__ import annotations

import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import torch
from torch import nn

from frostline import errors
from frostline.errors import Offence

_OURS = Path(errors.__file__).parent
_FOLDERS = (_OURS, *(_OURS / name for name in ("compiler", "passes", "schedules")))  # links, in a clone
_NOT_THEIRS = (
    str(Path(torch.__file__).parent) + os.sep,
    *(str(path) + os.sep for folder in _FOLDERS for path in (folder, folder.resolve())),
    sysconfig.get_path("stdlib") + os.sep,
    "<",
)


def user_line(error: BaseException) -> str | None:
    """The innermost line of the user's that an exception passed through, as `model.py:31`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_users(frame.filename):
            return shown_line(frame.filename, frame.lineno)
    return None


def user_frames() -> Iterator[FrameType]:
    """The user's frames on the current stack, innermost first, out to where the capture calls the model."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _captures(frame.f_code):
        if is_users(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


def calling_line() -> str | None:
    """The innermost line of the user's on the current stack."""
    return next((shown_line(frame.f_code.co_filename, frame.f_lineno) for frame in user_frames()), None)


def is_users(filename: str) -> bool:
    """Whether a file is the user's."""
    return not filename.startswith(_NOT_THEIRS) and not os.path.realpath(filename).startswith(_NOT_THEIRS)


def shown_line(filename: str, number: int | None) -> str:
    """A line as it is shown, such as `model.py:31`."""
    try:
        near = os.path.relpath(filename)
    except ValueError:
        near = filename
    return f"{Path(filename).name if near.startswith('..') else near}:{number}"


def reads_of_training(model: nn.Module) -> Iterator[Offence]:
    """Every line of the user's modules that asks `self.training`, the usual reason why a traced graph differs."""
    for kind in dict.fromkeys(type(module) for module in model.modules()):
        try:
            filename, (lines, first) = inspect.getfile(kind), inspect.getsourcelines(kind)
        except (OSError, TypeError):
            continue
        for offset, text in enumerate(lines):
            if "self.training" in text and is_users(filename):
                yield Offence("it asks self.training here", shown_line(filename, first + offset))


def _captures(code: CodeType) -> bool:
    return code.co_name in ("record", "trace") and Path(code.co_filename).parent == Path(__file__).parent
