"""Checkpoints on disk: written whole, recognised when they are damaged, and more than one."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from frostline.compiler.files import replacing, sweep, whole
from frostline.compiler.saved import unpacked
from frostline.errors import CheckpointError, FileError, Offence, UsageError, first_line

_SEAL = b"frostline checkpoint 1\n"
_NAME = re.compile(r"checkpoint-(\d{6,})\.pt")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run in a folder, `checkpoint-000120.pt` for step 120; the newest `keep` good ones stay.

    The newest is the one of the highest step: clocks and dates of files say nothing. Of several ranks one saves, and
    every rank may read.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> checkpoints = Checkpoints(folder.name)
    >>> for step in (10, 20, 30):
    ...     path = checkpoints.save(step, {"step": step})
    >>> [path.name for path in checkpoints.paths], checkpoints.latest()
    (['checkpoint-000020.pt', 'checkpoint-000030.pt'], {'step': 30})
    >>> folder.cleanup()
    """

    folder: str | Path
    keep: int = 2

    def __post_init__(self) -> None:
        if isinstance(self.keep, bool) or not isinstance(self.keep, int) or self.keep < 1:
            raise UsageError(f"keep is the number of checkpoints that stay, from 1 on, not {self.keep!r}")

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, by step, good or damaged. Raises CheckpointError where the folder cannot be read."""
        return tuple(path for _, path in self._found())

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the checkpoint of a step, and only then remove what is too old.

        Raises CheckpointError where the state holds what no checkpoint can, or the folder a good checkpoint of a later
        step; FileError where it cannot be written, as on a full disk. Those before then stay.
        """
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise UsageError(f"a step is a whole number from 0 on, not {step!r}")
        path = Path(self.folder) / f"checkpoint-{step:06d}.pt"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"cannot write {path}", [Offence(error.strerror or str(error))]) from error
        later = [other for at, other in self._found() if at > step and _is_good(other)]
        if later:
            what = f"{path.parent} holds {later[-1].name} already, which is of a later step than {step}"
            remedy = "go on from there, or remove it first"
            raise CheckpointError("the checkpoint would not be the newest", [Offence(what, remedy=remedy)])
        sweep(path.parent, "checkpoint-*.pt")
        save_checkpoint(path, state)
        kept = 1
        for _, other in reversed([one for one in self._found() if one[0] < step]):
            if kept < self.keep and _is_good(other):
                kept += 1
            else:
                with suppress(OSError):
                    other.unlink()
        return path

    def latest(self, say: Callable[[str], None] | None = None) -> dict[str, Any] | None:
        """The state of the newest good checkpoint, on the CPU; None where there is none at all.

        Damaged ones are passed over, each with a warning, or with a line for `say` where it is given. Raises
        CheckpointError, with all that is wrong, where not one is good.
        """
        faults: list[str] = []
        for _, path in reversed(self._found()):
            try:
                state = load_checkpoint(path)
            except CheckpointError as error:
                faults.append(": ".join([error.headline, *(fault.what for fault in error.offences)]))
                continue
            for fault in faults:
                text = f"{fault}; {path.name} is used in its place"
                say(text) if say else warnings.warn(text, stacklevel=2)
            return state
        if faults:
            remedy = "put a copy back, or empty the folder and start anew"
            offences = [*map(Offence, faults[:-1]), Offence(faults[-1], remedy=remedy)]
            raise CheckpointError(f"no checkpoint in {self.folder} is good", offences)
        return None

    def _found(self) -> list[tuple[int, Path]]:
        folder = Path(self.folder)
        try:
            names = [name for name in map(_NAME.fullmatch, os.listdir(folder)) if name]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(
                f"cannot read the folder {folder}", [Offence(error.strerror or str(error))]
            ) from error
        return sorted((int(name[1]), folder / name[0]) for name in names)


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write a dictionary of plain values, tensors and `state_dict`s.

    Raises CheckpointError where it holds anything else, FileError where it cannot be written; an older file then stays.
    """
    buffer = io.BytesIO()
    try:
        torch.save(state, buffer)
        content = buffer.getvalue()
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        reason = Offence(first_line(error), remedy="keep to tensors and plain values")
        raise CheckpointError("the state holds what no checkpoint can", [reason]) from error
    with replacing(path) as part:
        part.write_bytes(_SEAL + hashlib.sha256(content).digest() + content)


def load_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint. No code is run from it.

    Raises CheckpointError when the file is missing, is no checkpoint, or is not what was written.
    """
    content = _content(path)
    try:
        state = unpacked(content, map_location)
    except Exception as error:  # a seal that fits may stand before anything
        raise CheckpointError(f"cannot read the checkpoint {path}", [Offence(first_line(error))]) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a checkpoint of frostline")
    return state


def _content(path: str | Path) -> bytes:
    """What was written, proven by its digest."""
    try:
        raw = whole(path)
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}", [Offence(error.strerror or str(error))]) from error
    if not raw.startswith(_SEAL[: len(raw)]):
        raise CheckpointError(f"{path} is not a checkpoint of frostline")
    digest, content = raw[len(_SEAL) : len(_SEAL) + 32], raw[len(_SEAL) + 32 :]
    if hashlib.sha256(content).digest() != digest:
        remedy = "use an earlier checkpoint, or start anew without it"
        raise CheckpointError(f"the checkpoint {path} is damaged", [Offence("truncated or altered", remedy=remedy)])
    return content


def _is_good(path: Path) -> bool:
    try:
        return bool(_content(path))
    except CheckpointError:
        return False
