"""The engines for AVX-512, on any processor: compiled over functions that do what its instructions do."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from frostline.compiler import bits as packing
from frostline.compiler.kernels import build, cpu
from frostline.compiler.kernels.cpu import Product, Window
from frostline.errors import UsageError
from tests.compiler.kernels.signs import expected, signs

STAND_IN = Path(__file__).parent / "emulated"
EMULATED = ("-O1", f"-I{STAND_IN}", "-DFROSTLINE_EMULATED", "-Wno-psabi")
ENGINES = {"avx512": "avx512", "avx512_popcount": "avx512-vpopcntdq"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if platform.machine() not in ("x86_64", "AMD64") or not Path("/usr/include/simde").is_dir():
        pytest.skip("SIMD Everywhere is not installed (on Debian: apt install libsimde-dev)")
    folder = tmp_path_factory.mktemp("emulated")
    compiler = build._compiler()
    objects = []
    for source in build.SOURCES.glob("*.cpp"):
        flags = EMULATED if source.stem in ENGINES else ("-O1", *build._INSTRUCTIONS.get(source.stem, ()))
        objects.append(folder / f"{source.stem}.o")
        command = [*compiler, *build._FLAGS, *flags, "-c", str(source), "-o", str(objects[-1])]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    path = folder / "emulated.so"
    command = [*compiler, "-shared", "-o", str(path), *map(str, objects), "-pthread"]
    subprocess.run(command, check=True)  # noqa: S603
    return cpu.opened(path)


@pytest.mark.parametrize("engine", ENGINES.values())
@pytest.mark.parametrize("width", [11, 18])  # the latter gives rows of a whole panel
@pytest.mark.parametrize(
    ("inputs", "outputs", "groups"), [(64, 64, 1), (33, 70, 1), (100, 130, 1), (32, 64, 2), (7, 6, 3)]
)
def test_convolutions_are_exact(
    library: ctypes.CDLL,
    engine: str,
    inputs: int,
    outputs: int,
    groups: int,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu, "loaded", lambda: library)
    cpu.choose(engine)
    window = Window((3, 3), (2, 1), (1, 1, 0, 1), (1, 2), groups)
    x, weight = signs(2, groups * inputs, 9, width), signs(outputs, inputs, 3, 3, seed=2)
    sums = expected(x, weight, window)
    scale, residual = torch.linspace(-1, 1, outputs), torch.ones_like(sums)
    product = Product(packing.pack(weight), inputs, window)
    assert product.engine == engine
    assert torch.equal(product.floats(x), sums)
    scaled = Product(packing.pack(weight), inputs, window, scale=scale, shift=scale).floats(x, residual=residual)
    by_channel = scale.reshape(-1, 1, 1)
    assert torch.equal(scaled, sums * by_channel + by_channel + residual)
    assert torch.equal(product.floats(x[..., :-1]), expected(x[..., :-1], weight, window)), "another size"
    if groups == 1 or outputs // groups % 32 == 0:
        thresholds, high = torch.arange(outputs).float() % 7 - 3, signs(outputs, seed=3)
        bits = Product(packing.pack(weight), inputs, window, thresholds=thresholds, high=high).bits(x)
        wanted = torch.where(sums >= thresholds.reshape(-1, 1, 1), 1.0, -1.0) * high.reshape(-1, 1, 1)
        assert torch.equal(bits, packing.pack(wanted))


@pytest.mark.parametrize("engine", ENGINES.values())
@pytest.mark.parametrize("inputs", [300, 500])  # of the latter, words come in pairs
def test_linear_layers_are_exact(
    library: ctypes.CDLL, engine: str, inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "loaded", lambda: library)
    cpu.choose(engine)
    x, weight, high = signs(37, inputs), signs(130, inputs, seed=2), signs(130, seed=3)
    assert torch.equal(Product(packing.pack(weight), inputs).floats(x), x @ weight.T)
    bits = Product(packing.pack(weight), inputs, thresholds=torch.zeros(130), high=high).bits(x)
    assert torch.equal(bits, packing.pack(torch.where(x @ weight.T >= 0, 1.0, -1.0) * high))


def test_an_engine_that_this_processor_lacks_is_refused() -> None:
    lacking = [name for name in ENGINES.values() if name not in cpu.engines()]
    for name in lacking:
        with pytest.raises(UsageError, match="this processor does not have it"):
            cpu.choose(name)
