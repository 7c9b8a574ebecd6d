"""The kernels against torch's float products of the same signs: integers are equal, and so is what follows them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

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
    if draw(st.booleans()):  # rows of results that are whole panels of sixteen pixels
        strides = (*strides[:-1], 1)
        span = dilations[-1] * (kernel[-1] - 1) - pads[axes - 1] - pads[-1]
        sizes = (*sizes[:-1], 16 * draw(st.integers(1, 3)) + span)
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


@pytest.mark.parametrize("width", [61, 64])
@pytest.mark.parametrize("inputs", [1, 33, 70])
def test_images_and_results_larger_than_what_is_taken_at_once(inputs: int, width: int) -> None:
    window = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    x, weight = signs(2, inputs, 34, width), signs(70, inputs, 3, 3, seed=2)
    product, sums = Product(packing.pack(weight), inputs, window), expected(x, weight, window)
    residual = floats(*sums.shape)
    assert sums.numel() > 1 << 18
    assert torch.equal(product.floats(x), sums)
    assert torch.equal(product.floats(cpu.pack(x), residual=residual), sums + residual)


def test_rows_of_results_larger_than_what_is_taken_at_once() -> None:
    x, weight = signs(3, 301, 100), signs(301, 100, seed=2)
    product, sums = Product(packing.pack(weight), 100), x @ weight.T
    residual = floats(*sums.shape)
    assert sums.numel() > 1 << 18
    assert torch.equal(product.floats(x, residual=residual), sums + residual)


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


def test_bits_of_groups_of_whole_words_that_are_turned() -> None:
    """Of one tap and of several, from floats and from bits; words of a group are counted in pairs, or one by one."""
    for kernel, inputs, outputs in ((1, 128, 32), (1, 256, 96), (1, 64, 64), (3, 128, 32)):
        window = Window((kernel, kernel), (1, 1), (1, 0, 1, 1), (1, 1), groups=3)
        x, weight = signs(2, 3 * inputs, 30, 21), signs(3 * outputs, inputs, kernel, kernel, seed=2)
        thresholds, high = torch.round(4 * floats(3 * outputs)), signs(3 * outputs, seed=6)
        product = Product(packing.pack(weight), inputs, window, thresholds=thresholds, high=high)
        sums = expected(x, weight, window)
        wanted = torch.where(sums >= along_channels(thresholds, sums), 1.0, -1.0) * along_channels(high, sums)
        assert torch.equal(product.bits(x), packing.pack(wanted))
        assert torch.equal(product.bits(cpu.pack(x)), packing.pack(wanted))


@pytest.mark.parametrize("inputs", [128, 33])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_rows_of_results_of_whole_panels_at_every_stride(stride: int, inputs: int) -> None:
    window = Window((1, 3), (1, stride), (0, 1, 0, 1), (1, 1), groups=2)
    x, weight = signs(2, 2 * inputs, 3, 47 * stride + 1), signs(140, inputs, 1, 3, seed=2)
    sums = expected(x, weight, window)
    assert sums.shape[-1] == 48
    assert torch.equal(Product(packing.pack(weight), inputs, window).floats(x), sums)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("width", [16, 48, 47])  # one panel in a row, and three; none
def test_floats_of_one_tap(axes: int, width: int) -> None:
    window = Window((1,) * axes, (1,) * axes, (0,) * (2 * axes), (1,) * axes)
    x, weight = signs(2, 128, *(3, width)[-axes:]), signs(70, 128, *window.kernel, seed=2)
    product, sums = Product(packing.pack(weight), 128, window), expected(x, weight, window)
    assert torch.equal(product.floats(x), sums)
    assert torch.equal(product.floats(cpu.pack(x)), sums)


def test_thresholds_of_the_largest_sums_at_the_border(engine: str) -> None:
    window = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    for weight in (torch.ones(1, 3616, 3, 3), -torch.ones(1, 3616, 3, 3)):
        x = signs(1, 3616, 3, 3)
        sums = expected(x, weight, window)
        limits = torch.tensor([float("-inf"), float("inf"), -32544, 32544, 0, *sums.unique()])
        for high in (torch.ones(len(limits)), -torch.ones(len(limits))):
            bits = packing.pack(weight.expand(len(limits), -1, -1, -1))
            product = Product(bits, 3616, window, thresholds=limits, high=high)
            assert product.engine == engine
            wanted = torch.where(sums >= along_channels(limits, sums), 1.0, -1.0) * along_channels(high, sums)
            assert torch.equal(product.bits(x), packing.pack(wanted))


@pytest.mark.parametrize("outputs", [1, 16, 30, 33, 70, 96])
def test_rows_with_all_that_follows_their_sums(outputs: int) -> None:
    x, weight = signs(37, 300), signs(outputs, 300, seed=2)
    scale, shift, residual = floats(outputs), floats(outputs, seed=4), floats(37, outputs, seed=5)
    product = Product(packing.pack(weight), 300, scale=scale, shift=shift, limits=(-1, 1.5))
    wanted = ((x @ weight.T * scale + shift) + residual).clamp(-1, 1.5)
    result, bits = product.floats_and_bits(x, residual=residual)
    assert torch.equal(result, wanted)
    assert torch.equal(bits, packing.pack(wanted)), "the bits beyond the channels are clear"


def test_rows_of_groups() -> None:
    x, weight = signs(5, 2 * 40), signs(6, 40, seed=2)
    product = Product(packing.pack(weight), 40, Window(groups=2))
    assert torch.equal(product.floats(x), torch.cat([x[:, :40] @ weight[:3].T, x[:, 40:] @ weight[3:].T], 1))


def test_few_channels_in_many_taps_run_on_vectors(engine: str) -> None:
    window = Window((32, 32), (32, 32), (0, 0, 0, 0), (1, 1))
    x, weight = signs(1, 3, 64, 64), signs(33, 3, 32, 32, seed=2)
    sums, high = expected(x, weight, window), signs(33, seed=6)
    product = Product(packing.pack(weight), 3, window)
    assert product.engine == engine
    assert torch.equal(product.floats(x), sums)
    product = Product(packing.pack(weight), 3, window, thresholds=torch.zeros(33), high=high)
    wanted = torch.where(sums >= 0, 1.0, -1.0) * along_channels(high, sums)
    assert torch.equal(product.bits(x), packing.pack(wanted))


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


def test_bits_of_groups_that_fill_no_words_are_refused() -> None:
    window = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1), groups=2)
    product = Product(packing.pack(signs(10, 8, 1, 1)), 8, window)
    x = signs(1, 16, 3, 3)
    assert torch.equal(product.floats(x), expected(x, signs(10, 8, 1, 1), window))
    with pytest.raises(UsageError, match="whole words"):
        product.floats(cpu.pack(x))
    with pytest.raises(UsageError, match="whole words"):
        product.floats_and_bits(x)


def test_padding_of_weights_that_lean_to_one_side(engine: str) -> None:
    window = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    for weight in (torch.ones(2, 3640, 3, 3), -torch.ones(2, 3640, 3, 3)):
        x, product = signs(1, 3640, 3, 3), Product(packing.pack(weight), 3640, window)
        assert product.engine == engine
        assert torch.equal(product.floats(x), expected(x, weight, window))


def test_bits_beyond_the_channels_are_no_weights() -> None:
    x, weight, high = signs(3, 33), signs(4, 33), torch.tensor([1.0, -1.0, 1.0, -1.0])
    bits = packing.pack(weight)
    more = bits.clone()
    more[..., 4] |= 0b11111110
    more[..., 5:] = 255
    assert torch.equal(Product(more, 33).floats(x), x @ weight.T)
    compared = [Product(each, 33, thresholds=torch.zeros(4), high=high).bits(x) for each in (bits, more)]
    assert torch.equal(*compared)


def test_nothing_reaches_a_threshold_that_is_no_number() -> None:
    weight, thresholds = packing.pack(signs(2, 8)), torch.full((2,), float("nan"))
    product = Product(weight, 8, thresholds=thresholds, high=torch.tensor([1.0, -1.0]))
    assert product.bits(signs(1, 8))[0, 0] == 0b10


def test_limits_leave_what_is_no_number_and_the_sign_of_zero() -> None:
    weight, residual = packing.pack(torch.ones(1, 2)), torch.tensor([[float("nan")]])
    x = torch.tensor([[1.0, -1.0]])
    clipped = Product(weight, 2, limits=(0, 6))
    assert clipped.floats(x, residual=residual).isnan().all()
    negative = Product(weight, 2, scale=torch.tensor([-1.0]), shift=torch.tensor([-0.0]), limits=(0, 6))
    assert negative.floats(x).signbit().all()


def test_what_is_empty() -> None:
    product = Product(packing.pack(signs(4, 8, 1, 1)), 8, Window((1, 1), (1, 1), (1, 1, 1, 1), (1, 1)))
    assert product.floats(torch.empty(0, 8, 3, 3)).shape == (0, 4, 5, 5)
    assert torch.equal(product.floats(torch.empty(2, 8, 0, 0)), torch.zeros(2, 4, 2, 2)), "all of it is padding"
    assert Product(packing.pack(signs(4, 8)), 8).floats(torch.empty(0, 8)).shape == (0, 4)


def test_copies_have_weights_of_their_own() -> None:
    x, product = signs(3, 8), Product(packing.pack(signs(4, 8)), 8, scale=torch.ones(4), shift=torch.ones(4))
    wanted = product.floats(x)
    copies = [copy.deepcopy(product), copy.copy(product), pickle.loads(pickle.dumps(product))]  # noqa: S301  (its own)
    del product
    assert all(torch.equal(one.floats(x), wanted) for one in copies)


def test_what_the_library_holds_is_freed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[int] = []
    monkeypatch.setattr(cpu.loaded(), "frostline_free", lambda handle: freed.append(handle.value))
    product = Product(packing.pack(signs(4, 8)), 8)
    twin = copy.deepcopy(product)
    del product
    assert len(freed) == 1
    del twin
    assert len(set(freed)) == 2
    with pytest.raises(UsageError):
        Product(packing.pack(signs(4, 8)), 40)
    assert len(freed) == 2


def test_several_threads_run_one_product_on_inputs_of_several_sizes() -> None:
    weight, window = signs(70, 33, 3, 3), Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    product = Product(packing.pack(weight), 33, window)

    def is_exact(index: int) -> bool:
        x = signs(1 + index % 2, 33, 5 + index % 7, 4 + index % 3, seed=index)
        return torch.equal(product.floats(x, threads=1 + index % 2), expected(x, weight, window))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(is_exact, range(60)))


def test_constants_that_do_not_fit_are_refused() -> None:
    weight, four = packing.pack(signs(4, 8)), torch.zeros(4)
    with pytest.raises(UsageError, match="thresholds comes without high"):
        Product(weight, 8, thresholds=four)
    with pytest.raises(UsageError, match="shift comes without scale"):
        Product(weight, 8, shift=four)
    with pytest.raises(UsageError, match="scale has 3 entries for 4 outputs"):
        Product(weight, 8, scale=four[:3], shift=four)


def test_a_library_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "half.so").write_bytes(b"half a library")
    with pytest.raises(UsageError, match=r"remove .*half\.so"):
        cpu.opened(tmp_path / "half.so")
