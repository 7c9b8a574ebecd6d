"""The reference loop behind `frostline train` and the examples: plain classification, resumable to the bit.

It uses nothing but the public interface; your own loop needs only `program.advance()` after each optimizer step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from frostline.compiler.capture.user_line import user_line
from frostline.compiler.checkpoint import Checkpoints
from frostline.compiler.files import sweep
from frostline.divergence import FirstBad, not_finite
from frostline.errors import CheckpointError, FrostlineError, Offence, UsageError, first_line
from frostline.history import Epoch, write_history
from frostline.measuring import Batches, accuracies, evenly, samples
from frostline.probe import Probe
from frostline.program import Program
from frostline.progress import progress, row
from frostline.randomness import epoch_batches, random_state

HISTORY = "history.csv"
PROBE = "probe.csv"

_LOOKS = 50
"""The steps between two looks at the losses, each of which waits for the device."""
_SAMPLES, _GRADIENTS = 128, 32
"""The test samples of which a probe is given accuracies, and of those the ones that it follows the gradient of."""


class Interrupted(FrostlineError):  # noqa: N818
    """Ctrl-C, after the checkpoint was written."""

    exit_code = 130


@dataclass(frozen=True)
class _Run:
    """What a run's checkpoint holds, where it is, and the first step whose loss was not finite."""

    program: Program
    optimizer: torch.optim.Optimizer
    folder: Path
    bad: FirstBad
    probe: Probe | None
    random: dict[str, Any] | None = None
    """The random state to go on with in the middle of an epoch."""


