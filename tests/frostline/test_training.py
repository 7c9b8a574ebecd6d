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
from frostline.errors import CheckpointError, FrostlineError, UsageError
from frostline.history import Epoch
from frostline.records import read_records
from frostline.training import Interrupted, fit, replan
from tests.models.factories import Batches, data, model
from tests.models.small import chain, spec

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


def run(
    folder: Path, train: Any, console: Console = QUIET, checkpoint_every: int | None = None, **edits: object
) -> tuple[fl.Program, list[Epoch]]:
    torch.manual_seed(0)
    program = fl.compile(model(), spec(**edits), (train_x(),), total_steps=EPOCHS * 4)
    optimizer = torch.optim.SGD(program.net.parameters(), lr=0.1, momentum=0.9)
    rows = fit(program, optimizer, train, data()[1], EPOCHS, folder, console, checkpoint_every=checkpoint_every)
    return program, rows


def same(one: fl.Program, other: fl.Program) -> bool:
    first, second = one.net.state_dict(), other.net.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


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


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, expected = run(tmp_path, data()[0])
    newest = fl.Checkpoints(tmp_path).paths[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    resumed, history = run(tmp_path, data()[0], Console(width=500))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("warning: the checkpoint ")
    assert said[0].endswith("is damaged: truncated or altered; checkpoint-000008.pt is used in its place")
    assert said[1] == f"{tmp_path} continues at step 8 of 12"
    assert history == expected
    assert same(whole, resumed)


def test_where_no_checkpoint_is_good_the_run_does_not_begin_anew(tmp_path: Path) -> None:
    run(tmp_path, data()[0])
    for path in fl.Checkpoints(tmp_path).paths:
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is good\n.*000012.pt is damaged.*\n.*000008.pt is"):
        run(tmp_path, data()[0])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 11])
def test_checkpoints_between_epochs_change_nothing(tmp_path: Path, count: int) -> None:
    whole, expected = run(tmp_path / "whole", Noisy(data()[0]))
    with pytest.raises(KilledError):
        run(tmp_path / "parts", Noisy(FailingAfter(data()[0], count)), checkpoint_every=1)
    step = fl.load_checkpoint(fl.Checkpoints(tmp_path / "parts").paths[-1])["program"]["step"] if count > 1 else 0
    assert step == count - 1
    resumed, history = run(tmp_path / "parts", Noisy(data()[0]), checkpoint_every=1)
    assert history == expected
    assert same(whole, resumed)


def test_tables_that_are_older_than_the_checkpoint_are_written_again(tmp_path: Path) -> None:
    run(tmp_path, data()[0])
    table = (tmp_path / "history.csv").read_text()
    (tmp_path / "history.csv").write_text(table.splitlines()[0])
    run(tmp_path, data()[0])
    assert (tmp_path / "history.csv").read_text() == table


def test_a_run_goes_on_under_an_edited_spec(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, InterruptedAfter(data()[0], 6))
    torch.manual_seed(1)
    edited = fl.compile(model(), spec(progression__warmup=2), (train_x(),), total_steps=EPOCHS * 4)
    assert "3.weight turns in [2, 7) here and in [0, 6) in the checkpoint" in replan(edited, tmp_path)
    assert edited.step == 6
    program, history = run(tmp_path, data()[0], progression__warmup=2)
    assert [row.step for row in history] == [4, 8, 12]
    program.freeze()
    assert replan(edited, tmp_path) == ""


def test_another_model_is_no_edited_spec(tmp_path: Path) -> None:
    run(tmp_path, data()[0])
    other = fl.compile(chain(layers=3, width=4), spec(), (train_x(),), total_steps=EPOCHS * 4)
    with pytest.raises(CheckpointError, match=r"is of another model\n(.|\n)*9\.weight turns only in this program"):
        replan(other, tmp_path)


class KilledError(Exception):
    pass


