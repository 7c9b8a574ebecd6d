"""Target `tensorrt-int8`: its arithmetic against torch, on the CPU. TensorRT itself runs in no test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline.passes.lowering.tensorrt_int8 import TENSORRT_INT8
from tests.models.products import Case, Chain, check, convolutions, linears, opened


@settings(max_examples=25, deadline=None)
@given(linears())
def test_linear(case: Case) -> None:
    check(case, TENSORRT_INT8)


@settings(max_examples=40, deadline=None)
@given(convolutions(most_groups=3))
def test_convolution(case: Case) -> None:
    check(case, TENSORRT_INT8)


@settings(max_examples=10, deadline=None)
@given(st.builds(Chain, st.integers(1, 40), st.integers(1, 5), st.integers(1, 3), st.booleans()))
def test_thresholds_of_channels(chain: Chain) -> None:
    x = torch.randn(2, chain.channels, chain.size, chain.size)
    np.testing.assert_array_equal(opened(chain.model(TENSORRT_INT8)).run(None, {"x": x.numpy()})[0], chain.expected(x))


def test_both_operands_of_a_convolution_are_quantized_when_bits_are_folded(tmp_path: Path) -> None:
    model = Chain(8, 5, 2, zero_one=False).model(TENSORRT_INT8)
    path = tmp_path / "optimized.onnx"
    opened(model, str(path), level="ORT_ENABLE_BASIC")
    graph = onnx.load(path).graph
    made = {node.output[0]: node for node in graph.node}
    for conv in (node for node in graph.node if node.op_type == "Conv"):
        assert [made[value].op_type for value in conv.input] == ["DequantizeLinear", "DequantizeLinear"]
        weight = made[conv.input[1]].input[0]
        (held,) = (tensor for tensor in graph.initializer if tensor.name == weight)
        assert held.data_type == onnx.TensorProto.INT8