def fit(
    program: Program,
    optimizer: torch.optim.Optimizer,
    train: Batches,
    test: Batches,
    epochs: int,
    folder: Path,
    console: Console | None = None,
    probe_every: int | None = None,
    checkpoint_every: int | None = None,
) -> list[Epoch]:
    """Train to the end of the plan, or on from the newest good checkpoint in `folder`, and return the history.

    A checkpoint is written after every epoch, with `checkpoint_every` also every so many steps, and on Ctrl-C, which
    raises Interrupted; the last two stay. A run that anything else stops, be it `kill -9`, does the steps since the
    last one again, to the bit: history and weights are in the end what they would have been. When an epoch begins, the
    random state of torch, numpy and Python is set to a function of seed and epoch.

    With `probe_every`, a Probe records every so many steps, with both accuracies of 128 test samples, and `probe.csv`
    is written beside the history; training itself stays the same to the bit.

    Raises CheckpointError when no checkpoint of the folder is good, or it is of another run, FileError when one cannot
    be written, and FrostlineError, naming the step and what was turning, when the loss or a weight is no longer finite:
    the last good checkpoint is kept then.
    """
    for name, steps in (("probe_every", probe_every), ("checkpoint_every", checkpoint_every)):
        if steps is not None and steps < 1:
            raise UsageError(f"{name} is a positive number of steps, not {steps}")
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    console = console or Console()
    device = next(program.net.parameters()).device
    sample = samples(test, _SAMPLES, device) if probe_every else None
    probe = _probe(program, sample) if sample else None
    run, history = _resume(_Run(program, optimizer, folder, FirstBad(device), probe), console)
    last = epochs * len(train)
    with _interrupts() as interrupted, progress(console, program, history, last) as shown:
        if sample and program.step == 0:
            _record(run, sample)
        for epoch in range(program.step // len(train), epochs):
            loss = torch.zeros(())
            for batch in _rest(train, run, epoch):
                loss = _step(run, batch, device)
                if program.step % _LOOKS == 0:
                    _check(run)
                if sample and probe_every and (program.step % probe_every == 0 or program.step == last):
                    _record(run, sample)
                shown()
                if program.step % len(train) == 0:
                    continue
                if interrupted.is_set() or (checkpoint_every and program.step % checkpoint_every == 0):
                    _save(run, history)
                if interrupted.is_set():
                    raise _interrupted(program, folder)
            history.append(_measure(program, test, epoch + 1, float(loss), device))
            _save(run, history)
            if not console.is_terminal:
                console.print(row(history[-1], program.plan), soft_wrap=True)
            if interrupted.is_set():
                raise _interrupted(program, folder)
    return history


def _step(run: _Run, batch: Any, device: torch.device) -> Tensor:
    x, y = batch
    program = run.program
    program.net.train()
    try:
        loss = functional.cross_entropy(program.net(x.to(device)), y.to(device))
        run.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        shown = f"the batch: inputs {x.dtype} {list(x.shape)}, labels {y.dtype} {list(y.shape)}"
        remedy = "inputs have the example's shape beside the batch, labels are class numbers"
        what = f"{first_line(error)}; {shown}"
        raise FrostlineError(f"step {program.step} failed", [Offence(what, user_line(error), remedy)]) from error
    run.optimizer.step()
    run.bad.see(program.step, loss.detach(), program.net.parameters())
    program.advance()
    return loss.detach()


def _rest(train: Batches, run: _Run, epoch: int) -> Iterator[Any]:
    """The batches of an epoch that are still to be done."""
    done = run.program.step - epoch * len(train)
    yield from epoch_batches(train, run.program.plan.spec.seed, epoch, done, run.random if done else None)


def _probe(program: Program, sample: tuple[Tensor, Tensor]) -> Probe:
    x, y = evenly(sample, _GRADIENTS)
    return Probe(program, lambda net: functional.cross_entropy(net(x), y))


def _record(run: _Run, sample: tuple[Tensor, Tensor]) -> None:
    _check(run)
    if run.probe:
        run.probe.record(*accuracies(run.program, [sample], sample[0].device))


def _measure(program: Program, test: Batches, epoch: int, loss: float, device: torch.device) -> Epoch:
    window = program.plan.window_at(program.step - 1)
    masked, binary = accuracies(program, test, device)
    label = window.label if window else ""
    return Epoch(epoch=epoch, step=program.step, window=label, loss=loss, masked=masked, binary=binary)


def _save(run: _Run, history: list[Epoch]) -> None:
    """Write the run's files, unless its state is bad."""
    _check(run)
    names = list(not_finite(run.program.net))
    if names:
        raise _diverged(run, [f"{name} is not finite after step {run.program.step - 1}" for name in names])
    state = {
        "program": run.program.state_dict(),
        "net": run.program.net.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "history": [row.model_dump() for row in history],
        "random": random_state(),
    }
    if run.probe:
        state["probe"] = run.probe.state_dict()
    Checkpoints(run.folder).save(run.program.step, state)
    _write_tables(run, history)


def _write_tables(run: _Run, history: list[Epoch]) -> None:
    write_history(run.folder / HISTORY, history)
    if run.probe:
        run.probe.write(run.folder / PROBE)


def _resume(run: _Run, console: Console) -> tuple[_Run, list[Epoch]]:
    program = run.program
    if not Checkpoints(run.folder).paths:
        return run, []
    state = restore(program, run.folder, lambda text: console.print(f"warning: {text}", soft_wrap=True))
    try:
        run.optimizer.load_state_dict(state["optimizer"])
        history = [Epoch(**row) for row in state["history"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run.folder} is of another optimizer", [Offence(str(error))]) from error
    if run.probe and "probe" in state:
        run.probe.load_state_dict(state["probe"])
    _write_tables(run, history)  # they may be older than the checkpoint, or newer
    total = program.plan.total_steps
    said = "is trained already" if program.step >= total else "continues"
    console.print(f"{run.folder} {said} at step {program.step} of {total}", soft_wrap=True)
    return replace(run, random=state["random"]), history


def restore(program: Program, folder: Path, say: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Bring a program to the state of a run's newest good checkpoint, and return all that the checkpoint holds.

    A damaged one is passed over, with a warning or with a line for `say`. Raises CheckpointError when none is good, or
    it is of another model, spec or budget.
    """
    state = _state_of_run(folder, say)
    program.load_state_dict(state["program"])
    _load_net(program, state)
    return state


def replan(program: Program, folder: Path, say: Callable[[str], None] | None = None) -> str:
    """Give a run's newest good checkpoint the plan of this program, made under an edited spec, and return what differs.

    The run then goes on under the new plan from the step where it is. Nothing is written where nothing differs. Raises
    CheckpointError when no checkpoint is good, or it is of another model.
    """
    state = _state_of_run(folder, say)
    differences = program.load_state_dict(state["program"], edited=True)
    _load_net(program, state)
    if differences:
        if not state["program"]["shapes"].keys() <= program.state_dict()["shapes"].keys():
            state.pop("probe", None)  # its table has sites that turn no longer: it begins anew
        state["program"] = program.state_dict()
        Checkpoints(folder).save(program.step, state)
    return differences


def _state_of_run(folder: Path, say: Callable[[str], None] | None) -> dict[str, Any]:
    state = Checkpoints(folder).latest(say)
    if state is None:
        raise CheckpointError(f"{folder} holds no checkpoint")
    if not {"program", "net", "optimizer", "history", "random"} <= state.keys():
        raise CheckpointError(f"{folder} does not hold the checkpoints of a run")
    return state


def _load_net(program: Program, state: dict[str, Any]) -> None:
    own, given = program.net.state_dict(), state["net"]
    if not isinstance(given, Mapping):
        raise CheckpointError("the checkpoint holds no weights", [Offence(f"its net is a {type(given).__name__}")])
    faults = [
        Offence(f"{name} is {_told(own, name)} here and {_told(given, name)} in the checkpoint")
        for name in dict.fromkeys([*own, *given])
        if _told(own, name) != _told(given, name)
    ]
    if faults:
        raise CheckpointError("the checkpoint is of another model", faults)
    program.net.load_state_dict(given)


def _told(state: Mapping[Any, Any], name: Any) -> str:
    """What is held by a name, as far as it has to be alike for weights to be loaded as they are."""
    value = state.get(name)
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return "nothing" if name not in state else f"a {type(value).__name__}"


def _check(run: _Run) -> None:
    """Stop where a loss or a weight was not finite, and say in which step."""
    if told := run.bad.told(run.program.plan):
        raise _diverged(run, [told])


def _diverged(run: _Run, faults: list[str]) -> FrostlineError:
    kept = "; the last good checkpoint is kept" if Checkpoints(run.folder).paths else ""
    return FrostlineError(
        "training diverged", [Offence(what, None, f"lower the learning rate{kept}") for what in faults]
    )


def _interrupted(program: Program, folder: Path) -> Interrupted:
    at = f"interrupted at step {program.step} of {program.plan.total_steps}"
    return Interrupted(f"{at}, saved in {folder}; the same command goes on")


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C is noticed between two steps, never within one."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