class FailingAfter(InterruptedAfter):
    """Batches that fail instead of the last of so many."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.batches:
            self.count -= 1
            if self.count == 0:
                raise KilledError
            yield batch


class PoisonedAt:
    """Batches of which one, counted over all epochs, is not a number."""

    def __init__(self, batches: Batches, step: int) -> None:
        self.batches, self.step, self.served = batches, step, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in self.batches:
            yield (x * torch.nan if self.served == self.step else x), y
            self.served += 1


@pytest.mark.parametrize(("step", "turning"), [(0, "depth 2 was turning"), (5, "depth 2 was turning")])
def test_a_loss_that_is_not_finite_names_its_step_and_what_was_turning(tmp_path: Path, step: int, turning: str) -> None:
    with pytest.raises(FrostlineError, match=f"loss nan at step {step}, while {turning}"):
        run(tmp_path, PoisonedAt(data()[0], step))


@pytest.mark.parametrize(("step", "turning"), [(6, "while depth 3 was turning"), (10, "outside of any window")])
def test_what_is_not_a_number_is_seen_through_settled_depths(tmp_path: Path, step: int, turning: str) -> None:
    with pytest.raises(FrostlineError, match=f"loss nan at step {step}, {turning}"):
        run(tmp_path, PoisonedAt(data()[0], step), progression__tail=2)


def test_after_a_bad_loss_the_last_good_checkpoint_goes_on(tmp_path: Path) -> None:
    whole, expected = run(tmp_path / "whole", data()[0])
    with pytest.raises(FrostlineError, match=r"loss nan at step 5, .*\n.*the last good checkpoint is kept"):
        run(tmp_path / "parts", PoisonedAt(data()[0], 5))
    with (tmp_path / "parts" / "history.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["4"]
    resumed, history = run(tmp_path / "parts", data()[0])
    assert history == expected
    one, other = whole.net.state_dict(), resumed.net.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_bad_loss_is_noticed_long_before_the_end_of_an_epoch(tmp_path: Path) -> None:
    batches = PoisonedAt(data()[0] * 40, 3)
    program = fl.compile(model(), spec(), (train_x(),), total_steps=160)
    optimizer = torch.optim.SGD(program.net.parameters(), lr=0.1)
    with pytest.raises(FrostlineError, match="loss nan at step 3,"):
        fit(program, optimizer, batches, data()[1], 1, tmp_path, QUIET)
    assert batches.served < 100
    assert not fl.Checkpoints(tmp_path).paths


def test_ctrl_c_saves_no_bad_state(tmp_path: Path) -> None:
    with pytest.raises(FrostlineError, match="loss nan at step 1,"):
        run(tmp_path, InterruptedAfter(list(PoisonedAt(data()[0], 1)), 3))
    assert not fl.Checkpoints(tmp_path).paths


def test_a_state_that_is_not_a_number_is_never_saved(tmp_path: Path) -> None:
    """Running statistics count neither in the loss nor among the weights."""
    program = fl.compile(model(), spec(), (train_x(),), total_steps=EPOCHS * 4)
    optimizer = torch.optim.SGD(program.net.parameters(), lr=0.1)
    statistics = dict(program.net.named_buffers())["4.running_mean"]
    train = Spoiling(data()[0], statistics, 7)
    with pytest.raises(FrostlineError, match=r"4\.running_mean is not finite after step 7\n.*good checkpoint is kept"):
        fit(program, optimizer, train, data()[1], EPOCHS, tmp_path, QUIET)
    assert [path.name for path in fl.Checkpoints(tmp_path).paths] == ["checkpoint-000004.pt"]


class Spoiling(PoisonedAt):
    """Batches that come with a tensor of the model turned to NaN in one step, and themselves stay good."""

    def __init__(self, batches: Batches, tensor: Tensor, step: int) -> None:
        super().__init__(batches, -1)
        self.tensor, self.spoilt = tensor, step

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in super().__iter__():
            if self.served == self.spoilt:
                self.tensor.fill_(torch.nan)
            yield batch


def probed(folder: Path, train: Any) -> tuple[fl.Program, list[Epoch]]:
    torch.manual_seed(0)
    program = fl.compile(model(), spec(), (train_x(),), total_steps=EPOCHS * 4)
    optimizer = torch.optim.SGD(program.net.parameters(), lr=0.1, momentum=0.9)
    return program, fit(program, optimizer, train, data()[1], EPOCHS, folder, QUIET, probe_every=5)


def test_a_probe_records_beside_the_history_and_changes_nothing(tmp_path: Path) -> None:
    plain, expected = run(tmp_path / "plain", Noisy(data()[0]))
    program, history = probed(tmp_path / "probed", Noisy(data()[0]))
    assert history == expected
    one, other = plain.net.state_dict(), program.net.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    rows = read_records(tmp_path / "probed" / "probe.csv")
    assert [row.step for row in rows if row.site == "3.weight"] == [0, 5, 10, 12]
    assert (rows[-1].masked, rows[-1].binary) == (history[-1].masked, history[-1].binary)
    assert not (tmp_path / "plain" / "probe.csv").exists()


@pytest.mark.parametrize("count", [4, 6])
def test_a_table_goes_on_after_ctrl_c(tmp_path: Path, count: int) -> None:
    probed(tmp_path / "whole", Noisy(data()[0]))
    with pytest.raises(Interrupted):
        probed(tmp_path / "parts", Noisy(InterruptedAfter(data()[0], count)))
    probed(tmp_path / "parts", Noisy(data()[0]))
    assert (tmp_path / "parts" / "probe.csv").read_text() == (tmp_path / "whole" / "probe.csv").read_text()


def test_a_cadence_is_a_number_of_steps(tmp_path: Path) -> None:
    program = fl.compile(model(), spec(), (train_x(),), total_steps=4)
    with pytest.raises(UsageError, match="probe_every is a positive number of steps, not 0"):
        fit(program, torch.optim.SGD(program.net.parameters()), *data(), 1, tmp_path, QUIET, probe_every=0)
    with pytest.raises(UsageError, match="checkpoint_every is a positive number of steps, not -1"):
        fit(program, torch.optim.SGD(program.net.parameters()), *data(), 1, tmp_path, QUIET, checkpoint_every=-1)


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
