"""Checkpoints on disk: written whole, and recognised when they are damaged."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from frostline.compiler.files import replacing, whole
from frostline.compiler.saved import unpacked
from frostline.errors import CheckpointError, Offence, first_line

_SEAL = b"frostline checkpoint 1\n"


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write a dictionary of plain values, tensors and `state_dict`s.

    Raises CheckpointError where it holds anything else, FileError where it cannot be written; an older file then stays.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    try:
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
    try:
        state = unpacked(content, map_location)
    except Exception as error:  # a seal that fits may stand before anything
        raise CheckpointError(f"cannot read the checkpoint {path}", [Offence(first_line(error))]) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a checkpoint of frostline")
    return state
