"""Convolutions that compare their own sums against torch: the levels are equal, whatever the thresholds are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline.passes.lowering.cpu_int8 import CPU_INT8
from tests.models.products import Case, Chain, Compared, check, compared, comparisons, kinds, opened


@settings(max_examples=60, deadline=None)
@given(comparisons())
def test_levels(case: Compared) -> None:
    check(case, CPU_INT8)
    assert kinds(case.model(CPU_INT8)) == [case.product.operator + case.site]


@settings(max_examples=15, deadline=None)
@given(comparisons(most_groups=3))
def test_levels_of_groups(case: Compared) -> None:
    check(case, CPU_INT8)


@settings(max_examples=25, deadline=None)
@given(comparisons(inputs_each=st.sampled_from([4, 16, 32, 64]), outputs_each=st.sampled_from([16, 32, 48, 64])))
def test_levels_of_channels_that_fill_registers(case: Compared) -> None:
    """ONNX Runtime has other kernels for these, also where its optimisation is off and nothing is folded."""
    check(case, CPU_INT8)
    unfolded = opened(case.model(CPU_INT8), level="ORT_DISABLE_ALL")
    np.testing.assert_array_equal(unfolded.run(None, {"x": case.x.numpy()})[0], case.expected)


def test_wide_groups_compare_their_sums_and_narrow_ones_stay_in_float() -> None:
    for inputs, expected in ((32, ["BinaryConvBinarizeAt"]), (31, ["BinaryConvAsFloat", "BinarizeAt"])):
        case = compared(inputs, group=2)
        check(case, CPU_INT8)
        assert kinds(case.model(CPU_INT8)) == expected


def test_sizes_need_not_be_known() -> None:
    case = compared()
    model = case.model(CPU_INT8, sizes_known=False)
    assert kinds(model) == ["BinaryConvBinarizeAt"]
    np.testing.assert_array_equal(opened(model).run(None, {"x": case.x.numpy()})[0], case.expected)


def test_sums_that_are_read_elsewhere_stay_sums() -> None:
    case = compared()
    model = case.model(CPU_INT8, sums_shown=True)
    assert kinds(model) == ["BinaryConv", "BinarizeAt"]
    levels, sums = opened(model).run(None, {"x": case.x.numpy()})
    np.testing.assert_array_equal(levels, case.expected)
    np.testing.assert_array_equal(sums, case.product.expected)


def test_sums_that_float32_could_not_hold_are_left() -> None:
    """Four million inputs are the first that are too many."""
    for inputs, expected in ((2**22 - 1, ["BinaryConvBinarizeAt"]), (2**22, ["BinaryConv", "BinarizeAt"])):
        window = {"kernel_shape": [1], "strides": [1], "pads": [0, 0], "dilations": [1], "group": 1}
        weight = torch.ones(1, inputs, 1)
        case = Case("BinaryConv", torch.ones(1, inputs, 1), weight, window, np.ones((1, 1, 1), np.float32))
        one = Compared(case, "BinarizeAt", torch.zeros(1, 1), torch.ones(1, 1))
        assert kinds(one.model(CPU_INT8)) == expected


@pytest.mark.parametrize("step", [0.0, 1.0])
def test_sums_of_one_sign_saturate_nowhere(step: float) -> None:
    """The largest sums: they reach a threshold that they are, and none above."""
    inputs = 4096
    window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1}
    most = 9.0 * inputs
    sums = np.full((1, 16, 2, 2), most, np.float32)
    case = Case("BinaryConv", torch.ones(1, inputs, 4, 4), torch.ones(16, inputs, 3, 3), window, sums)
    check(Compared(case, "BinarizeAt", torch.full((16, 1, 1), most + step), torch.ones(16, 1, 1)), CPU_INT8)


@pytest.mark.parametrize("zero_one", [False, True])
def test_values_stay_bytes_from_convolution_to_convolution(zero_one: bool, tmp_path: Path) -> None:
    opened(Chain(8, 5, 3, zero_one).model(CPU_INT8), str(tmp_path / "optimized.onnx"))
    left = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert left.count("QLinearConv") == left.count("Clip") == 3
    assert left.count("DequantizeLinear") == 1  # the output's
    folded = {"BitwiseAnd", "Mul", "Ceil", "Cast", "QuantizeLinear", "Shape"}
    assert not folded & set(left)
