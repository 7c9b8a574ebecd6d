"""The run that the tests of this folder stop in every way: small, and random wherever a run can be."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import frostline as fl
from frostline.history import Epoch
from frostline.training import fit
from tests.models.small import chain, spec

EPOCHS, STEPS, EVERY = 3, 8, 3
TOTAL = EPOCHS * STEPS


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Images `[3, 8, 8]` with noise from torch, numpy and Python, as augmentation draws it."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(STEPS * 8, 3, 8, 8, generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        noise = torch.randn(3, 8, 8) * np.random.rand() + random.random()  # noqa: S311
        return self.images[place] + noise, torch.tensor(place % 5)


def loader(workers: int = 0, **options: object) -> DataLoader[tuple[Tensor, Tensor]]:
    return DataLoader(Images(), batch_size=8, shuffle=True, num_workers=workers, **options)  # type: ignore[arg-type]


def test_set() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(16, 3, 8, 8, generator=generator), torch.arange(16) % 5)]


test_set.__test__ = False  # type: ignore[attr-defined]


def program(**edits: object) -> fl.Program:
    torch.manual_seed(0)
    model = chain(layers=2, width=4)
    model = torch.nn.Sequential(*list(model.children())[:3], torch.nn.Dropout(0.1), *list(model.children())[3:])
    example = torch.zeros(2, 3, 8, 8)
    return fl.compile(model, spec(**edits), (example,), total_steps=TOTAL, steps_per_epoch=STEPS)


def train(folder: Path, every: int | None = EVERY, workers: int = 0, console: Console | None = None) -> list[Epoch]:
    """Train, or go on; the process's own random state is another one each time."""
    one = program()
    optimizer = torch.optim.SGD(one.net.parameters(), lr=0.05, momentum=0.9)
    unseeded()
    console = console or Console(quiet=True)
    return fit(one, optimizer, _steady(workers), test_set(), EPOCHS, folder, console, checkpoint_every=every)


def _steady(workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    options = {"persistent_workers": True, "generator": torch.Generator()} if workers else {}
    return loader(workers, **options)


def unseeded() -> None:
    """As a process starts: what a run draws must not hang on it."""
    random.seed(os.urandom(8))
    np.random.seed(int.from_bytes(os.urandom(4)))
    torch.seed()


def outcome(folder: Path) -> tuple[str, dict[str, bytes]]:
    """All that a run has come to: its history, and every tensor of its net, momentum too."""
    state = fl.Checkpoints(folder).latest()
    assert state is not None
    assert state["program"]["step"] == TOTAL
    momentum = {f"momentum {key}": one["momentum_buffer"] for key, one in state["optimizer"]["state"].items()}
    tensors: Iterator[tuple[str, Tensor]] = iter({**state["net"], **momentum}.items())
    return (folder / "history.csv").read_text(), {name: one.numpy().tobytes() for name, one in tensors}
