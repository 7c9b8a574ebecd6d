"""Torch's operators on the kernels: they give what unpacked weights give, and prepare weights once."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frostline.compiler.bits import pack
from frostline.compiler.kernels import cpu, cuda, prepared
from frostline.compiler.kernels.cpu import Window
from frostline.compiler.kernels.operators import binary_conv, binary_linear
from frostline.errors import Offence, UsageError
from tests.compiler.kernels.emulator import Emulator
from tests.compiler.kernels.signs import expected, signs

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@st.composite
def convolutions(draw: st.DrawFn, *ranks: int) -> tuple[Tensor, Tensor, Window]:
    """An activation, a weight and a window that fit together, over one of `ranks` axes."""
    rank, groups, inputs = (
        draw(st.sampled_from(ranks)),
        draw(st.sampled_from([1, 1, 2, 3])),
        draw(st.sampled_from([1, 3, 32, 33, 64])),
    )
    several = st.tuples(*[st.integers(1, 3)] * rank)
    window = Window(
        draw(several), draw(several), draw(st.tuples(*[st.integers(0, 3)] * (2 * rank))), draw(several), groups
    )
    x = signs(draw(st.integers(0, 2)), groups * inputs, *draw(st.tuples(*[st.integers(7, 9)] * rank)))
    return x, signs(groups * draw(st.sampled_from([1, 5, 33])), inputs, *window.kernel, seed=2), window


def convolve(x: Tensor, bits: Tensor, inputs: int, window: Window, operand: str = "signs") -> Tensor:
    sizes = [list(each) for each in (window.kernel, window.strides, window.pads, window.dilations)]
    return binary_conv(x, bits, inputs, *sizes, window.groups, operand, "site")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """The windows for which weights were prepared on the CPU."""
    windows: list[Window] = []

    def counting(bits: Tensor, inputs: int, window: Window) -> cpu.Product:
        windows.append(window)
        return cpu.Product(bits, inputs, window)

    monkeypatch.setattr(prepared, "Product", counting)
    return windows


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Nothing builds the kernels; the tries are noted."""
    tries: list[Any] = []

    def refuse(x: Tensor) -> Tensor:
        tries.append(x)
        raise UsageError("the kernels cannot be built", [Offence("there is no C++ compiler")])

    monkeypatch.setattr(cpu, "pack", refuse)
    prepared._usable.cache_clear()
    yield tries
    prepared._usable.cache_clear()


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None)
@given(convolutions(1, 2, 3))
def test_convolutions(device: str, example: tuple[Tensor, Tensor, Window]) -> None:
    x, weight, window = example
    result = convolve(x.to(device), pack(weight).to(device), weight.shape[1], window)
    assert torch.equal(result.cpu(), expected(x, weight, window))
    assert result.is_contiguous()
    if device == "cpu" and x.numel():
        by_kernel = prepared.sums(x, pack(weight), weight.shape[1], window)
        assert by_kernel is not None
        assert torch.equal(by_kernel, result)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=0, max_size=3), st.sampled_from([1, 31, 64, 100]), st.sampled_from([1, 33]))
def test_linear_layers(device: str, leading: list[int], inputs: int, outputs: int) -> None:
    x, weight = signs(*leading, inputs), signs(outputs, inputs, seed=2)
    result = binary_linear(x.to(device), pack(weight).to(device), inputs, "signs", "site")
    assert torch.equal(result.cpu(), torch.nn.functional.linear(x, weight))


def test_channels_last() -> None:
    x, weight = signs(2, 40, 6, 6).to(memory_format=torch.channels_last), signs(5, 40, 3, 3, seed=2)
    window = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    for operand in ("signs", "floats"):  # on the kernels, and not
        result = convolve(x, pack(weight), 40, window, operand)
        assert torch.equal(result, expected(x, weight, window))
        assert result.is_contiguous()


def test_floats_and_zero_one_are_not_taken_for_signs(made: list[Window]) -> None:
    weight = signs(5, 40)
    for operand, x in (("zero_one", signs(2, 40).clamp(min=0)), ("floats", torch.randn(2, 40))):
        result = binary_linear(x, pack(weight), 40, operand, "site")
        assert torch.equal(result, torch.nn.functional.linear(x, weight))
    assert not made


def test_weights_are_prepared_once_for_a_window(made: list[Window]) -> None:
    x, bits, pixels = signs(2, 40), pack(signs(5, 40, 1)), signs(2, 40, 6)
    for _ in range(3):
        binary_linear(x, bits[:, 0], 40, "signs", "site")  # a new tensor each time
        for stride in (1, 2):
            convolve(pixels, bits, 40, Window((1,), (stride,), (0, 0), (1,)))
    assert [window.strides for window in made] == [(), (1,), (2,), (), ()]


