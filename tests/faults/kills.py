"""Kill a run with SIGKILL at random moments, resume it, and compare the end with a run that was left alone.

`python -m tests.faults.kills --count 50` prints a table; its exit code is 1 where a run did not come out the same.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any

import torch
import typer

from frostline.program import Program
from tests.faults.training import EPOCHS, EVERY, TOTAL, outcome, train

CHANCE = SystemRandom()
SAVES = TOTAL // EVERY + EPOCHS - 1
"""A step that ends an epoch is saved once."""


@dataclass(frozen=True)
class Kill:
    """What became of a run that was killed once and resumed."""

    place: str
    redone: int
    equal: bool


def before(owner: Any, name: str, count: int) -> None:
    """Die before the call of this number."""
    calls = iter(range(1, count + 1))
    real = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) == count:
            die()
        return real(*args, **kwargs)

    setattr(owner, name, dying)


def half_written(count: int) -> None:
    """Die in the middle of writing a checkpoint."""
    share = CHANCE.random()
    calls = iter(range(1, count + 1))
    real = Path.write_bytes

    def dying(path: Path, content: bytes) -> int:
        if next(calls, None) == count:
            real(path, content[: int(share * len(content))])
            die()
        return real(path, content)

    setattr(Path, "write_bytes", dying)  # noqa: B010


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


PLACES: dict[str, Callable[[], None] | None] = {
    "at any moment": None,
    "between the optimizer's step and the plan's": lambda: before(Program, "advance", CHANCE.randint(1, TOTAL)),
    "in the middle of writing a checkpoint": lambda: half_written(CHANCE.randint(1, SAVES)),
    "before a file takes its place": lambda: before(os, "replace", CHANCE.randint(1, 2 * SAVES)),
    "before an old checkpoint goes": lambda: before(Path, "unlink", CHANCE.randint(1, SAVES - 2)),
}


def killed(place: str, folder: Path, seconds: float) -> Kill:
    """Kill a run once, at a random moment of this kind, resume it to its end, and say what it cost.

    `seconds` is what a whole run takes. A run that ended before it could be killed is tried again.
    """
    expected = outcome(folder / "whole")
    for attempt in range(100):
        steps = folder / f"steps-{attempt}"
        run = folder / f"run-{attempt}"
        child = started(run, steps, PLACES[place])
        if PLACES[place] is None:
            time.sleep(CHANCE.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            continue
        if os.waitstatus_to_exitcode(os.waitpid(started(run, steps), 0)[1]):
            return Kill(place, 0, False)
        litter = list(run.glob(".*"))
        return Kill(place, steps.stat().st_size - TOTAL, outcome(run) == expected and not litter)
    raise RuntimeError(f"no run could be killed {place}")


def started(folder: Path, steps: Path, prepare: Callable[[], None] | None = None) -> int:
    """The number of a new process that trains in a folder, and adds a byte to a file for every step."""
    child = os.fork()
    if child:
        return child
    try:
        if prepare:
            prepare()
        counted(steps)
        train(folder)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def counted(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    real = Program.advance

    def advance(program: Program) -> None:
        os.write(file, b".")
        real(program)

    setattr(Program, "advance", advance)  # noqa: B010


def measured(count: int, folder: Path) -> list[Kill]:
    """Kill so many runs, at every place in turn."""
    for name in ("warm", "whole"):
        began = time.perf_counter()
        assert os.waitstatus_to_exitcode(os.waitpid(started(folder / name, folder / f"{name}.txt"), 0)[1]) == 0
    seconds = time.perf_counter() - began
    places = list(PLACES)
    made = []
    for number in range(count):
        own = folder / str(number)
        own.mkdir()
        (own / "whole").symlink_to(folder / "whole")
        made.append(killed(places[number % len(places)], own, seconds))
    return made


def table(kills: list[Kill]) -> str:
    """A row for each place, in Markdown."""
    lines = ["| killed | runs | resumed to the same bits | steps done again, at most |", "|---|---|---|---|"]
    for place in PLACES:
        own = [kill for kill in kills if kill.place == place]
        if own:
            lines.append(f"| {place} | {len(own)} | {sum(one.equal for one in own)} | {max(k.redone for k in own)} |")
    equal, most = sum(one.equal for one in kills), max(one.redone for one in kills)
    return "\n".join([*lines, f"| all | {len(kills)} | {equal} | {most} |"])


def main(count: int = 50) -> None:
    print(
        f"{count} kills of a run of {TOTAL} steps with a checkpoint every {EVERY}, torch {torch.__version__}\n",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        kills = measured(count, Path(folder))
    print(table(kills))
    sys.exit(not all(kill.equal and kill.redone <= EVERY for kill in kills))


if __name__ == "__main__":
    typer.run(main)
