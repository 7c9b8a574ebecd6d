"""The plan in a loop with accelerate."""

from __future__ import annotations

from torch import nn

from frostline.adapters.checks import check_trained, not_installed
from frostline.adapters.logs import progress
from frostline.errors import UsageError
from frostline.program import Program

try:
    from accelerate import Accelerator
except ImportError as error:
    raise not_installed("accelerate", error) from error


class DrivePlan:
    """Advances a program in a loop of yours, whose state it registers for `accelerator.save_state` and `load_state`.

    `model` is what `accelerator.prepare` made of `program.net`, or of a module that holds it. Every `log_every` steps
    `accelerator.log` is told how far the plan is.

    Raises UsageError where the model lacks the net, or `log_every` is no number of steps; `load_state` raises
    CheckpointError where a checkpoint is of another program.
    """

    def __init__(self, program: Program, model: nn.Module, accelerator: Accelerator, log_every: int = 10) -> None:
        check_trained(program, model)
        if isinstance(log_every, bool) or not isinstance(log_every, int) or log_every < 1:
            raise UsageError(f"log_every is a number of optimizer steps from 1 on, not {log_every!r}")
        self.program, self.accelerator, self.log_every = program, accelerator, log_every
        accelerator.register_for_checkpointing(program)

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
