"""How fast are the kernels beside ONNX Runtime's float32 ones, and beside what the processor could do at best?

`python -m benchmarks.kernels [--threads N] [--batch N] [--engine NAME] [--seconds S]`. One product at a time, in turns
with a float32 convolution or matrix product of the same shape in ONNX Runtime; medians, and the best, which a busy
machine disturbs less. "Packed" is from bits to bits, and "float" takes signs as floats and gives integers as floats.
The limit is measured in the same run: what the engine's own instructions do without any memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import torch
import typer
from onnx import TensorProto, helper, numpy_helper

from frostline.compiler.bits import pack
from frostline.compiler.kernels import cpu
from frostline.compiler.session import open_model, runtime


@dataclass(frozen=True)
class Shape:
    """A product: a 3x3 convolution of `channels` to `outputs` at `size` pixels a side, or linear on `size` rows."""

    name: str
    channels: int
    outputs: int
    size: int
    conv: bool = True

    def products(self, batch: int) -> int:
        return batch * self.outputs * self.channels * (9 * self.size**2 if self.conv else self.size)


SHAPES = (
    Shape("3x3, 64 at 32", 64, 64, 32),
    Shape("3x3, 128 at 16", 128, 128, 16),
    Shape("3x3, 256 at 8", 256, 256, 8),
    Shape("3x3, 512 at 4", 512, 512, 4),
    Shape("linear, 768 to 3072, 128 tokens", 768, 3072, 128, conv=False),
    Shape("linear, 768 to 3072, 1 token", 768, 3072, 1, conv=False),
)


def float_product(shape: Shape, weight: torch.Tensor, x: torch.Tensor, threads: int) -> Callable[[], object]:
    """The same product in ONNX Runtime, in float32."""
    node = helper.make_node("Conv" if shape.conv else "MatMul", ["x", "w"], ["y"])
    if shape.conv:
        node.attribute.append(helper.make_attribute("pads", [1] * 4))
    held = numpy_helper.from_array((weight if shape.conv else weight.T).contiguous().numpy(), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    ends[0] = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))
    graph = helper.make_graph([node], "product", [ends[0]], [ends[1]], [held])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    session = open_model(model.SerializeToString(), "cpu", threads, "the peer cannot be opened")
    given = {"x": x.numpy()}
    return lambda: session.run(None, given)


def ways(shape: Shape, batch: int, threads: int) -> list[Callable[[], object]]:
    """Float32 in ONNX Runtime, ours from floats to floats, ours from bits to bits."""
    generator = np.random.default_rng(0)

    def signs(*sizes: int) -> torch.Tensor:
        return torch.from_numpy(generator.choice([-1.0, 1.0], sizes).astype(np.float32))

    if shape.conv:
        weight = signs(shape.outputs, shape.channels, 3, 3)
        x = signs(batch, shape.channels, shape.size, shape.size)
        window = cpu.Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    else:
        weight, x, window = (
            signs(shape.outputs, shape.channels),
            signs(batch * shape.size, shape.channels),
            cpu.Window(),
        )
    bits, zeros = pack(weight), torch.zeros(shape.outputs)
    floats = cpu.Product(bits, shape.channels, window)
    packed = cpu.Product(bits, shape.channels, window, thresholds=zeros, high=zeros + 1)
    x_bits = cpu.pack(x, rows=not shape.conv)
    return [
        float_product(shape, weight, x, threads),
        lambda: floats.floats(x, threads=threads),
        lambda: packed.bits(x_bits, threads=threads),
    ]


def times(runs: list[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Seconds of each run of each way, in turns."""
    taken: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(taken[0]) < 10:
        for run, own in zip(runs, taken, strict=True):
            began = time.perf_counter()
            run()
            own.append(time.perf_counter() - began)
    return taken


def main(threads: int = 1, batch: int = 1, engine: str = "", seconds: float = 5.0) -> None:
    """Print a row for each shape."""
    torch.set_num_threads(1)
    cpu.choose(engine or None)
    clock, limit = cpu.clock(), cpu.limit()
    name = engine or cpu.engines()[0]
    print(f"{name}, {threads} threads, batch {batch}, ONNX Runtime {runtime().__version__}")
    print(f"at best {limit / clock:.0f} products a cycle and core, {limit / 1e9:.0f} G a second")
    heads = "float32 ms", "float ms", "packed ms", "faster", "packed", "best", "packed", "a cycle", "packed", "of limit"
    print(" " * 32 + "".join(f"{head:>11}" for head in heads))
    for shape in SHAPES:
        taken = times(ways(shape, batch, threads), seconds)
        middle, best = [statistics.median(own) for own in taken], [min(own) for own in taken]
        cycle = [shape.products(batch) / own / clock / threads for own in best[1:]]
        figures = [f"{1000 * own:.3f}" for own in middle]
        figures += [f"{own[0] / other:.1f}" for own in (middle, best) for other in own[1:]]
        figures += [f"{own:.0f}" for own in cycle] + [f"{cycle[1] * clock / limit:.0%}"]
        print(f"{shape.name:<32}" + "".join(f"{figure:>11}" for figure in figures), flush=True)


if __name__ == "__main__":
    typer.run(main)
