"""Files of one binary operation, or of a chain, as lowering writes them, and what torch makes of the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from frostline.compiler.bits import pack
from frostline.compiler.exported import DOMAIN, named
from frostline.compiler.reference import Array
from frostline.passes.lowering.functions import IR_VERSION, OPSET
from frostline.passes.lowering.target import Target

INPUTS, OUTPUTS = st.integers(1, 35), st.integers(1, 5)
CONVOLUTIONS = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


def signs(*shape: int, seed: int) -> Tensor:
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1


@dataclass(frozen=True)
class Case:
    """One operation: what it reads, its packed weight, its attributes, and the integers that torch finds."""

    operator: str
    x: Tensor
    weight: Tensor
    attributes: dict[str, Any]
    expected: Array

    def model(self, target: Target, sizes_known: bool = True) -> onnx.ModelProto:
        """The operation alone in a file of a target, with a free batch."""
        node = operation(self.operator, ["x", "bits"], "y", inputs=[self.weight.shape[1]], **self.attributes)
        sizes = self.x.shape[1:] if sizes_known else [None] * (self.x.dim() - 1)
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *sizes])
        return written([node], x, self.expected.ndim, {"bits": pack(self.weight).numpy()}, target)


@dataclass(frozen=True)
class Compared:
    """A convolution whose integers go to thresholds: by channel these, and the high levels, and what torch finds."""

    product: Case
    site: str
    thresholds: Tensor
    high: Tensor

    def model(self, target: Target, sizes_known: bool = True, sums_shown: bool = False) -> onnx.ModelProto:
        """Both operations in a file of a target, with a free batch; with the sums among the outputs where asked."""
        case = self.product
        nodes = [
            operation(case.operator, ["x", "bits"], "sums", inputs=[case.weight.shape[1]], **case.attributes),
            operation(self.site, ["sums", "thresholds", "high"], "y"),
        ]
        held = {"bits": pack(case.weight).numpy(), "thresholds": self.thresholds.numpy(), "high": self.high.numpy()}
        sizes = case.x.shape[1:] if sizes_known else [None] * (case.x.dim() - 1)
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *sizes])
        return written(nodes, x, case.expected.ndim, held, target, shown=["sums"] * sums_shown)

    @property
    def x(self) -> Tensor:
        return self.product.x

    @property
    def expected(self) -> Array:
        low = (1 if "ZeroOne" in self.site else 0) - self.high
        return torch.where(torch.from_numpy(self.product.expected) >= self.thresholds, self.high, low).numpy()


@st.composite
def comparisons(draw: st.DrawFn, /, **channels: Any) -> Compared:
    """Convolutions whose integers go to thresholds: on one of them, just beside it, or where no integer is."""
    case = draw(convolutions(**channels))
    outputs, each = case.weight.shape[0], st.integers(0, 2**31)
    most = case.weight[0].numel()
    integers = np.append(np.moveaxis(case.expected, 1, 0).ravel(), 0)
    beyond = [most, -most, most + 1, -most - 1, most + 0.5, 2.0**24, -1e30, np.inf, -np.inf, np.nan]
    steps = st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.5, -0.5])
    near = st.builds(lambda place, step: float(integers[place % len(integers)] + step), each, steps)
    chosen = draw(st.lists(near | st.sampled_from(beyond), min_size=outputs, max_size=outputs))
    zero_one, shape = draw(st.booleans()), (outputs, *[1] * (case.weight.dim() - 2))
    high = signs(*shape, seed=draw(each))
    site, high = ("BinarizeZeroOneAt", high.clamp(min=0)) if zero_one else ("BinarizeAt", high)
    return Compared(case, site, torch.tensor(chosen, dtype=torch.float32).reshape(shape), high)


def compared(inputs: int = 3, group: int = 1, thresholds: float = 0.0, outputs: int = 4) -> Compared:
    """A convolution of 3 x 3 over 5 x 5 signs, every second channel of which is turned around."""
    x, weight = signs(2, inputs * group, 5, 5, seed=0), signs(outputs, inputs, 3, 3, seed=1)
    window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1], "group": group}
    sums = torch.conv2d(x, weight, padding=1, groups=group).numpy()
    high = torch.tensor([1.0, -1.0]).repeat(outputs // 2).reshape(-1, 1, 1)
    case = Case("BinaryConv", x, weight, window, sums)
    return Compared(case, "BinarizeAt", torch.full((outputs, 1, 1), thresholds), high)


def operation(operator: str, read: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    node = helper.make_node(operator, read, [output], domain=DOMAIN, name=output, site=output)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return node


def written(
    nodes: list[onnx.NodeProto], x: onnx.ValueInfoProto, rank: int, held: dict[str, Array], target: Target,
    *shapes: Any, shown: Sequence[str] = (),
) -> onnx.ModelProto:  # fmt: skip
    """A model of these nodes, from `x` to `y`, for a target; other values may be shown as well."""
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in ("y", *shown)]
    tensors = [numpy_helper.from_array(value, name) for name, value in held.items()]
    graph = helper.make_graph(nodes, "g", [x], outputs, tensors, value_info=shapes)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    assert not list(target.missing(model))
    target.rewrite(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def linear(inputs: int, outputs: int, seed: int, *, rows: tuple[int, ...] = (2, 3), zero_one: bool = False) -> Case:
    x, weight = signs(*rows, inputs, seed=seed), signs(outputs, inputs, seed=seed + 1)
    x = x.clamp(min=0) if zero_one else x
    expected = torch.nn.functional.linear(x, weight).numpy()
    return Case("ZeroOneLinear" if zero_one else "BinaryLinear", x, weight, {}, expected)


@st.composite
def linears(draw: st.DrawFn) -> Case:
    """Linear operations of any size, on 0 to 3 samples."""
    rows = draw(st.sampled_from([(0, 2), (1,), (3,), (2, 3)]))
    sizes = draw(st.integers(1, 70)), draw(st.integers(1, 9)), draw(st.integers(0, 2**31))
    return linear(*sizes, rows=rows, zero_one=draw(st.booleans()))


@st.composite
def convolutions(
    draw: st.DrawFn,
    most_groups: int = 1,
    inputs_each: st.SearchStrategy[int] = INPUTS,
    outputs_each: st.SearchStrategy[int] = OUTPUTS,
) -> Case:
    """Convolutions in 1, 2 and 3 dimensions, on 0 to 2 samples; the channels are those of each group."""
    spatial, group = draw(st.integers(1, 3)), draw(st.integers(1, most_groups))
    inputs, outputs = draw(inputs_each), group * draw(outputs_each)
    each = st.lists(st.integers(1, 3), min_size=spatial, max_size=spatial)
    kernel, strides, dilations = draw(each), draw(each), draw(each)
    before, after = (draw(st.lists(st.integers(0, 2), min_size=spatial, max_size=spatial)) for _ in range(2))
    sizes = [d * (k - 1) + 1 + draw(st.integers(0, 3)) for k, d in zip(kernel, dilations, strict=True)]
    seed, zero_one = draw(st.integers(0, 2**31)), draw(st.booleans())
    x = signs(draw(st.integers(0, 2)), group * inputs, *sizes, seed=seed)
    x = x.clamp(min=0) if zero_one else x
    weight = signs(outputs, inputs, *kernel, seed=seed + 1)
    padded = torch.nn.functional.pad(x, [p for b, a in zip(before[::-1], after[::-1], strict=True) for p in (b, a)])
    expected = CONVOLUTIONS[spatial](padded, weight, None, strides, 0, dilations, group).numpy()
    window: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": before + after}
    window |= {"dilations": dilations, "group": group}
    return Case("ZeroOneConv" if zero_one else "BinaryConv", x, weight, window, expected)


def check(case: Case | Compared, target: Target) -> None:
    """In ONNX Runtime and in onnx's reference evaluator the integers, or the levels, are equal."""
    model = case.model(target)
    runners: list[Any] = [opened(model)]
    if len(case.x):
        runners.append(ReferenceEvaluator(model))
    for runner in runners:
        np.testing.assert_array_equal(runner.run(None, {"x": case.x.numpy()})[0], case.expected)


