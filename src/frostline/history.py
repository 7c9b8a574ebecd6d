"""The history of a run: one row an epoch, as CSV."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from frostline.tables import Row, Share, Step, parsed, text_of, write


class Epoch(Row):
    """One row of a run's history. Accuracies are shares of the test set, masked and fully binary."""

    epoch: Step
    step: Step
    window: str
    loss: float
    masked: Share
    binary: Share


def write_history(path: Path, history: Iterable[Epoch]) -> None:
    """Write the rows to a file, whole or not at all. Raises FileError when it cannot be written."""
    write(path, Epoch, history)


def read_history(path: Path) -> list[Epoch]:
    """The rows of a file. Raises FileError when it cannot be read or is damaged, with every line that is."""
    return [row for _, row in parsed(Epoch, text_of(path), str(path), "the history of a run")]
