"""How fast an exported file is, against its float original, and what limits it."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from frostline.compiler.exported import attributes, look_at
from frostline.compiler.kernels import cpu
from frostline.compiler.placement import LIBRARY, placement
from frostline.compiler.session import opened, runtime
from frostline.errors import FileError, Offence, UsageError, first_line

_FEWEST, _MOST = 5, 10_000
"""Rounds that are run at least and at most."""
_PROFILED = 20
_SHOWN = 12
"""Nodes that the table shows, the slowest."""
_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


@dataclass(frozen=True)
class Contestant:
    """One way to run: what it is, where its nodes run, and the seconds of each of its runs."""

    name: str
    where: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)


@dataclass(frozen=True)
class Node:
    """One node of the file as it runs: seconds of a run in the median, and products of binary values."""

    name: str
    kind: str
    seconds: float
    products: int


@dataclass(frozen=True)
class Bench:
    """What was measured: the file first, then what it is compared with, in turns in one run.

    `limit` is how many binary products a second one core can make at best, as measured in the same run; 0 where the
    kernels did not run.
    """

    contestants: tuple[Contestant, ...]
    nodes: tuple[Node, ...]
    batch: int
    threads: int
    limit: float
    engine: str
    runtime: str

    def __str__(self) -> str:
        ways = Table("", "runs on", "median ms", "best ms", "times faster", box=None, header_style="")
        base = self.contestants[-1].median
        for one in self.contestants:
            times = f"{1000 * one.median:.2f}", f"{1000 * min(one.seconds):.2f}"
            ways.add_row(one.name, one.where, *times, f"{base / one.median:.2f}")
        whole = sum(node.seconds for node in self.nodes)
        parts = Table("node", "operator", "ms", "share", "G products/s", box=None, header_style="")
        for node in self.nodes[:_SHOWN]:
            rate = f"{node.products / node.seconds / 1e9:.0f}" if node.products else ""
            parts.add_row(node.name, node.kind, f"{1000 * node.seconds:.3f}", f"{node.seconds / whole:.0%}", rate)
        if left := self.nodes[_SHOWN:]:
            seconds = sum(node.seconds for node in left)
            parts.add_row(f"{len(left)} more", "", f"{1000 * seconds:.3f}", f"{seconds / whole:.0%}", "")
        rounds = len(self.contestants[0].seconds)
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        head = f"batch {self.batch}, {threads}, {self.runtime}, {rounds} rounds in turns"
        return "\n\n".join([head, _text(ways), _text(parts), self.verdict()])

    def verdict(self) -> str:
        """What limits the file, in one sentence."""
        whole = sum(node.seconds for node in self.nodes)
        binary = sum(node.seconds for node in self.nodes if node.products)
        slowest = max((node for node in self.nodes if not node.products), key=lambda node: node.seconds, default=None)
        if not binary or not self.limit:
            return "limit: its binary products run as standard operators, as fast as float32 ones and no faster"
        rate = sum(node.products for node in self.nodes) / binary
        reached = rate / (self.limit * self.threads)
        told = f"limit: {binary / whole:.0%} of the time makes binary products, {reached:.0%} of the "
        told += f"{self.limit * self.threads / 1e9:.0f} G a second that {self.engine} could"
        if slowest is not None:
            others = f"the slowest of the others is {slowest.kind} {slowest.name}"
            told += f"; {(whole - binary) / whole:.0%} does not, and {others}"
        return told


def bench(
    path: str | Path,
    against: str | Path | None = None,
    *,
    provider: str | None = None,
    threads: int = 1,
    batch: int = 1,
    seconds: float = 10.0,
) -> Bench:
    """Time a file against a float one, or against itself on standard operators, whose products are float32.

    They take turns, run by run, for about so many seconds, on random inputs. Raises FileError for what is no model,
    UsageError for inputs that cannot be made up, or a provider that is not to be had.
    """
    own = opened(path, provider, threads, in_turns=True)
    ways = [(Path(path).name, own)]
    kernels = LIBRARY in placement(own).nodes
    if kernels:
        ways.append((f"{Path(path).name} on standard operators", opened(path, provider, threads, False, in_turns=True)))
    if against is not None:
        ways.append((Path(against).name, opened(against, provider, threads, in_turns=True)))
    feeds = [_feeds(way, batch, name) for name, way in ways]
    for (name, way), given in zip(ways, feeds, strict=True):
        try:
            way.run(None, given)
        except Exception as error:
            raise FileError(f"{name} cannot be run", [Offence(first_line(error))]) from error
    taken = in_turns([partial(way.run, None, given) for (_, way), given in zip(ways, feeds, strict=True)], seconds)
    contestants = tuple(
        Contestant(name, _where(way), tuple(times)) for (name, way), times in zip(ways, taken, strict=True)
    )
    return Bench(
        contestants, _nodes(path, provider, threads, feeds[0]), batch, threads, cpu.limit() if kernels else 0.0,
        cpu.engines()[0] if kernels else "", f"ONNX Runtime {runtime().__version__}",
    )  # fmt: skip


def in_turns(runs: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Seconds of every run of each, in turns for about so many seconds. The first round only warms up."""
    taken: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    until = time.perf_counter() + seconds
    while len(taken[0]) < _FEWEST or (len(taken[0]) < _MOST and time.perf_counter() < until):
        for run, times in zip(runs, taken, strict=True):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
    return taken