def opened(
    model: onnx.ModelProto,
    path: str = "",
    *,
    level: str = "ORT_ENABLE_ALL",
    provider: str = "CPUExecutionProvider",
    profile: bool = False,
) -> Any:
    """A session; what ONNX Runtime made of the model at an optimization level is written to `path`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = path
    options.enable_profiling = profile
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])


def kinds(model: onnx.ModelProto) -> list[str]:
    """The operators of our nodes."""
    return [node.op_type for _, node in named(model)]


@dataclass(frozen=True)
class Chain:
    """Convolutions whose integers are compared with thresholds of each channel: `[n, channels, size, size]`.

    `zero_one` levels or signs; where `high` is low, the comparison is turned around.
    """

    channels: int
    size: int
    layers: int
    zero_one: bool

    def model(self, target: Target, sums_shown: bool = False) -> onnx.ModelProto:
        """The chain in a file of a target, with the sums of each layer among the outputs where asked."""
        shape: list[str | int | None] = ["n", self.channels, self.size, self.size]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        site, product = ("BinarizeZeroOne", "ZeroOneConv") if self.zero_one else ("Binarize", "BinaryConv")
        window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1], "group": 1}
        nodes, held = [operation(site, ["x"], "levels0")], dict[str, Array]()
        for i, (weight, thresholds, high) in enumerate(self.parameters()):
            held |= {f"bits{i}": pack(weight).numpy(), f"thresholds{i}": thresholds.numpy(), f"high{i}": high.numpy()}
            inputs = [self.channels]
            nodes.append(operation(product, [f"levels{i}", f"bits{i}"], f"sums{i}", inputs=inputs, **window))
            last = "y" if i + 1 == self.layers else f"levels{i + 1}"
            nodes.append(operation(site + "At", [f"sums{i}", f"thresholds{i}", f"high{i}"], last))
        names = [node.output[0] for node in nodes[:-1]]
        shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names]
        return written(nodes, x, 4, held, target, *shapes, shown=[f"sums{i}" for i in range(self.layers)] * sums_shown)

    def parameters(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each layer its weight, and thresholds and high levels as `[channels, 1, 1]`."""
        layers = []
        for i in range(self.layers):
            weight = signs(self.channels, self.channels, 3, 3, seed=3 * i)
            generator = torch.Generator().manual_seed(3 * i + 1)
            thresholds = torch.randint(-4, 5, (self.channels, 1, 1), generator=generator).float()
            high = signs(self.channels, 1, 1, seed=3 * i + 2)
            layers.append((weight, thresholds, high.clamp(min=0) if self.zero_one else high))
        return layers

    def expected(self, x: Tensor) -> Array:
        low = 0.0 if self.zero_one else -1.0
        levels = torch.where(x >= (0.5 if self.zero_one else 0), 1.0, low)
        for weight, thresholds, high in self.parameters():
            sums = torch.conv2d(levels, weight, padding=1)
            levels = torch.where(sums >= thresholds, high, 1 + low - high)
        return levels.numpy()
