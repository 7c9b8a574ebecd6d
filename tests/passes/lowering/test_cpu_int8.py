"""Target `cpu-int8` against torch: integers are equal, and nothing but 8-bit operators is left at run time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline.passes.lowering.cpu_int8 import CPU_INT8
from tests.models.products import Case, Chain, check, convolutions, kinds, linear, linears, opened


@settings(max_examples=25, deadline=None)
@given(linears())
def test_linear(case: Case) -> None:
    check(case, CPU_INT8)


@settings(max_examples=40, deadline=None)
@given(convolutions())
def test_convolution(case: Case) -> None:
    check(case, CPU_INT8)


@settings(max_examples=10, deadline=None)
@given(convolutions(most_groups=3))
def test_groups_stay_in_float(case: Case) -> None:
    check(case, CPU_INT8)
    grouped = case.attributes["group"] > 1
    assert kinds(case.model(CPU_INT8)) == [case.operator + "AsFloat" * grouped]


def test_sizes_that_are_not_known_stay_in_float() -> None:
    window = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1}
    case = Case("BinaryConv", torch.ones(1, 2, 3, 3), torch.ones(1, 2, 1, 1), window, np.full((1, 1, 3, 3), 2.0))
    assert kinds(case.model(CPU_INT8)) == ["BinaryConv"]
    assert kinds(case.model(CPU_INT8, sizes_known=False)) == ["BinaryConvAsFloat"]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_sums_of_one_sign_saturate_nowhere(sign: float) -> None:
    """Bytes of 129 times 1 in every lane: the largest sums that 16 bits could fail to hold."""
    x, weight = torch.ones(4, 40_000), torch.full((16, 40_000), sign)
    check(Case("BinaryLinear", x, weight, {}, np.full((4, 16), 40_000 * sign, np.float32)), CPU_INT8)


@settings(max_examples=10, deadline=None)
@given(st.builds(Chain, st.integers(1, 40), st.integers(1, 5), st.integers(1, 3), st.booleans()), st.booleans())
def test_thresholds_of_channels(chain: Chain, sums_shown: bool) -> None:
    x = torch.randn(2, chain.channels, chain.size, chain.size)
    own = opened(chain.model(CPU_INT8, sums_shown)).run(None, {"x": x.numpy()})[0]
    np.testing.assert_array_equal(own, chain.expected(x))


def test_values_stay_bytes_from_convolution_to_convolution(tmp_path: Path) -> None:
    opened(Chain(8, 5, 3, zero_one=False).model(CPU_INT8, sums_shown=True), str(tmp_path / "optimized.onnx"))
    left = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert left.count("MatMulInteger") == 3
    assert left.count("DequantizeLinear") == 1  # the output's
    folded = {"BitwiseAnd", "Range", "ReduceProd", "Mod", "QuantizeLinear", "Shape"}
    assert not folded & set(left)


def test_weights_are_bits() -> None:
    model = linear(512, 512, 0).model(CPU_INT8)
    assert len(model.SerializeToString()) < 512 * 512 / 8 + 4000
