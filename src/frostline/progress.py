"""How a run goes, in the terminal: two lines that stay in their place; where the output is piped, a line an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from frostline.compiler.plan import Plan
from frostline.history import Epoch
from frostline.program import Program


@contextmanager
def progress(console: Console, program: Program, history: Sequence[Epoch], last: int) -> Iterator[Callable[[], None]]:
    """Within this context the terminal shows how far a program is of its `last` step; call what it gives each step.

    The history is read as it grows. Nothing is shown where the console is no terminal.
    """
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (BarColumn(None), TextColumn("step {task.completed:,} of {task.total:,},"), TimeRemainingColumn(True))
    bars = Progress(*columns, TextColumn("left"), console=console, expand=True)
    task = bars.add_task("", total=last, completed=program.step)
    with Live(Group(bars, _Status(program, history)), console=console):
        yield lambda: bars.update(task, completed=program.step)


class _Status:
    """The second line, which is only made when it is shown."""

    def __init__(self, program: Program, history: Sequence[Epoch]) -> None:
        self._program, self._history = program, history

    def __rich__(self) -> Text:
        return Text(status(self._program.plan, self._program.step, self._history), no_wrap=True, overflow="ellipsis")


def status(plan: Plan, step: int, history: Sequence[Epoch]) -> str:
    """What turns in a step, how much of it is binary, and both accuracies as they were measured last."""
    window = plan.window_at(step)
    if window is not None:
        entries = sum(math.prod(turn.shape) for turn in window.turns)
        share = sum(turn.fraction(step) * math.prod(turn.shape) for turn in window.turns) / entries
        number = plan.windows.index(window) + 1
        told = [f"{window.label} turning, {share:.0%} binary", f"window {number} of {len(plan.windows)}"]
    else:
        told = ["all settled" if step >= plan.settled_at else f"warm-up until step {plan.windows[0].start:,}"]
    if history:
        told += [f"masked {history[-1].masked:.1%}", f"fully binary {history[-1].binary:.1%}"]
    return "   ".join(told)


def row(measured: Epoch, plan: Plan) -> str:
    """An epoch of the history as a line, with room for the longest name of a window."""
    turning = f"{measured.window} turning" if measured.window else "no window"
    width = max(len(f"{window.label} turning") for window in plan.windows)
    return (
        f"epoch {measured.epoch:3d}  step {measured.step:5d}  {turning:<{width}}  loss {measured.loss:.3f}  "
        f"masked {measured.masked:6.1%}  fully binary {measured.binary:6.1%}"
    )
