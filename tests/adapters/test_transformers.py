from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Trainer, TrainerCallback, TrainingArguments

import frostline as fl
from frostline.adapters.logs import progress
from frostline.adapters.transformers import DrivePlan
from frostline.errors import CheckpointError, UsageError
from tests.adapters.plain import BATCHES, GATHERED, SIZE, TOTAL, assert_equal, program, samples, sgd, trained


class Classifier(nn.Module):
    """What the Trainer takes: a loss and logits, by name."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


class Stop(TrainerCallback):
    """Ends a run, as an interruption would."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == self.at:
            control.should_training_stop = True


class Seen(TrainerCallback):
    """Keeps what a reporter is given."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        self.rows.append(dict(logs))


def trainer(one: fl.Program, folder: Path, *callbacks: TrainerCallback, model: Any = None, **edits: Any) -> Trainer:
    settings: dict[str, Any] = {
        "output_dir": str(folder), "num_train_epochs": 3, "gradient_accumulation_steps": GATHERED, "use_cpu": True,
        "per_device_train_batch_size": SIZE, "train_sampling_strategy": "sequential", "max_grad_norm": 0.0,
        "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip
    optimizer = sgd(one.net)
    return Trainer(
        model=Classifier(one.net) if model is None else model,
        args=TrainingArguments(**settings | edits),
        train_dataset=[{"x": x, "labels": y} for x, y in samples()],
        callbacks=[DrivePlan(one), *callbacks],
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)),
    )


def test_training_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    one = program()
    trainer(one, tmp_path).train()
    assert one.step == TOTAL
    assert_equal(one, trained(program()))
    one.freeze()


def test_the_net_itself_can_be_the_trainer_s_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier(program().model)
    example = {"x": torch.zeros(2, 3, 8, 8), "labels": torch.zeros(2, dtype=torch.int64)}
    spec = program().plan.spec
    one = fl.compile(model, spec, (), total_steps=TOTAL, example_kwargs=example)
    trainer(one, tmp_path, model=one.net).train()
    assert one.step == TOTAL
    one.freeze((torch.zeros(2, 3, 8, 8),), {"labels": torch.zeros(2, dtype=torch.int64)})


@pytest.mark.parametrize(("at", "hold"), [(4, False), (4, True), (7, False)])
def test_a_run_that_is_resumed_is_the_run_that_was_not_interrupted(tmp_path: Path, at: int, hold: bool) -> None:
    """Step 7 lies within an epoch."""
    first = program(progression__hold=hold)
    trainer(first, tmp_path, Stop(at), save_strategy="steps", save_steps=at).train()
    assert first.step == at
    resumed = program(seed=9, progression__hold=hold)
    checkpoint = tmp_path / f"checkpoint-{at}"
    trainer(resumed, tmp_path).train(resume_from_checkpoint=str(checkpoint))
    assert_equal(resumed, trained(program(progression__hold=hold)))


def test_callbacks_that_restore_themselves_do_not_mind(tmp_path: Path) -> None:
    first, resumed = program(), program(seed=9)
    trainer(first, tmp_path, Stop(4), save_strategy="steps", save_steps=4).train()
    again = trainer(resumed, tmp_path, restore_callback_states_from_checkpoint=True)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert_equal(resumed, trained(program()))


def test_the_plan_is_in_the_trainer_s_log(tmp_path: Path) -> None:
    one = program()
    seen = Seen()
    made = trainer(one, tmp_path, seen)
    made.train()
    expected = []
    other = program()
    for _ in range(TOTAL):
        other.advance()
        expected.append(progress(other))
    names = expected[0]
    for rows in (made.state.log_history, seen.rows):
        steps = [row for row in rows if "loss" in row]
        assert [{name: row[name] for name in names} for row in steps] == expected


def test_in_front_of_the_reporters_they_get_the_plan_too(tmp_path: Path) -> None:
    one = program()
    made, seen = trainer(one, tmp_path), Seen()
    made.callback_handler.callbacks.insert(0, seen)
    drive = made.pop_callback(DrivePlan)
    made.callback_handler.callbacks.insert(0, drive)
    made.train()
    assert all(row["frostline/step"] == step for step, row in enumerate(seen.rows[:TOTAL], 1))


def test_the_state_is_in_the_checkpoint(tmp_path: Path) -> None:
    one = program()
    trainer(one, tmp_path, save_strategy="steps", save_steps=6).train()
    for step in (6, 12):
        state = json.loads((tmp_path / f"checkpoint-{step}" / "trainer_state.json").read_text())
        assert state["stateful_callbacks"]["frostline"]["step"] == step


def test_a_model_without_the_net_and_another_budget_are_refused_at_once(tmp_path: Path) -> None:
    one = program()
    with pytest.raises(UsageError) as caught:
        trainer(one, tmp_path, model=Classifier(one.model), num_train_epochs=4).train()
    assert str(caught.value) == (
        "the training does not fit the program\n"
        "  program.net is no part of the model that is trained\n"
        "    -> train program.net, or a module that holds it: self.net = program.net\n"
        "  the plan has 12 optimizer steps, and the trainer makes 16\n"
        "    -> TrainingArguments(max_steps=12), or fl.compile(..., total_steps=16)"
    )


def test_max_steps_count_optimizer_steps(tmp_path: Path) -> None:
    one = program()
    trainer(one, tmp_path, num_train_epochs=1, max_steps=TOTAL).train()
    assert_equal(one, trained(program()))
    assert TOTAL > BATCHES // GATHERED


def test_a_program_that_is_ahead_of_the_trainer_is_refused(tmp_path: Path) -> None:
    one = program()
    one.advance()
    with pytest.raises(UsageError, match="the program is at step 1 of its plan, and the trainer at step 0"):
        trainer(one, tmp_path).train()


def test_a_checkpoint_without_the_plan_is_refused(tmp_path: Path) -> None:
    one, again = program(), program()
    made = trainer(one, tmp_path, save_strategy="steps", save_steps=4)
    made.remove_callback(DrivePlan)
    made.train()
    with pytest.raises(UsageError, match="the program is at step 0 of its plan, and the trainer at step 4"):
        trainer(again, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_a_checkpoint_of_another_spec_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    one, other = program(), program(progression__curve={"kind": "linear"})
    trainer(one, tmp_path, save_strategy="steps", save_steps=4).train()
    with pytest.raises(CheckpointError, match=r"progression\.curve"):
        trainer(other, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    told = trainer(other, tmp_path)
    told.remove_callback(DrivePlan)
    told.add_callback(DrivePlan(other, edited=True))
    with pytest.warns(UserWarning, match=r"goes on under another plan:[\s\S]*progression\.curve"):
        told.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert other.step == TOTAL
    other.freeze()
