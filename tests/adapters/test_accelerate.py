from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from torch import nn
from torch.nn import functional

import frostline as fl
from frostline.adapters.accelerate import DrivePlan
from frostline.adapters.logs import progress
from frostline.errors import CheckpointError, UsageError
from tests.adapters.plain import GATHERED, TOTAL, assert_equal, loader, program, sgd, trained


class Kept(GeneralTracker):  # type: ignore[misc]
    """Keeps what accelerate logs."""

    name = "kept"
    requires_logging_directory = False
    main_process_only = False

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, Any]]] = []

    @property
    def tracker(self) -> None:
        return None

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        pass

    def log(self, values: dict[str, Any], step: int | None = None, **rest: Any) -> None:
        self.rows.append((step, values))


class Loop:
    """A program in a loop with accelerate."""

    def __init__(self, one: fl.Program, edited: bool = False, **edits: Any) -> None:
        settings: dict[str, Any] = {"cpu": True, "gradient_accumulation_steps": GATHERED}
        self.accelerator = Accelerator(**settings | edits)
        self.program = one
        self.model, self.optimizer, self.loader = self.accelerator.prepare(one.net, sgd(one.net), loader())
        self.drive = DrivePlan(one, self.model, self.accelerator, edited=edited)

    def run(self, until: int = TOTAL) -> None:
        """Train; until is the end of an epoch."""
        while self.program.step < until:
            for x, y in self.loader:
                with self.accelerator.accumulate(self.model):
                    self.accelerator.backward(functional.cross_entropy(self.model(x), y))
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                self.drive.advance()


def test_training_is_that_of_a_plain_loop() -> None:
    one = program()
    Loop(one).run()
    assert_equal(one, trained(program()))
    one.freeze()


def test_a_run_that_is_resumed_is_the_run_that_was_not_interrupted(tmp_path: Path) -> None:
    first = Loop(program())
    first.run(until=4)
    first.accelerator.save_state(str(tmp_path))
    resumed = Loop(program(seed=9))
    resumed.accelerator.load_state(str(tmp_path))
    resumed.run()
    assert_equal(resumed.program, trained(program()))


def test_the_plan_is_in_accelerate_s_log() -> None:
    kept = Kept()
    loop = Loop(program(), log_with=kept)
    loop.accelerator.init_trackers("a run")
    loop.run()
    ten, twelve = program(), program()
    ten.driver.resume(10)
    twelve.driver.resume(12)
    assert kept.rows == [(10, progress(ten)), (12, progress(twelve))]


class Overflowing(torch.amp.GradScaler):
    """A scaler on the CPU that begins too high, so that its first steps are skipped."""

    def __init__(self) -> None:
        super().__init__("cpu", init_scale=2.0**22)


def test_a_step_that_the_scaler_skips_is_none_of_the_plan_s() -> None:
    one = program()
    accelerator = Accelerator(cpu=True)
    scaler = Overflowing()
    model, optimizer = accelerator.prepare(one.net, sgd(one.net))
    prepared = type(optimizer)(optimizer.optimizer, device_placement=False, scaler=scaler)
    accelerator._optimizers[:] = [prepared]
    drive = DrivePlan(one, model, accelerator)
    seen = []
    for x, y in loader():
        before = [weight.detach().clone() for weight in one.net.parameters()]
        with torch.autocast("cpu", torch.float16):
            loss = functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        prepared.step()
        prepared.zero_grad()
        moved = any(not torch.equal(a, b) for a, b in zip(before, one.net.parameters(), strict=True))
        seen.append((moved, drive.advance()))
    assert all(moved == advanced for moved, advanced in seen)
    assert 0 < one.step == sum(moved for moved, _ in seen) < len(seen)


def test_a_model_without_the_net_is_refused() -> None:
    one = program()
    with pytest.raises(UsageError, match="no part of the model that is trained"):
        DrivePlan(one, nn.Linear(2, 2), Accelerator(cpu=True))


@pytest.mark.parametrize("log_every", [0, -1, 1.5, True])
def test_a_cadence_is_a_number_of_steps(log_every: Any) -> None:
    one = program()
    with pytest.raises(UsageError, match="log_every is a number of optimizer steps"):
        DrivePlan(one, one.net, Accelerator(cpu=True), log_every=log_every)


def test_a_checkpoint_of_another_spec_is_refused(tmp_path: Path) -> None:
    Loop(program()).accelerator.save_state(str(tmp_path))
    other = Loop(program(progression__curve={"kind": "linear"}))
    with pytest.raises(CheckpointError, match=r"progression\.curve"):
        other.accelerator.load_state(str(tmp_path))


def test_a_checkpoint_of_another_spec_is_taken_when_told_to(tmp_path: Path) -> None:
    first = Loop(program())
    first.run(until=4)
    first.accelerator.save_state(str(tmp_path))
    other = Loop(program(progression__curve={"kind": "linear"}), edited=True)
    with pytest.warns(UserWarning, match=r"goes on under another plan:[\s\S]*progression\.curve"):
        other.accelerator.load_state(str(tmp_path))
    assert other.program.step == 4
    other.run()
    other.program.freeze()