def _where(way: Any) -> str:
    found = placement(way)
    places = list(found.nodes) or list(found.providers)
    return " and ".join(place.removesuffix("ExecutionProvider") for place in places)


def _feeds(way: Any, batch: int, name: str) -> dict[str, Any]:
    """Random inputs: the first dimension, where it is free, is the batch's."""
    feeds: dict[str, Any] = {}
    generator, faults = np.random.default_rng(0), []
    for value in way.get_inputs():
        shape = [batch if place == 0 and not isinstance(size, int) else size for place, size in enumerate(value.shape)]
        free = [size for size in shape if not isinstance(size, int)]
        if free or value.type not in _TYPES:
            what = f"input {value.name} is {value.type} of shape {value.shape}"
            faults.append(Offence(what, remedy="only the batch may be free, of float, integer or boolean tensors"))
            continue
        kind = _TYPES[value.type]
        try:
            drawn = generator.standard_normal(shape) if kind is np.float32 else generator.integers(0, 2, shape)
            feeds[value.name] = drawn.astype(kind)
        except (MemoryError, ValueError):  # more bytes than there are, or than can be counted
            faults.append(Offence(f"input {value.name} of shape {shape} is larger than the memory"))
    if faults:
        raise UsageError(f"no inputs can be made up for {name}", faults)
    return feeds


def _nodes(path: str | Path, provider: str | None, threads: int, feeds: Mapping[str, Any]) -> tuple[Node, ...]:
    """Every node that ran, the slowest first, by ONNX Runtime's own profile."""
    with tempfile.TemporaryDirectory() as folder:
        profiled = opened(path, provider, threads, profile=Path(folder) / "profile")
        for _ in range(_PROFILED):
            profiled.run(None, feeds)
        events = json.loads(Path(profiled.end_profiling()).read_text())
    model = look_at(path, f"{path} cannot be opened in ONNX Runtime")
    taken, shapes = dict[tuple[str, str], list[float]](), dict[str, list[Any]]()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name, kind = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            taken.setdefault((name, kind), []).append(event["dur"] / 1e6)
            shapes[name] = event["args"].get("output_type_shape", [])
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    products = {node.name: _products(node, held, shapes.get(node.name, [])) for node in model.graph.node}
    nodes = [Node(name, kind, median(times), products.get(name, 0)) for (name, kind), times in taken.items()]
    return tuple(sorted(nodes, key=lambda node: -node.seconds))


def _products(node: onnx.NodeProto, held: Mapping[str, onnx.TensorProto], results: list[Any]) -> int:
    """Products of binary values that a node makes: pixels, times outputs, times inputs of each."""
    if node.op_type not in ("BinaryConv", "BinaryLinear") or node.input[1] not in held or not results:
        return 0
    given, bits = attributes(node), held[node.input[1]]
    ((kind, shape),) = results[0].items()
    conv = "kernel_shape" in given
    pixels = math.prod([shape[0], *shape[2:]] if conv and kind == "float" else shape[:-1])
    kernel = math.prod(given.get("kernel_shape", []))
    return int(pixels * bits.dims[0] * given["inputs"][0] * kernel)


def _text(table: Table) -> str:
    console = Console(width=140, color_system=None, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())
