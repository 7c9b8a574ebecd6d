"""Clocks that go wrong, and random state that is another one in each process: neither counts."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import frostline as fl
from tests.faults.training import TOTAL, outcome, program, train, unseeded


@pytest.mark.parametrize("dates", [(3, 2, 1), (1, 1, 1), (0, 2**31, 5)])
def test_the_newest_is_of_the_highest_step_whatever_the_dates(tmp_path: Path, dates: tuple[int, ...]) -> None:
    checkpoints = fl.Checkpoints(tmp_path, keep=3)
    for step, date in zip((9, 10, 1_000_000), dates, strict=True):
        os.utime(checkpoints.save(step, {"step": step}), (date, date))
    assert checkpoints.latest() == {"step": 1_000_000}
    assert [path.name[11:-3] for path in checkpoints.paths] == ["000009", "000010", "1000000"]


def test_a_clock_that_is_set_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "whole")
    now = iter(range(2**31, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    train(tmp_path / "parts")
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("step", [0, 1, 5, 13, TOTAL])
def test_masks_hang_on_no_random_state_of_the_process(step: int) -> None:
    x = torch.randn(4, 3, 8, 8)
    advanced, resumed = program(), program()
    unseeded()
    while advanced.step < step:
        advanced.advance()
        random.random(), np.random.rand(), torch.rand(1)  # noqa: S311
    unseeded()
    resumed.driver.resume(step)
    assert torch.equal(advanced.net.eval()(x), resumed.net.eval()(x))


def test_driving_a_plan_draws_nothing_from_the_process() -> None:
    one = program()
    states = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()  # type: ignore[index]
    for _ in range(TOTAL):
        one.advance()
    with one.binarized():
        pass
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tobytes() == states[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_two_runs_from_other_random_states_are_one(tmp_path: Path, workers: int) -> None:
    """The loaders' workers persist, and the loader has a generator of its own: resuming is exact all the same."""
    train(tmp_path / "one", workers=workers)
    train(tmp_path / "two", every=5, workers=workers)
    assert outcome(tmp_path / "one") == outcome(tmp_path / "two")
