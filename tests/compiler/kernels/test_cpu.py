"""The kernels against torch's float products of the same signs: integers are equal, and so is what follows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frostline.compiler import bits as packing
from frostline.compiler.kernels import cpu
from frostline.compiler.kernels.cpu import Product, Window
from frostline.errors import UsageError
from tests.compiler.kernels.signs import expected, signs

EXAMPLES = settings(max_examples=40, deadline=None)


@pytest.fixture(params=cpu.engines(), scope="module", autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    cpu.choose(request.param)
    yield request.param
    cpu.choose(None)


def floats(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unpacked(bits: Tensor, channels: int) -> Tensor:
    """Packed pixels `[batch, *pixels, bytes]` as signs with the channels at axis 1."""
    return packing.unpack(bits, channels)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Tensor, Tensor, Window]:
    """An activation, a weight and a window that fit together."""
    axes = draw(st.integers(1, 3))
    groups, inputs = draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([1, 3, 8, 31, 32, 33, 64, 100]))
    outputs = groups * draw(st.sampled_from([1, 5, 16, 32, 33, 64, 70, 130]))
    several = st.tuples(*[st.integers(1, 3)] * axes)
    kernel, strides, dilations = draw(several), draw(several), draw(several)
    pads = draw(st.tuples(*[st.integers(0, 3)] * (2 * axes)))
    sizes = draw(st.tuples(*[st.integers(7, 12)] * axes))
    x = signs(draw(st.integers(0, 3)), groups * inputs, *sizes)
    return x, signs(outputs, inputs, *kernel, seed=2), Window(kernel, strides, pads, dilations, groups)


def along_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.dim() - 2))


@EXAMPLES
@given(convolutions())
def test_integers_of_convolutions_are_equal(example: tuple[Tensor, Tensor, Window]) -> None:
    x, weight, window = example
    product = Product(packing.pack(weight), weight.shape[1], window)
    assert torch.equal(product.floats(x), expected(x, weight, window))


@EXAMPLES
@given(st.integers(1, 40), st.sampled_from([1, 31, 64, 100, 768]), st.sampled_from([1, 7, 32, 65, 130, 300]))
def test_integers_of_linear_layers_are_equal(rows: int, inputs: int, outputs: int) -> None:
    x, weight = signs(rows, 2, inputs), signs(outputs, inputs, seed=2)
    assert torch.equal(Product(packing.pack(weight), inputs).floats(x), x @ weight.T)


@EXAMPLES
@given(convolutions())
def test_a_factor_a_sum_a_residual_and_limits_round_as_operators_do(example: tuple[Tensor, Tensor, Window]) -> None:
    x, weight, window = example
    window = replace(window, groups=1)
    x = x[:, : weight.shape[1]]
    scale, shift, sums = floats(weight.shape[0]), floats(weight.shape[0], seed=4), expected(x, weight, window)
    residual = floats(*sums.shape, seed=5)
    product = Product(packing.pack(weight), weight.shape[1], window, scale=scale, shift=shift, limits=(-1, 1.5))
    result, bits = product.floats_and_bits(x, residual=residual)
    scaled = sums * along_channels(scale, sums)
    wanted = ((scaled + along_channels(shift, sums)) + residual).clamp(-1, 1.5)
    assert torch.equal(result, wanted)
    assert torch.equal(unpacked(bits, weight.shape[0]), torch.where(wanted >= 0, 1.0, -1.0))


@EXAMPLES
@given(convolutions())
def test_bits_flow_from_product_to_product(example: tuple[Tensor, Tensor, Window]) -> None:
    x, weight, window = example
    window = replace(window, groups=1)
    x, outputs = x[:, : weight.shape[1]], weight.shape[0]
    sums = expected(x, weight, window)
    thresholds, high = torch.round(4 * floats(outputs)), signs(outputs, seed=6)
    product = Product(packing.pack(weight), weight.shape[1], window, thresholds=thresholds, high=high)
    bits = product.bits(cpu.pack(x))
    wanted = torch.where(sums >= along_channels(thresholds, sums), 1.0, -1.0) * along_channels(high, sums)
    assert torch.equal(unpacked(bits, outputs), wanted)
    assert torch.equal(packing.pack(wanted), bits), "the bits beyond the channels are clear"


@pytest.mark.parametrize("limit", [-100, -28, -27, -26, 0, 26, 27, 28, 100])
def test_thresholds_on_and_beyond_the_ends_of_what_a_sum_can_be(limit: int) -> None:
    weight = torch.cat([torch.ones(1, 3, 3, 3), -torch.ones(1, 3, 3, 3)])
    x = torch.ones(1, 3, 5, 5)
    thresholds, high = torch.full((2,), float(limit)), torch.ones(2)
    window = Window((3, 3), (1, 1), (0, 0, 0, 0), (1, 1))
    bits = Product(packing.pack(weight), 3, window, thresholds=thresholds, high=high).bits(x)
    first, second = limit <= 27, limit <= -27
    assert bits[..., 0].unique().tolist() == [first + 2 * second]


def test_signs_are_taken_of_floats_with_zero_as_plus_one() -> None:
    x = torch.tensor([[0.0, -0.0, 1e-30, -1e-30, float("nan"), float("inf"), -5.0]])
    assert packing.unpack(cpu.pack(x, rows=True), 7).tolist() == [[1, 1, 1, -1, -1, 1, -1]]


def test_sums_that_no_vector_can_count_run_in_plain_code() -> None:
    weight, x = signs(3, 40_000), signs(2, 40_000, seed=3)
    product = Product(packing.pack(weight), 40_000)
    assert product.engine == "scalar"
    assert torch.equal(product.floats(x), (x.double() @ weight.double().T).float())


def test_two_threads_give_what_one_gives() -> None:
    weight, x = signs(200, 64, 3, 3), signs(5, 64, 20, 20, seed=3)
    product = Product(packing.pack(weight), 64, Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)))
    assert torch.equal(product.floats(x, threads=2), product.floats(x, threads=1))


def test_what_does_not_fit_is_refused() -> None:
    window = Window((3, 3), (1, 1), (0, 0, 0, 0), (1, 1))
    product = Product(packing.pack(signs(4, 8, 3, 3)), 8, window)
    with pytest.raises(UsageError, match="8 channels are read"):
        product.floats(signs(1, 7, 5, 5))
    with pytest.raises(UsageError, match="the kernel is larger than the padded input"):
        product.floats(signs(1, 8, 2, 5))
    with pytest.raises(UsageError, match="the residual cannot be added"):
        product.floats(signs(1, 8, 5, 5), residual=floats(1, 4, 3, 4))
    with pytest.raises(UsageError, match="the groups do not divide the outputs"):
        Product(packing.pack(signs(4, 8, 3, 3)), 8, replace(window, groups=3))
    with pytest.raises(UsageError, match="strides has 1 entries for 2 axes"):
        Product(packing.pack(signs(4, 8, 3, 3)), 8, replace(window, strides=(1,)))
    with pytest.raises(UsageError, match=r"the bits are torch\.uint8 of shape"):
        Product(packing.pack(signs(4, 8, 3, 3)), 40, window)
    with pytest.raises(UsageError, match="the product does not give this"):
        product.bits(signs(1, 8, 5, 5))
    with pytest.raises(UsageError, match='there is no engine "neon"'):
        cpu.choose("neon")
