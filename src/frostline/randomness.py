"""Random state: at the start of an epoch a function of seed and epoch, at any other step what a checkpoint holds."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from frostline.errors import CheckpointError, Offence, first_line
from frostline.measuring import Batches


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's order and augmentation: a run that resumes draws what it would have drawn."""
    return int.from_bytes(blake2b(f"{seed}/epoch {epoch}".encode(), digest_size=8).digest(), "big") >> 1


def epoch_batches(train: Batches, seed: int, epoch: int, done: int, state: dict[str, Any] | None) -> Iterator[Any]:
    """The batches of an epoch after those that are done, drawn as they would have been; then `state` is put back.

    torch, numpy, Python's `random`, and a DataLoader's and its sampler's own generators start from seed and epoch, and
    so do a loader's workers, which are therefore started for each epoch, also where they are asked to persist.
    """
    number = epoch_seed(seed, epoch)
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)
    if isinstance(train, DataLoader):
        train = _fresh(train, number, epoch)
    batches = iter(train)
    for _ in range(done):
        next(batches)
    if state is not None:  # only now, so that the next batch draws what it would have drawn
        set_random_state(state)
    yield from batches


def random_state() -> dict[str, Any]:
    """The state of torch, on the CPU and on every GPU, of Python's `random`, and of numpy, as plain values."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put a state back. That of GPUs is left out where their number is another.

    Raises CheckpointError where it is none.
    """
    try:
        torch.set_rng_state(state["cpu"])
        if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        version, internal, following = state["python"]
        random.setstate((version, tuple(internal), following))
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        remedy = "go on from another checkpoint, or begin anew"
        raise CheckpointError("the random state cannot be set", [Offence(first_line(error), remedy=remedy)]) from error


def _fresh(loader: DataLoader[Any], number: int, epoch: int) -> DataLoader[Any]:
    """The loader at the start of an epoch: generators seeded, and no workers left over, whose state no one can save."""
    for owner in (loader, loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(number)
        if callable(set_epoch := getattr(owner, "set_epoch", None)):
            set_epoch(epoch)
    if not loader.persistent_workers:
        return loader
    fresh = copy.copy(loader)
    fresh._iterator = None
    return fresh