def test_bits_that_change_in_place_are_seen(made: list[Window]) -> None:
    x, weight = signs(3, 40), signs(5, 40, seed=2)
    bits = pack(weight)
    assert torch.equal(binary_linear(x, bits, 40, "signs", "site"), x @ weight.T)
    bits.copy_(pack(-weight))
    for _ in range(2):
        assert torch.equal(binary_linear(x, bits, 40, "signs", "site"), x @ -weight.T)
    bits.data = pack(weight)
    assert torch.equal(binary_linear(x, bits, 40, "signs", "site"), x @ weight.T)
    assert len(made) == 3


def test_bits_of_inference_mode_that_change_are_seen() -> None:
    x, weight = signs(3, 40), signs(5, 40, seed=2)
    with torch.inference_mode():
        bits = pack(weight)
        assert torch.equal(binary_linear(x, bits, 40, "signs", "site"), x @ weight.T)
        bits.copy_(pack(-weight))
        assert torch.equal(binary_linear(x, bits, 40, "signs", "site"), x @ -weight.T)


def test_what_was_prepared_goes_with_its_bits(made: list[Window]) -> None:
    gc.collect()
    before = len(prepared._KEPT)
    bits = pack(signs(5, 40))
    binary_linear(signs(2, 40), bits, 40, "signs", "site")
    assert len(prepared._KEPT) == before + 1
    del bits
    gc.collect()
    assert len(prepared._KEPT) == before


def test_threads_share_what_is_prepared(made: list[Window]) -> None:
    x, weight = [signs(3, 40, seed=seed) for seed in range(32)], signs(5, 40, seed=2)
    bits = pack(weight)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda each: binary_linear(each, bits, 40, "signs", "site"), x))
    assert all(torch.equal(result, each @ weight.T) for result, each in zip(results, x, strict=True))
    assert len(made) == 1


def test_without_a_compiler_weights_are_unpacked(no_compiler: list[Any], made: list[Window]) -> None:
    x, weight = signs(2, 40, 6, 6), signs(6, 20, 3, 3, seed=2)
    window = Window((3, 3), (1, 1), (0, 1, 2, 1), (1, 1), 2)
    for bits in (pack(weight), pack(weight)):
        assert torch.equal(convolve(x, bits, 20, window), expected(x, weight, window))
    assert not made
    assert len(no_compiler) == 1


@pytest.mark.parametrize("shape", [(2, 41), (2, 39), (40, 2)])
def test_what_does_not_fit_is_refused_as_torch_does(shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        binary_linear(signs(*shape), pack(signs(5, 40)), 40, "signs", "site")


def test_a_window_larger_than_the_image_is_refused_as_torch_does() -> None:
    with pytest.raises(RuntimeError, match="can't be greater than actual input size"):
        convolve(signs(1, 8, 2, 2), pack(signs(5, 8, 3, 3)), 8, Window((3, 3), (1, 1), (0, 0, 0, 0), (1, 1)))


def test_fake_tensors_ask_for_shapes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("a kernel was asked for")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("bits", pack(signs(5, 40)))

        def forward(self, x: Tensor) -> Any:
            return binary_linear(x, self.bits, 40, "signs", "site")

    monkeypatch.setattr(prepared, "sums", refuse)
    exported = torch.export.export(Net(), (signs(2, 40),))
    assert torch.ops.frostline.binary_linear.default in [node.target for node in exported.graph.nodes]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    folder: Path = tmp_path_factory.mktemp("emulated")
    with pytest.MonkeyPatch.context() as patch:
        launch = Emulator(compiler, folder).launch
        patch.setattr(cuda, "launch", launch)
        yield launch


@settings(max_examples=15, deadline=None)
@given(convolutions(2), st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_a_gpu_computes_the_same(
    emulated: Callable[..., None], example: tuple[Tensor, Tensor, Window], leading: list[int]
) -> None:
    x, weight, window = example
    conv = prepared.on_cuda(pack(weight), weight.shape[1], window)
    assert conv is not None
    assert torch.equal(conv(x), expected(x, weight, window))
    rows, matrix = signs(*leading, 40), signs(33, 40, seed=2)
    linear = prepared.on_cuda(pack(matrix), 40, Window())
    assert linear is not None
    assert torch.equal(linear(rows), rows @ matrix.T)


def test_a_gpu_has_no_kernels_for_one_and_three_dimensions() -> None:
    assert prepared.on_cuda(pack(signs(5, 40, 3)), 40, Window((3,), (1,), (0, 0), (1,))) is None
