"""Files in the operators of their functions and in those of the library, side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper, parser
from torch import Tensor, nn

import frostline as fl
from frostline.compiler import bits as packing
from frostline.compiler.exported import DOMAIN
from frostline.compiler.fusing import fuse
from frostline.compiler.kernels import cpu
from frostline.passes.lowering.functions import functions
from tests.compiler.kernels.signs import signs
from tests.models.binary import lowered


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.domain == DOMAIN]


def results(path: Path, x: Tensor, **options: Any) -> list[np.ndarray[Any, Any]]:
    opened = fl.session(path, "cpu", **options)
    found: list[np.ndarray[Any, Any]] = opened.run(None, {opened.get_inputs()[0].name: x.numpy()})
    return found


def computes_the_same(
    make: Callable[[], nn.Module], shape: tuple[int, ...], keep: list[str], fused: list[str], path: Path
) -> None:
    """A network is put together into these operators, which give to the bit what the file gives, in every engine."""
    model = lowered(make(), shape, keep)
    assert kinds(fuse(model)) == fused
    onnx.save(model, path)
    for batch in (1, 7):
        x = torch.randn(batch, *shape)
        stock = results(path, x, kernels=False)
        for engine in cpu.engines():
            cpu.choose(engine)
            for own, expected in zip(results(path, x, kernels=True, threads=2), stock, strict=True):
                assert np.array_equal(own, expected)
        cpu.choose(None)


HEAD = '<ir_version: 10, opset_import: ["": 21, "frostline": 1]> g'
CONV = """frostline.BinaryConv<inputs = [8], kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
          dilations = [1, 1], group = 1>"""
CONSTANTS: dict[str, np.ndarray[Any, Any]] = {
    "w": packing.pack(signs(8, 8, 1, 1)).numpy(),
    "v": packing.pack(signs(8, 8, 1, 1, seed=5)).numpy(),
    "matrix": packing.pack(signs(8, 8, seed=7)).numpy(),
    "factor": np.linspace(-1, 1, 8, dtype=np.float32).reshape(8, 1, 1),
    "deep": np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 1, 8, 1, 1),
    "wide": np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 1, 8),
    "along": np.linspace(-1, 1, 8, dtype=np.float32).reshape(8, 1),
    "thresholds": np.array([np.nan, np.inf, -np.inf, 0.5, -0.5, 0, 8, -8], np.float32).reshape(8, 1, 1),
    "high": np.array([1, 1, 1, -1, -1, 1, 1, 1], np.float32).reshape(8, 1, 1),
    **{
        name: np.array(value, np.float32)
        for name, value in (("minus", -1), ("zero", 0), ("tenth", 0.1), ("one", 1), ("six", 6))
    },
}


def by_hand(signature: str, body: str) -> onnx.ModelProto:
    """A model of these nodes, in which `x` is binary as `b`, and goes through a convolution to `p`."""
    nodes = f"b = frostline.Binarize(x) p = CONV(b, w) {body}".replace("CONV", CONV)
    model = parser.parse_model(f"{HEAD} {signature} {{ {nodes} }}")
    given = {value.name for value in model.graph.input}
    read = {name for node in model.graph.node for name in node.input} - given
    model.graph.initializer.extend(
        numpy_helper.from_array(CONSTANTS[name], name) for name in sorted(read & {*CONSTANTS})
    )
    used = sorted({node.op_type for node in model.graph.node if node.domain == DOMAIN})
    model.functions.extend(functions()[name] for name in used)
    return model


IMAGE, RESULT = "float[n, 8, h, w] x", "float[n, 8, h, w] y"


def gives_what_the_file_gives(signature: str, body: str, path: Path) -> None:
    """A model of these nodes gives the same in the library's operators, signs of zeros included."""
    onnx.save(by_hand(signature, body), path)
    stock, own = (fl.session(path, "cpu", kernels=kernels) for kernels in (False, True))
    generator, given = np.random.default_rng(0), {}
    free = {"n": 8, "h": 5, "w": 4}
    for value in stock.get_inputs():
        shape = [free[size] if isinstance(size, str) else size for size in value.shape]
        given[value.name] = generator.normal(size=shape).astype(np.float32)
        if value.name == "nan":
            given[value.name][0, :, 0] = np.nan
        if value.type == "tensor(bool)":
            given[value.name] = np.array(True)
    for expected, found in zip(stock.run(None, given), own.run(None, given), strict=True):
        assert np.array_equal(found, expected, equal_nan=True)
        assert np.array_equal(np.signbit(found), np.signbit(expected))
