from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

import frostline as fl
from frostline.errors import CheckpointError, FrostlineError
from frostline.training import Epoch, Interrupted, fit
from tests.models.factories import Batches, data, model
from tests.models.small import spec

EPOCHS = 3
QUIET = Console(file=open(os.devnull, "w"))  # noqa: SIM115


class InterruptedAfter:
    """Batches that send Ctrl-C to this process once, after so many of them."""

    def __init__(self, batches: Batches, count: int) -> None:
        self.batches, self.count = batches, count

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.batches:
            self.count -= 1
            if self.count == 0:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


def run(folder: Path, train: Any, **edits: object) -> tuple[fl.Program, list[Epoch]]:
    torch.manual_seed(0)
    program = fl.compile(model(), spec(**edits), (train_x(),), total_steps=EPOCHS * 4)
    optimizer = torch.optim.SGD(program.net.parameters(), lr=0.1, momentum=0.9)
    return program, fit(program, optimizer, train, data()[1], EPOCHS, folder, QUIET)


def train_x() -> Tensor:
    return data()[0][0][0][:4]


def test_a_run_ends_settled_with_a_history(tmp_path: Path) -> None:
    program, history = run(tmp_path, data()[0])
    assert [row.step for row in history] == [4, 8, 12]
    assert history[-1].masked == history[-1].binary
    program.freeze()
    with (tmp_path / "history.csv").open() as file:
        assert [row["window"] for row in csv.DictReader(file)] == [row.window for row in history]


@pytest.mark.parametrize("count", [1, 4, 6, 12])
def test_ctrl_c_and_a_second_start_give_the_same_run(tmp_path: Path, count: int) -> None:
    whole, expected = run(tmp_path / "whole", data()[0])
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", InterruptedAfter(data()[0], count))
    resumed, history = run(tmp_path / "parts", data()[0])
    assert history == expected
    one, other = whole.net.state_dict(), resumed.net.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_spec_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    run(tmp_path, data()[0])
    with pytest.raises(CheckpointError, match=r"turns in \[2, 7\) here and in \[0, 6\) in the checkpoint"):
        run(tmp_path, data()[0], progression__warmup=2)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    run(tmp_path, data()[0])
    raw = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(CheckpointError, match="is damaged"):
        run(tmp_path, data()[0])


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    poisoned = [(x * torch.nan, y) for x, y in data()[0]]
    with pytest.raises(FrostlineError, match="loss nan at step 0, while depth 2 was turning"):
        run(tmp_path, poisoned)
    assert not (tmp_path / "checkpoint.pt").exists()


class Noisy:
    """Batches with noise from torch's own generator, as augmentation draws it."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in self.batches:
            yield x + torch.randn(x.shape), y


def test_resume_is_exact_with_augmentation(tmp_path: Path) -> None:
    whole, expected = run(tmp_path / "whole", Noisy(data()[0]))
    with pytest.raises(Interrupted, match=r"interrupted at step 6 of 12, saved in .*; the same command goes on"):
        run(tmp_path / "parts", Noisy(InterruptedAfter(data()[0], 6)))
    resumed, history = run(tmp_path / "parts", Noisy(data()[0]))
    assert history == expected
    one, other = whole.net.state_dict(), resumed.net.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_batch_that_does_not_fit_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(FrostlineError, match=r"step 0 failed\n.*labels torch\.int64 \[16\]"):
        run(tmp_path, [(x, y + 9) for x, y in data()[0]])
