"""How far do models get? Captured, right, masked and trained, frozen, verified in ONNX Runtime; by group.

    python -m benchmarks.coverage                        # everything that is installed
    python -m benchmarks.coverage --only corner --jobs 2
    python -m benchmarks.coverage --only transformers --every 4

What is captured is checked anew, by other means than the proof: at a batch of five, with other values, in both modes.
Sites are held against the parameters that eager matrix products and convolutions really read.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import frostline as fl
from benchmarks.zoo import Entry, entries
from frostline.compiler.graph import Example, Graph
from frostline.compiler.tensors import tensors_in
from frostline.errors import first_line

# Masks of elements do not fit where a region is called at several sizes.
SPEC = """
version: 1
binarize: {weights: true, activations: true, keep_float: []}
gradient: {frozen: identity}
progression:
  {order: global, per: PER, curve: {kind: linear}, refresh: {rate: 1}, warmup: 0, tail: 0}
seed: 0
"""
STAGES = ("eager", "captured", "right", "trained", "frozen", "verified")
_LIMIT = 600.0
"""Seconds for one model."""


@dataclass
class Outcome:
    """How far a model got, and what stopped it."""

    name: str
    group: str
    reached: str = ""
    front_end: str = ""
    two_graphs: bool = False
    seconds: float = 0.0
    found: int = 0
    executed: int = 0
    missed: list[str] = field(default_factory=list)
    without_labels: bool = False
    """Whether the file is that of another call: with labels, the model's own Python runs between its regions."""
    reason: str = ""

    def passed(self, stage: str) -> bool:
        return self.reached in STAGES and STAGES.index(self.reached) >= STAGES.index(stage)


class _Reads(TorchDispatchMode):
    """The parameters that matrix products and convolutions read, by the memory that they lie in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        held = model.named_parameters(remove_duplicate=False)
        self._names: dict[int, set[str]] = {}
        for name, parameter in held:
            if parameter.dim() > 1:
                self._names.setdefault(parameter.untyped_storage().data_ptr(), set()).add(name)
        self.found: dict[int, set[str]] = {}
        """The names of each parameter that was read."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("addmm", "mm", "bmm", "baddbmm", "addmv", "mv", "convolution", "linear", "_grouped_mm"):
            for tensor in tensors_in(args):
                place = tensor.untyped_storage().data_ptr()
                if place in self._names:
                    self.found[place] = self._names[place]
        return func(*args, **(kwargs or {}))


def examine(entry: Entry) -> Iterator[Outcome]:
    """Take one model as far as it goes; every stage yields the outcome so far."""
    outcome = Outcome(entry.name, entry.group)
    model, args, kwargs = entry.make()
    torch.manual_seed(1)
    example = Example(args, kwargs)
    reads = _Reads(model)
    with reads, torch.no_grad():
        _call(model.eval(), example)
    yield _reach(outcome, "eager")

    model, args, kwargs = entry.make()
    start = time.perf_counter()
    graph = fl.capture(model, args, kwargs)
    outcome.seconds = time.perf_counter() - start
    outcome.front_end = graph.captured.replace(",", " ").split()[0]
    outcome.two_graphs = any(part.module.modes.training is not None for part in graph.parts())  # type: ignore[union-attr]
    yield _reach(outcome, "captured")

    _differences(model, graph, example)
    sites = fl.sites(graph)
    found = {site.name for site in sites if site.kind == "weight"}
    outcome.found, outcome.executed = len(found), len(reads.found)
    outcome.missed = sorted(min(names) for names in reads.found.values() if found.isdisjoint(names))
    yield _reach(outcome, "right")

    spec = fl.read_spec(SPEC.replace("PER", "channel" if graph.regions else "element"))
    program = fl.compile(model, spec, args, total_steps=2, example_kwargs=kwargs)
    _train(program, example)
    yield _reach(outcome, "trained")
    binary = program.freeze()
    yield _reach(outcome, "frozen")
    if binary.regions and (asked := {name: value for name, value in kwargs.items() if "labels" not in name}) != kwargs:
        binary = program.freeze(args, asked)  # as it is called once it is trained
        outcome.without_labels = True
    with tempfile.TemporaryDirectory() as folder:
        fl.export(binary, Path(folder) / "model.onnx")
    yield _reach(outcome, "verified")


def _reach(outcome: Outcome, stage: str) -> Outcome:
    outcome.reached = stage
    return outcome


def _call(model: nn.Module, example: Example) -> list[Tensor]:
    inputs = example.copied()
    return list(tensors_in(model(*inputs.args, **inputs.kwargs)))


def _differences(model: nn.Module, graph: Graph, example: Example) -> None:
    """Raise AssertionError where graph and model part: outputs, gradients, buffers; a batch of five, other values."""
    own = example.batch_size() or 1
    for training in (False, True):
        for other in (example.picked([index % own for index in range(5)]), example):
            given = other.mapped(_shaken)
            try:
                expected = _outcome(copy.deepcopy(model), given, training)
            except Exception:  # noqa: S112  (what the model itself does not run)
                continue
            actual = _outcome(copy.deepcopy(graph.module), given, training)
            for name, value in expected.items():
                held = actual.get(name)
                close = held is not None and torch.allclose(
                    value.float(), held.float(), rtol=1e-3, atol=1e-4, equal_nan=True
                )
                if not (value.is_complex() or close):
                    raise RuntimeError(f"WRONG IN SILENCE: {name}, training={training}")


