"""Target `cuda-fp16` against torch: on the CPU, in numpy's half precision, and on CUDA where there is one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline.passes.lowering.cuda_fp16 import CUDA_FP16
from tests.models.products import Case, Chain, check, convolutions, kinds, linear, linears, opened, signs


@settings(max_examples=25, deadline=None)
@given(linears())
def test_linear(case: Case) -> None:
    check(case, CUDA_FP16)


@settings(max_examples=40, deadline=None)
@given(convolutions(most_groups=3))
def test_convolution(case: Case) -> None:
    check(case, CUDA_FP16)


@settings(max_examples=10, deadline=None)
@given(st.builds(Chain, st.integers(1, 40), st.integers(1, 5), st.integers(1, 3), st.booleans()))
def test_thresholds_of_channels(chain: Chain) -> None:
    x = torch.randn(2, chain.channels, chain.size, chain.size)
    np.testing.assert_array_equal(opened(chain.model(CUDA_FP16)).run(None, {"x": x.numpy()})[0], chain.expected(x))


@pytest.mark.parametrize(
    ("inputs", "zero_one", "in_half"),
    [(2048, False, True), (2049, False, False), (2050, False, True), (4096, False, True), (4098, False, False),
     (2048, True, True), (2050, True, False)],
)  # fmt: skip
def test_sums_that_half_precision_does_not_hold_stay_in_float(inputs: int, zero_one: bool, in_half: bool) -> None:
    """The reference evaluator really rounds to half precision: ONNX Runtime's CPU computes in float32."""
    case = linear(inputs, 2, 0, rows=(1,), zero_one=zero_one)
    assert kinds(case.model(CUDA_FP16)) == [case.operator + "AsFloat" * (not in_half)]
    step = torch.ones(inputs)
    for off in range(4):  # the largest sums, and their neighbours
        step[: off // 2] = -1.0
        x = torch.ones(1, inputs)
        weight = torch.stack([step, -step])
        check(Case(case.operator, x, weight, {}, (x @ weight.T).numpy()), CUDA_FP16)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.data())
def test_what_is_left_in_half_precision_is_exact(inputs: int, data: st.DataObject) -> None:
    zero_one = data.draw(st.booleans())
    if kinds(linear(inputs, 1, 0, rows=(1,), zero_one=zero_one).model(CUDA_FP16))[0].endswith("AsFloat"):
        return
    sums = np.arange(-inputs, inputs + 1, 1 if zero_one else 2, dtype=np.float32)
    assert (sums.astype(np.float16) == sums).all()


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [64, 256, 512])  # the last has more inputs than half precision can add
def test_integers_on_cuda(channels: int) -> None:
    window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1], "group": 1}
    x, weight = torch.ones(2, channels, 14, 14), signs(32, channels, 3, 3, seed=0)
    weight[0] = 1.0
    case = Case("BinaryConv", x, weight, window, torch.conv2d(x, weight, padding=1).numpy())
    session = opened(case.model(CUDA_FP16), provider="CUDAExecutionProvider")
    np.testing.assert_array_equal(session.run(None, {"x": x.numpy()})[0], case.expected)


@pytest.mark.gpu
def test_every_node_runs_on_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chain = Chain(64, 14, 4, zero_one=False)
    x = torch.randn(2, 64, 14, 14)
    session = opened(chain.model(CUDA_FP16), provider="CUDAExecutionProvider", profile=True)
    np.testing.assert_array_equal(session.run(None, {"x": x.numpy()})[0], chain.expected(x))
    events = json.loads(Path(session.end_profiling()).read_text())
    places = {event["args"]["provider"] for event in events if "provider" in event.get("args", {})}
    assert places == {"CUDAExecutionProvider"}
