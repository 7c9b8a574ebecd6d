"""Every test of a result runs twice: on a GPU, where there is one, and on emulated warps, where there is g++."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from benchmarks.cuda import Rate
from frostline.compiler import bits
from frostline.compiler.kernels import cuda
from frostline.compiler.kernels.fitting import Affine, Threshold
from frostline.errors import UsageError
from tests.compiler.kernels.emulator import Emulator


@dataclass(frozen=True)
class Case:
    """A convolution; `inputs` and `outputs` are those of one group."""

    images: int = 1
    inputs: int = 64
    outputs: int = 32
    size: tuple[int, int] = (5, 5)
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1

    def operands(self, device: str) -> tuple[Tensor, Tensor]:
        """Signs: activations and weights."""
        x = _signs(self.images, self.inputs * self.group, *self.size)
        return x.to(device), _signs(self.outputs * self.group, self.inputs, *self.kernel).to(device)

    def expected(self, x: Tensor, weights: Tensor) -> Tensor:
        top, left, bottom, right = self.pads
        padded = functional.pad(x, (left, right, top, bottom))
        # In double: no algorithm of a convolution in float32 rounds it to another integer.
        sums = functional.conv2d(padded.double(), weights.double(), None, self.strides, 0, self.dilations, self.group)
        return sums.round().int()

    def computed(self, x: Tensor, weights: Tensor, then: Affine | Threshold | None, *, plain: bool) -> Tensor:
        window = (self.strides, self.pads, self.dilations, self.group)
        return cuda.conv(cuda.pack(x), bits.pack(weights), self.inputs, *window, then, plain=plain)


# Tiles of 128 rows by 64 or 128 columns, stages of 512 channels, copies of 32, 64 or 128: cut short, and exceeded.
CASES = {
    "one pixel": Case(size=(1, 1), kernel=(1, 1), pads=(0, 0, 0, 0)),
    "three tiles of rows": Case(images=2, size=(13, 11)),
    "copies of 32 channels": Case(inputs=96, outputs=33),
    "copies of 128": Case(inputs=128, outputs=65),
    "channels that fill no word": Case(inputs=43, outputs=7),
    "more stages than fit": Case(inputs=2080, outputs=40, size=(3, 3)),
    "three tiles of columns": Case(outputs=300, size=(3, 4)),
    "strides and uneven pads": Case(size=(9, 8), strides=(2, 3), pads=(0, 2, 1, 3)),
    "dilations": Case(size=(9, 8), dilations=(3, 2), kernel=(3, 2)),
    "pads beyond the window": Case(kernel=(1, 2), pads=(3, 2, 1, 4)),
    "a kernel larger than the image": Case(size=(2, 3), kernel=(5, 7), pads=(2, 3, 2, 3)),
    "groups of whole words": Case(inputs=64, outputs=32, group=3),
    "groups that share a word": Case(inputs=12, outputs=5, group=4),
    "depthwise": Case(inputs=1, outputs=1, group=70),
}
PADS = st.tuples(*[st.integers(0, 3)] * 4)
SMALL = st.integers(1, 3)
ANY = st.builds(
    Case,
    images=SMALL,
    inputs=st.integers(1, 200) | st.sampled_from([32, 64, 128, 256]),
    outputs=st.integers(1, 140) | st.sampled_from([32, 64, 96]),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(SMALL, SMALL),
    strides=st.tuples(SMALL, SMALL),
    pads=PADS,
    dilations=st.tuples(st.just(1), SMALL) | st.tuples(SMALL, st.just(1)),
    group=st.sampled_from([1, 1, 2, 3]),
)
SEEDS = st.integers(0, 2**31)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    return Emulator(compiler, tmp_path_factory.mktemp("emulated"))


DEVICES = [pytest.param("cpu", id="emulated"), pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where tensors lie; on the CPU launches go to emulated warps."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "cpu":
            patch.setattr(cuda, "launch", request.getfixturevalue("emulator").launch)
        elif not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        yield request.param


def _signs(*shape: int) -> Tensor:
    return torch.randint(0, 2, shape) * 2.0 - 1


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("plain", [False, True], ids=["tiled", "plain"])
def test_sums_are_those_of_a_float_convolution(device: str, case: Case, plain: bool) -> None:
    x, weights = case.operands(device)
    computed = case.computed(x, weights, None, plain=plain)
    assert computed.dtype == torch.int32
    assert torch.equal(computed, case.expected(x, weights))


@settings(max_examples=60, deadline=None)
@given(ANY, SEEDS)
def test_any_convolution(device: str, case: Case, seed: int) -> None:
    torch.manual_seed(seed)
    x, weights = case.operands(device)
    at = torch.randint(-9, 9, (len(weights),), dtype=torch.int32, device=device)
    try:
        expected = case.expected(x, weights)
    except RuntimeError:  # the window is larger than the padded image
        with pytest.raises(UsageError, match="larger than the padded image"):
            case.computed(x, weights, None, plain=False)
        return
    assert torch.equal(case.computed(x, weights, None, plain=False), expected)
    signs = torch.where(expected >= at[:, None, None], 1.0, -1.0)
    assert torch.equal(case.computed(x, weights, Threshold(at), plain=False), bits.pack(signs))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("plain", [False, True], ids=["tiled", "plain"])
def test_thresholds_make_bits_for_the_next_convolution(device: str, case: Case, plain: bool) -> None:
    x, weights = case.operands(device)
    sums = case.expected(x, weights)
    at = sums.flatten(2)[0, :, 0].clone()  # where they meet a sum
    at[:2] = torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32)[: len(at)]  # always, never
    flip = torch.rand(len(at), device=device) < 0.5
    expected = bits.pack(torch.where((sums >= at[:, None, None]) != flip[:, None, None], 1.0, -1.0))
    assert torch.equal(case.computed(x, weights, Threshold(at, flip), plain=plain), expected)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("plain", [False, True], ids=["tiled", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_scale_shift_and_residual_round_as_pytorch_does(
    device: str, case: Case, plain: bool, dtype: torch.dtype
) -> None:
    x, weights = case.operands(device)
    sums = case.expected(x, weights)
    scale, shift = torch.randn(2, sums.shape[1], device=device)
    residual = torch.randn(sums.shape, device=device).to(dtype)
    scaled = sums.float() * scale[:, None, None] + shift[:, None, None]
    whole = Affine(scale, shift, residual, dtype)
    assert torch.equal(case.computed(x, weights, whole, plain=plain), (scaled + residual.float()).to(dtype))
    part = Affine(scale, dtype=dtype)
    expected = (sums.float() * scale[:, None, None]).to(dtype)
    assert torch.equal(case.computed(x, weights, part, plain=plain), expected)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 5), max_size=2), st.integers(1, 700), st.integers(1, 150), SEEDS)
def test_linear_layers(device: str, leading: list[int], inputs: int, outputs: int, seed: int) -> None:
    torch.manual_seed(seed)
    x, weights = _signs(*leading, inputs).to(device), _signs(outputs, inputs).to(device)
    expected = functional.linear(x.double(), weights.double()).int()
    rows, packed = cuda.pack(x.reshape(-1, inputs)).reshape(*leading, -1), bits.pack(weights)
    assert torch.equal(cuda.linear(rows, packed, inputs), expected)
    signs = torch.where(expected >= 0, 1.0, -1.0).reshape(-1, outputs)
    at = torch.zeros(outputs, dtype=torch.int32, device=device)
    computed = cuda.linear(rows, packed, inputs, Threshold(at))
    assert torch.equal(computed, bits.pack(signs).reshape(*leading, -1))
    residual = torch.randn(*leading, outputs, device=device)
    assert torch.equal(cuda.linear(rows, packed, inputs, Affine(residual=residual)), expected + residual)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    st.integers(1, 70),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.booleans(),
    SEEDS,
)
def test_packing(device: str, sizes: tuple[int, ...], channels: int, dtype: torch.dtype, last: bool, seed: int) -> None:
    torch.manual_seed(seed)
    special = torch.tensor([0.0, -0.0, torch.nan, -torch.nan, torch.inf, -torch.inf, 1e-40, -1e-40])
    x = torch.randn(sizes[0], channels, *sizes[1:]).to(dtype)
    chosen = torch.randint(len(special), x.shape)
    x = torch.where(torch.rand(x.shape) < 0.3, special.to(dtype)[chosen], x).to(device)
    if last:  # channels side by side in memory
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    assert torch.equal(cuda.pack(x), bits.pack(x))


def test_the_tensor_cores_take_all_but_groups_that_share_a_word(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "launch", emulator.launch)
    kernels = {}
    for name, case in CASES.items():
        case.computed(*case.operands("cpu"), None, plain=False)
        kernels[name] = emulator.launched[-1]
    assert {name for name, kernel in kernels.items() if "plain" in kernel} == {"groups that share a word", "depthwise"}
    assert kernels["copies of 32 channels"] == "tiled<1, 64, SUMS>"
    assert kernels["copies of 128"] == "tiled<4, 128, SUMS>"


def test_bits_anywhere_in_memory(device: str) -> None:
    case = Case(inputs=128)
    x, weights = case.operands(device)
    packed = cuda.pack(x)
    for start in (1, 4, 8):
        moved = packed.new_empty(packed.numel() + start)[start:].view_as(packed).copy_(packed)
        computed = cuda.conv(moved, bits.pack(weights), 128, pads=case.pads)
        assert torch.equal(computed, case.expected(x, weights))


def test_corrections_can_be_made_once(device: str) -> None:
    case = Case()
    x, weights = case.operands(device)
    packed = bits.pack(weights)
    once = cuda.corrections(packed, case.inputs)
    assert once.shape == (4, 4, case.outputs)
    assert torch.equal(once[3, 3], -weights.sum((1, 2, 3)).int())
    computed = cuda.conv(cuda.pack(x), packed, case.inputs, pads=case.pads, corrected=once)
    assert torch.equal(computed, case.expected(x, weights))


def test_nothing_in_nothing_out(device: str) -> None:
    weights = bits.pack(_signs(5, 40, 3, 3)).to(device)
    assert cuda.pack(torch.empty(0, 40, 4, 4, device=device)).shape == (0, 4, 4, 8)
    assert cuda.conv(torch.empty(0, 4, 4, 8, dtype=torch.uint8, device=device), weights, 40).shape == (0, 5, 2, 2)


def test_everything_that_does_not_fit_is_said_at_once() -> None:
    bits_of_40 = torch.zeros(1, 4, 4, 8, dtype=torch.uint8)
    with pytest.raises(UsageError) as error:
        cuda.conv(bits_of_40.float(), torch.zeros(3, 3, 3, 4, dtype=torch.uint8), 40, group=2)
    assert [offence.what for offence in error.value.offences] == [
        "the bits are torch.float32 and torch.uint8",
        "activations of 80 channels have 12 bytes a pixel, not 8",
        "weights of 40 channels have 8 bytes a pixel, not 4",
        "3 outputs do not divide into 2 groups",
    ]
    weights = torch.zeros(5, 1, 1, 8, dtype=torch.uint8)
    after = Affine(torch.zeros(4), torch.zeros(5, dtype=torch.float64), torch.zeros(1, 5, 4, 3))
    with pytest.raises(UsageError) as error:
        cuda.conv(bits_of_40, weights, 40, then=after, corrected=torch.zeros(1, 1, 5, dtype=torch.int32))
    assert [offence.what.split()[0] for offence in error.value.offences] == ["corrected", "scale", "shift", "residual"]
    with pytest.raises(UsageError, match=r"at is torch\.float32"):
        cuda.conv(bits_of_40, weights, 40, then=Threshold(torch.zeros(5)))
    with pytest.raises(UsageError, match="nothing to pack"):
        cuda.pack(torch.zeros(3, 3, dtype=torch.int32))


def test_tensors_on_the_cpu_are_refused() -> None:
    with pytest.raises(UsageError, match="move the tensors to a CUDA device"):
        cuda.pack(torch.zeros(1, 3))


def test_the_peak_is_measured_on_as_many_products_as_are_asked_for(emulator: Emulator) -> None:
    results = torch.zeros(3, 128, dtype=torch.int32)
    for rounds, result in enumerate(results):
        emulator.launch("rate<8>", Rate(result.data_ptr(), rounds), (1, 1), 128, 0, result.device)
    assert results[1].min() > 0
    assert torch.equal(results, results[1] * torch.arange(3, dtype=torch.int32)[:, None])


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [64, 128, 256, 512])
@pytest.mark.parametrize("kernel", [1, 3])
def test_layers_of_a_residual_network(channels: int, kernel: int) -> None:
    size = 56 * 64 // channels
    edge = kernel // 2
    case = Case(8, channels, channels, (size, size), (kernel, kernel), pads=(edge, edge, edge, edge))
    x, weights = case.operands("cuda")
    assert torch.equal(case.computed(x, weights, None, plain=False), case.expected(x, weights))


@pytest.mark.gpu
def test_a_new_thread_and_another_stream() -> None:
    case = Case()
    x, weights = case.operands("cuda")
    results: list[Tensor] = []

    def compute() -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.default_stream())
        with torch.cuda.stream(stream):
            results.append(case.computed(x, weights, None, plain=False))
        stream.synchronize()

    torch.cuda.synchronize()
    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    assert torch.equal(results[0], case.expected(x, weights))
