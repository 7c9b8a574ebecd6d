from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import frostline as fl
from tests.distributed.ranks import torchrun

MAIN = "examples.distributed.main"
PER_EPOCH = 20


def equal(one: Any, other: Any) -> bool:
    """Whether two states are the same to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def start(folder: Path, module: str = MAIN, ranks: int = 2) -> Any:
    return torchrun(module, "--epochs", "2", "--folder", str(folder), ranks=ranks)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def killed(runs: Path) -> Path:
    """A run of which one rank was killed in the second epoch."""
    done = start(runs / "killed", "tests.distributed.dying")
    assert done.returncode == 1
    assert "SIGKILL" in done.stderr
    return runs / "killed"


def test_after_a_rank_died_a_run_goes_on_as_if_nothing_had_been(runs: Path, killed: Path) -> None:
    assert fl.load_checkpoint(killed / "checkpoint.pt")["program"]["step"] == PER_EPOCH
    again, whole = shutil.copytree(killed, runs / "again"), runs / "whole"
    for folder in (again, whole):
        done = start(folder)
        assert done.returncode == 0, done.stderr
        assert ("continues at step 20 of 40" in done.stdout) == (folder == again)
        assert "16 binary operations give the graph's integers" in done.stdout
    assert equal(fl.load_checkpoint(again / "checkpoint.pt"), fl.load_checkpoint(whole / "checkpoint.pt"))


def test_a_run_goes_on_on_another_number_of_ranks(runs: Path, killed: Path) -> None:
    folder = shutil.copytree(killed, runs / "alone")
    done = start(folder, ranks=1)
    assert done.returncode == 0, done.stderr
    assert "continues at step 20 of 40" in done.stdout
    assert fl.load_checkpoint(folder / "checkpoint.pt")["program"]["step"] == 2 * PER_EPOCH
    assert (folder / "model.onnx").exists()


def test_batches_that_cannot_be_shared_are_refused(runs: Path) -> None:
    done = start(runs / "three", ranks=3)
    assert done.returncode == 1
    assert "error: the batches cannot be shared\n  64 digits and 3 ranks\n    -> start as many as div" in done.stderr
