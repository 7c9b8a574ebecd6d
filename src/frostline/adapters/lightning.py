"""The plan in a Lightning Trainer."""

from __future__ import annotations

from typing import Any, cast

from frostline.adapters.checks import check_step, check_training, not_installed, resume
from frostline.adapters.logs import progress
from frostline.program import Program

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise not_installed("lightning", error) from error


class DrivePlan(Callback):
    """Advances a program with its trainer: `Trainer(max_steps=..., callbacks=[DrivePlan(program)])`.

    The LightningModule holds the net, `self.net = program.net`. A step of the plan is one of `trainer.global_step`:
    an optimizer step, however many batches it gathers. One that a GradScaler skipped counts there too, so that the
    plan ends when the training does. The program's state is part of Lightning's checkpoints; with `edited`, one of
    another spec or budget is taken too, and a warning says what differs.

    Raises UsageError before training where the module lacks the net, where the trainer makes another number of steps
    than the plan has (not in a `fast_dev_run`), or begins at another step; CheckpointError where a checkpoint is of
    another program.
    """

    def __init__(self, program: Program, edited: bool = False) -> None:
        self.program, self.edited = program, edited

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Steps that the module makes itself are known by max_steps alone.
        steps = trainer.estimated_stepping_batches if pl_module.automatic_optimization else trainer.max_steps
        if cast(Any, trainer).fast_dev_run:
            steps = self.program.plan.total_steps
        check_training(self.program, pl_module, steps, "Trainer(max_epochs=-1, max_steps={})")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_step(self.program, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        while self.program.step < trainer.global_step:
            self.program.advance()
        pl_module.log_dict(progress(self.program), on_step=True, on_epoch=False)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # WeightAveraging has given the net averages of all buffers, and masks have none: they follow from the step.
        self.program.driver.resume(self.program.step)

    def state_dict(self) -> dict[str, Any]:
        return self.program.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        resume(self.program, state_dict, self.edited)
