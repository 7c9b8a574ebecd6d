"""A cell of a study: one network, one method, one seed. On digits it takes half a minute, and needs no GPU."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

import frostline as fl
from examples.ablations.studies import METHODS, STUDIES
from examples.digits.network import plain, residual
from examples.digits.training import accuracy
from examples.results import Line, where_and_when
from frostline.schedules import ScheduleSpec

KINDS = {"plain": plain, "residual": residual}
ON_DIGITS = {"progression.warmup": 0, "progression.tail": "5%", "progression.refresh": {"rate": 20}}
"""What digits change in the spec of StoMPP: the budget is short, and so is the life of a mask."""


@dataclass(frozen=True)
class Cell:
    """What is trained. `width` is the number of channels of a network for digits, and multiplies those of another."""

    data: str
    network: str
    method: str
    seed: int
    epochs: int
    width: float

    @property
    def spec(self) -> ScheduleSpec:
        """The schedule of the cell's method, with its masks drawn from the cell's seed."""
        common = ON_DIGITS if self.data == "digits" else {}
        return fl.edit_spec(fl.load_spec("stompp"), {**common, **METHODS[self.method], "seed": self.seed})

    @classmethod
    def of(cls, line: Line) -> Cell:
        """The cell that a line is the result of."""
        return cls(**{field.name: line[field.name] for field in fields(cls)})

    def run_on_digits(self) -> dict[str, Any]:
        """Train it on the CPU, and return its line."""
        began = time.perf_counter()
        kind, depth = self.network.split("-")
        torch.manual_seed(self.seed)
        reached = accuracy(KINDS[kind](int(self.width), int(depth)), self.spec, self.epochs)
        return self.line(reached, time.perf_counter() - began, torch.device("cpu"))

    def line(self, reached: float, seconds: float, device: torch.device) -> dict[str, Any]:
        """The result of the cell: the share of test images that the fully binary network gets right."""
        known = {**asdict(self), "binary": reached, "seconds": round(seconds, 1), "spec": self.spec.as_data()}
        return {**known, **where_and_when(device)}


def cells_of(studies: Iterable[str], data: str, seeds: Iterable[int], epochs: int, width: float) -> list[Cell]:
    """Every cell of some studies, seed by seed, without repetition."""
    found = {
        Cell(data, network, method, seed, epochs, width): None
        for seed in seeds
        for study in studies
        for network in STUDIES[study].networks(data)
        for method in STUDIES[study].methods
    }
    return list(found)


def check(line: Line) -> None:
    """Raise KeyError, TypeError or ValueError where a line is no result of a cell."""
    Cell.of(line)
    if not 0 <= float(line["binary"]) <= 1:
        raise ValueError(f"an accuracy of {line['binary']}")
