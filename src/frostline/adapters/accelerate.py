"""The plan in a loop with accelerate."""

from __future__ import annotations

from typing import Any

from torch import nn

from frostline.adapters.checks import check_trained, not_installed, resume
from frostline.adapters.logs import progress
from frostline.errors import UsageError
from frostline.program import Program

try:
    from accelerate import Accelerator
except ImportError as error:
    raise not_installed("accelerate", error) from error


class DrivePlan:
    """Advances a program in a loop of yours; its state is part of what `accelerator.save_state` writes.

    `model` is what `accelerator.prepare` made of `program.net`, or of a module that holds it. Every `log_every` steps
    `accelerator.log` is told how far the plan is. With `edited`, `load_state` takes a checkpoint of another spec or
    budget too, and a warning says what differs.

    Raises UsageError where the model lacks the net, or `log_every` is no number of steps; `load_state` raises
    CheckpointError where a checkpoint is of another program.
    """

    def __init__(
        self,
        program: Program,
        model: nn.Module,
        accelerator: Accelerator,
        *,
        log_every: int = 10,
        edited: bool = False,
    ) -> None:
        check_trained(program, model)
        if isinstance(log_every, bool) or not isinstance(log_every, int) or log_every < 1:
            raise UsageError(f"log_every is a number of optimizer steps from 1 on, not {log_every!r}")
        self.program, self.accelerator, self.log_every, self.edited = program, accelerator, log_every, edited
        accelerator.register_for_checkpointing(self)

    def advance(self) -> bool:
        """Call it after every `optimizer.step()`: the plan advances where that was a step, and then this is true.

        It is none while gradients gather (`accelerator.accumulate`), or where a GradScaler skipped it.
        """
        if not self.accelerator.sync_gradients or self.accelerator.optimizer_step_was_skipped:
            return False
        self.program.advance()
        if self.program.step % self.log_every == 0 or self.program.step == self.program.plan.total_steps:
            self.accelerator.log(progress(self.program), step=self.program.step)
        return True

    def state_dict(self) -> dict[str, Any]:
        return self.program.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        resume(self.program, state, self.edited)
