"""How fast are the kernels beside ONNX Runtime's float32 ones, and beside what the processor could do at best?

`python -m benchmarks.kernels [--threads N] [--batch N] [--engine NAME] [--seconds S]`. One product at a time, in turns
with a float32 convolution or matrix product of the same shape in ONNX Runtime; medians, and the best, which a busy
machine disturbs less. "Packed" is from bits to bits, and "float" takes signs as floats and gives integers as floats.
The limit is measured in the same run: what the engine's own instructions do without any memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
import typer
from onnx import helper, numpy_helper

from frostline.benching import in_turns
from frostline.compiler.bits import pack
from frostline.compiler.exported import DOMAIN
from frostline.compiler.kernels import cpu
from frostline.compiler.kernels.build import library
from frostline.compiler.session import open_model, runtime

Run = Callable[[], object]


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


def node(kind: str, domain: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any]) -> onnx.NodeProto:
    made = helper.make_node(kind, inputs, outputs, domain=domain)
    made.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return made


def session_of(
    node: onnx.NodeProto, x: np.ndarray[Any, Any], held: dict[str, np.ndarray[Any, Any]], threads: int
) -> Run:
    """A session of one node that reads `x`, and constants. Its tensors stay where they are, as in a network: bound."""
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    ends = (
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
    )
    constants = [numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph([node], "product", *ends, constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = open_model(
        model.SerializeToString(), "cpu", threads, "the product cannot be opened", library(), in_turns=True
    )
    results, binding = session.run(None, {"x": x}), session.io_binding()
    binding.bind_cpu_input("x", x)
    for end, result in zip(session.get_outputs(), results, strict=True):
        binding.bind_ortvalue_output(end.name, runtime().OrtValue.ortvalue_from_numpy(result))
    return lambda: session.run_with_iobinding(binding)


def ways(shape: Shape, batch: int, threads: int) -> list[Run]:
    """In ONNX Runtime: float32, ours from floats to floats, ours from bits to bits."""
    generator = np.random.default_rng(0)

    def signs(*sizes: int) -> np.ndarray[Any, Any]:
        return generator.choice([-1.0, 1.0], sizes).astype(np.float32)

    if shape.conv:
        weight, x = signs(shape.outputs, shape.channels, 3, 3), signs(batch, shape.channels, shape.size, shape.size)
        window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1], "group": 1}
        peer = node("Conv", "", ["x", "w"], ["y"], {"pads": [1] * 4})
    else:
        weight, x, window = signs(shape.outputs, shape.channels), signs(batch * shape.size, shape.channels), {}
        peer = node("MatMul", "", ["x", "w"], ["y"], {})
    bits, kind = pack(torch.from_numpy(weight)).numpy(), "Conv" if shape.conv else "Linear"
    window |= {"inputs": [shape.channels]}
    own = node(f"Binary{kind}", DOMAIN, ["x", "bits"], ["y"], window)
    packed = node(f"Packed{kind}", DOMAIN, ["x", "bits", "at", "high"], ["", "y"], window)
    at, high = np.zeros(shape.outputs, np.float32), np.ones(shape.outputs, np.float32)
    x_bits = cpu.pack(torch.from_numpy(x), rows=not shape.conv).numpy()
    return [
        session_of(peer, x, {"w": weight if shape.conv else np.ascontiguousarray(weight.T)}, threads),
        session_of(own, x, {"bits": bits}, threads),
        session_of(packed, x_bits, {"bits": bits, "at": at, "high": high}, threads),
    ]


def call(threads: int) -> float:
    """Seconds that a session takes at best which computes next to nothing, in turns with a float32 convolution."""
    nothing = session_of(node("Relu", "", ["x"], ["y"], {}), np.ones((1, 1), np.float32), {}, threads)
    return min(in_turns([ways(SHAPES[0], 1, threads)[0], nothing], 1.0)[1])


def main(threads: int = 1, batch: int = 1, engine: str = "", seconds: float = 5.0) -> None:
    """Print a row for each shape."""
    torch.set_num_threads(1)
    cpu.choose(engine or None)
    clock, limit = cpu.clock(), cpu.limit()
    name = engine or cpu.engines()[0]
    print(f"{name}, {threads} threads, batch {batch}, ONNX Runtime {runtime().__version__}")
    print(f"at best {limit / clock:.0f} products a cycle and core, {limit / 1e9:.0f} G a second")
    print(f"of each time {1e6 * call(threads):.1f} us are the runtime's own call")
    heads = "float32 ms", "float ms", "packed ms", "faster", "packed", "best", "packed", "a cycle", "packed", "of limit"
    print(" " * 32 + "".join(f"{head:>11}" for head in heads))
    for shape in SHAPES:
        taken = in_turns(ways(shape, batch, threads), seconds)
        middle, best = [statistics.median(own) for own in taken], [min(own) for own in taken]
        cycle = [shape.products(batch) / own / clock / threads for own in best[1:]]
        figures = [f"{1000 * own:.3f}" for own in middle]
        figures += [f"{own[0] / other:.1f}" for own in (middle, best) for other in own[1:]]
        figures += [f"{own:.0f}" for own in cycle] + [f"{cycle[1] * clock / limit:.0%}"]
        print(f"{shape.name:<32}" + "".join(f"{figure:>11}" for figure in figures), flush=True)


if __name__ == "__main__":
    typer.run(main)