def _shaken(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(5))
    return tensor + 0.01 * noise.to(tensor.dtype)


def _outcome(model: nn.Module, example: Example, training: bool) -> dict[str, Tensor]:
    model.train(training)
    torch.manual_seed(7)
    random.seed(7)
    outputs = _call(model, example)
    loss = sum((out.abs().float().mean() for out in outputs if out.requires_grad), torch.zeros(()))
    if loss.requires_grad:
        loss.backward()
    values = {f"output {index}": out.detach() for index, out in enumerate(outputs)}
    values |= {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return values | {f"buffer {name}": buffer.detach() for name, buffer in model.named_buffers()}


def _train(program: Any, example: Example) -> None:
    """Two steps of SGD; every parameter must stay finite."""
    net = program.net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for step in range(2):
        try:
            outputs = _call(net, example)
        except fl.FrostlineError:
            if step:
                raise
            net.eval()  # the model itself does not run in train mode
            outputs = _call(net, example)
        loss = sum((out.abs().float().mean() for out in outputs if out.requires_grad), torch.zeros(()))
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        program.advance()
    if not all(bool(p.isfinite().all()) for p in net.parameters()):
        raise RuntimeError("training gives values that are not finite")


def _run(entry: Entry, pipe: Connection) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    outcome = Outcome(entry.name, entry.group)
    try:
        for outcome in examine(entry):
            pipe.send(outcome)
    except BaseException as error:
        text = str(error) if isinstance(error, fl.FrostlineError) else f"{type(error).__name__}: {first_line(error)}"
        outcome.reason = text
        pipe.send(outcome)
    pipe.send(None)


def _all(chosen: list[Entry], jobs: int) -> Iterator[Outcome]:
    """Each model in a process of its own, so that none can spoil another or hang the rest."""
    context = multiprocessing.get_context("fork")
    waiting = list(chosen)
    running: list[tuple[Entry, Any, Any, float, list[Outcome]]] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            entry = waiting.pop(0)
            here, there = context.Pipe(duplex=False)
            child = context.Process(target=_run, args=(entry, there))
            child.start()
            there.close()
            running.append((entry, child, here, time.monotonic(), [Outcome(entry.name, entry.group)]))
        for one in list(running):
            entry, child, here, start, last = one
            done = False
            try:
                while not done and here.poll(0.02):
                    message = here.recv()
                    done = message is None
                    last[0] = message or last[0]
            except EOFError:
                done, last[0].reason = True, "the process died"
            if not done and time.monotonic() - start > _LIMIT:
                child.kill()
                done, last[0].reason = True, f"no end after {_LIMIT:.0f} s"
            if done:
                child.join()
                running.remove(one)
                yield last[0]


def _percent(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.0f} %)" if whole else "-"


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title="how far models get, of those that run in eager mode")
    for column in ("group", "run", "fx", "recorder", "regions", *STAGES[1:], "capture s, median", "worst"):
        table.add_column(column)
    groups = dict.fromkeys(outcome.group for outcome in outcomes)
    for group in (*groups, "all"):
        members = [one for one in outcomes if group in ("all", one.group) and one.passed("eager")]
        seconds = sorted(one.seconds for one in members if one.passed("captured")) or [0.0]
        front_ends = [str(sum(one.front_end == name for one in members)) for name in ("fx", "recorder", "regions")]
        stages = [_percent(sum(one.passed(stage) for one in members), len(members)) for stage in STAGES[1:]]
        times = (f"{statistics.median(seconds):.2f}", f"{seconds[-1]:.1f}")
        table.add_row(group, str(len(members)), *front_ends, *stages, *times)
    return table


def main(
    only: Annotated[str, typer.Option(help="names that begin so")] = "",
    every: Annotated[int, typer.Option(help="of these, every so many", min=1)] = 1,
    jobs: Annotated[int, typer.Option(help="models at a time")] = 2,
    out: Annotated[Path | None, typer.Option(help="a JSON line for each model")] = None,
) -> None:
    """Run the models of the zoo, and print how far they get."""
    console = Console(width=200)
    outcomes = []
    for outcome in _all([entry for entry in entries() if entry.name.startswith(only)][::every], jobs):
        outcomes.append(outcome)
        sites = f"{outcome.found} sites, {outcome.executed} executed" if outcome.executed else ""
        stopped = f" | {outcome.reason}" if outcome.reason else ""
        missed = f" | missed: {', '.join(outcome.missed)}" if outcome.missed else ""
        text = f"{outcome.name}: {outcome.reached or 'nothing'} {outcome.front_end} {outcome.seconds:.1f}s {sites}"
        console.print(text + stopped + missed, markup=False, highlight=False)
        if out is not None:
            with out.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
    console.print(_table(outcomes))


if __name__ == "__main__":
    typer.run(main)
