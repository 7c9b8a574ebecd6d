"""The plan in the Trainer of transformers."""

from __future__ import annotations

from typing import Any, cast

from frostline.adapters.checks import check_step, check_training, not_installed, resume
from frostline.adapters.logs import progress
from frostline.program import Program

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise not_installed("transformers", error) from error

_KEY = "frostline"


class DrivePlan(TrainerCallback):
    """Advances a program with its trainer: `Trainer(model=program.net, callbacks=[DrivePlan(program)])`.

    A step of the plan is one of `state.global_step`: an optimizer step, however many batches it gathers. One that a
    GradScaler skipped counts there too, so that the plan ends when the training does. The program's state is part of
    `trainer_state.json` in each checkpoint; with `edited`, one of another spec or budget is taken too, and a warning
    says what differs. How far the plan is joins each row of `state.log_history`.

    Raises UsageError before training where the model lacks the net, where the trainer makes another number of steps
    than the plan has, or begins at another step; CheckpointError where a checkpoint is of another program.
    """

    def __init__(self, program: Program, edited: bool = False) -> None:
        self.program, self.edited = program, edited

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        check_training(self.program, rest["model"], state.max_steps, "TrainingArguments(max_steps={})")
        if _KEY in _saved(state):
            resume(self.program, _saved(state)[_KEY], self.edited)
        check_step(self.program, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        while self.program.step < state.global_step:
            self.program.advance()
        _saved(state)[_KEY] = self.program.state_dict()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        now = progress(self.program)
        rest["logs"].update(now)  # for the callbacks after this one
        state.log_history[-1].update(now)


def _saved(state: TrainerState) -> dict[str, Any]:
    """What the trainer saves of callbacks, by name. Its own way to it, ExportableState, makes them anew from JSON."""
    return cast(dict[str, Any], state.stateful_callbacks)
