"""Cells on CIFAR: the same methods, trained by the script of `examples/cifar` with the paper's recipe."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import torch

from examples.ablations.cells import Cell
from examples.cifar.data import Data, load
from examples.cifar.recipe import settings_of
from examples.cifar.train import Training

RUNS = Path("runs/ablations")


def run(cell: Cell, source: Path) -> dict[str, Any]:
    """Train a cell on a GPU where there is one, from its checkpoint where it has one, and return its line."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    budget = {"seed": cell.seed, "epochs": cell.epochs, "width": cell.width, "measure_every": cell.epochs}
    settings = settings_of(f"{cell.data}-{cell.network}-stompp", budget).on(device)
    name = blake2b(repr(cell).encode(), digest_size=6).hexdigest()
    training = Training(settings, _data(cell.data, source), RUNS / name, source, device, spec=cell.spec)
    history = [*training.history, *training.run()]
    reached = cast(float, history[-1].binary)  # the last epoch is measured
    return cell.line(reached, sum(epoch.seconds for epoch in history), device)


@cache
def _data(name: str, source: Path) -> Data:
    return load(name, source, None)
