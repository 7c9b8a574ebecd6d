"""The ONNX functions against torch, in ONNX Runtime and in onnx's reference evaluator: integers are equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from frostline.compiler.bits import pack
from frostline.compiler.exported import DOMAIN
from frostline.compiler.kernels import operators  # noqa: F401
from frostline.passes.lowering.functions import IR_VERSION, OPSET, functions


def signs(*shape: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1


def model(name: str, bits: torch.Tensor, **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node(name, ["x", "bits"], ["y"], domain=DOMAIN)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    rank = 2 + len(attributes.get("kernel_shape", "?"))
    values = [helper.make_tensor_value_info(value, TensorProto.FLOAT, [None] * rank) for value in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [numpy_helper.from_array(bits.numpy(), "bits")])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, functions=[functions()[name]], opset_imports=opsets, ir_version=IR_VERSION)


def check(name: str, x: torch.Tensor, bits: torch.Tensor, expected: torch.Tensor, **attributes: Any) -> None:
    written = model(name, bits, **attributes)
    onnx.checker.check_model(written, full_check=True)
    session = onnxruntime.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    runners: list[Any] = [session, ReferenceEvaluator(written)]
    for runner in runners:
        np.testing.assert_array_equal(runner.run(None, {"x": x.numpy()})[0], expected.numpy())


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 70), st.integers(1, 4), st.integers(0, 2**31))
def test_linear(outputs: int, inputs: int, batch: int, seed: int) -> None:
    x, weight = signs(batch, 3, inputs, seed=seed), signs(outputs, inputs, seed=seed + 1)
    zero_one = x.clamp(min=0)
    own = torch.nn.functional.linear(zero_one, weight)
    check("ZeroOneLinear", zero_one, pack(weight), own, inputs=[inputs], site="s")
    expected = torch.nn.functional.linear(x, weight)
    check("BinaryLinear", x, pack(weight), expected, inputs=[inputs], site="s")
    check("BinaryWeightLinear", x, pack(weight), expected, inputs=[inputs], site="s")
    own = torch.ops.frostline.binary_linear(x, pack(weight), inputs, "signs", "s")
    assert torch.equal(own, expected)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_convolution(data: st.DataObject) -> None:
    spatial = data.draw(st.integers(1, 3))
    group = data.draw(st.integers(1, 3))
    inputs, outputs = data.draw(st.integers(1, 35)), group * data.draw(st.integers(1, 3))
    each = st.lists(st.integers(1, 3), min_size=spatial, max_size=spatial)
    kernel, strides, dilations = data.draw(each), data.draw(each), data.draw(each)
    pads = data.draw(st.lists(st.integers(0, 2), min_size=spatial, max_size=spatial))
    sizes = [d * (k - 1) + 1 + data.draw(st.integers(0, 3)) for k, d in zip(kernel, dilations, strict=True)]
    seed = data.draw(st.integers(0, 2**31))
    x, weight = signs(2, group * inputs, *sizes, seed=seed), signs(outputs, inputs, *kernel, seed=seed + 1)
    convolution = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[spatial]
    expected = convolution(x, weight, None, strides, pads, dilations, group)
    window: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": pads * 2,
        "dilations": dilations,
        "group": group,
    }
    check("BinaryConv", x, pack(weight), expected, inputs=[inputs], site="s", **window)
    zero_one = x.clamp(min=0)
    products = convolution(zero_one, weight, None, strides, pads, dilations, group)
    check("ZeroOneConv", zero_one, pack(weight), products, inputs=[inputs], site="s", **window)
    own = torch.ops.frostline.binary_conv(x, pack(weight), inputs, *window.values(), "signs", "s")
    assert torch.equal(own, expected)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 35), min_size=2, max_size=2), st.lists(st.integers(1, 3), max_size=3), st.integers(0, 99)
)
def test_unpacking(matrix: list[int], kernel: list[int], seed: int) -> None:
    weight = signs(*matrix, *kernel, seed=seed)
    shape = matrix + kernel
    node = helper.make_node("Unpack", ["bits"], ["y"], domain=DOMAIN, site="s", shape=shape)
    node.attribute.append(helper.make_attribute("inputs", [matrix[1]]))
    values = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    held = helper.make_tensor_value_info("bits", TensorProto.UINT8, [None] * (len(kernel) + 2))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    graph = helper.make_graph([node], "g", [held], values)
    written = helper.make_model(
        graph,
        functions=[functions()["Unpack"]], opset_imports=opsets, ir_version=IR_VERSION,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    runners: list[Any] = [session, ReferenceEvaluator(written)]
    for runner in runners:
        np.testing.assert_array_equal(runner.run(None, {"bits": pack(weight).numpy()})[0], weight.numpy())
    assert torch.equal(torch.ops.frostline.unpack(pack(weight), matrix[1], shape, "s"), weight)


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("Binarize", [-0.0, 0.0, -1e-30, 3.0], [1, 1, -1, 1]),
        ("BinarizeZeroOne", [-3.0, 0.0, np.nextafter(np.float32(0.5), np.float32(0)), 0.5, 3.0], [0, 0, 0, 1, 1]),
    ],
)
def test_the_threshold_becomes_the_high_level(name: str, x: list[float], expected: list[int]) -> None:
    values = [helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in "xy"]
    node = helper.make_node(name, ["x"], ["y"], domain=DOMAIN, site="s")
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    written = helper.make_model(
        helper.make_graph([node], "g", values[:1], values[1:]),
        functions=[functions()[name]], opset_imports=opsets, ir_version=IR_VERSION,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    given_x = np.array(x, np.float32)
    assert session.run(None, {"x": given_x})[0].tolist() == expected
    operator = getattr(torch.ops.frostline, {"Binarize": "binarize"}.get(name, "binarize_zero_one"))
    assert operator(torch.from_numpy(given_x), "s").tolist() == expected


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["Binarize", "BinarizeZeroOne"]), st.integers(1, 9), st.integers(0, 2), st.integers(0, 99))
def test_integers_are_compared_channel_by_channel(name: str, channels: int, spatial: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-9, 10, (3, channels, *(4,) * spatial), generator=generator).float()
    levels = (-1, 1) if name == "Binarize" else (0, 1)
    shape = (channels, *(1,) * spatial)
    thresholds = torch.randint(-9, 11, shape, generator=generator).float()
    high = torch.tensor(levels, dtype=torch.float32)[torch.randint(0, 2, shape, generator=generator)]
    sizes = {"x": x.shape, "t": shape, "h": shape, "y": x.shape}
    values = [helper.make_tensor_value_info(value, TensorProto.FLOAT, size) for value, size in sizes.items()]
    node = helper.make_node(f"{name}At", ["x", "t", "h"], ["y"], domain=DOMAIN, site="s")
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    written = helper.make_model(
        helper.make_graph([node], "g", values[:3], values[3:]),
        functions=[functions()[f"{name}At"]], opset_imports=opsets, ir_version=IR_VERSION,
    )  # fmt: skip
    onnx.checker.check_model(written, full_check=True)
    expected = torch.where(x >= thresholds, high, sum(levels) - high)
    feeds = {"x": x.numpy(), "t": thresholds.numpy(), "h": high.numpy()}
    session = onnxruntime.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    runners: list[Any] = [session, ReferenceEvaluator(written)]
    for runner in runners:
        np.testing.assert_array_equal(runner.run(None, feeds)[0], expected.numpy())
    own = {"Binarize": "binarize_at", "BinarizeZeroOne": "binarize_zero_one_at"}[name]
    assert torch.equal(getattr(torch.ops.frostline, own)(x, thresholds, high, "s"), expected)
