from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from frostline.compiler.kernels import cubins
from frostline.errors import UsageError

ELF = b"\x7fELF"
BINARY_PRODUCT = "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc"
PROGRAMS = [
    ("tiled<4, 128, BITS>", "Convolution", "sm_80"),
    ("tiled<4, 128, BITS>", "Convolution", "sm_90"),
    ("tiled<1, 64, HALVES>", "Convolution", "sm_80"),
    ("plain<FLOATS>", "Convolution", "sm_90"),
    ("pack_rows<unsigned short>", "Packing", "sm_80"),
    ("pack_planes<unsigned long long>", "Packing", "sm_90"),
]


@pytest.fixture
def nvcc() -> str:
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("needs nvcc")
    return compiler


@pytest.mark.parametrize(("kernel", "arguments", "architecture"), PROGRAMS)
def test_the_sources_compile_without_a_warning(nvcc: str, kernel: str, arguments: str, architecture: str) -> None:
    source = cubins.program(kernel, arguments)
    text = cubins.by_nvcc(nvcc, source, architecture, "-Werror", "all-warnings", output="-ptx").decode()
    assert ".entry entry(" in text
    if kernel.startswith("tiled"):
        assert BINARY_PRODUCT in text
        assert re.search(r"ldmatrix\.sync.*\.x4", text)
        assert "cp.async." in text


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_nvcc_makes_machine_code(nvcc: str, architecture: str) -> None:
    source = cubins.program("tiled<2, 64, BITS>", "Convolution")
    assert cubins.by_nvcc(nvcc, source, architecture, "-Xptxas", "-warn-spills,-Werror").startswith(ELF)


def test_what_nvcc_refuses_is_said(nvcc: str) -> None:
    with pytest.raises(UsageError, match="nvcc does not compile the kernels for sm_80"):
        cubins.by_nvcc(nvcc, cubins.program("no_such_kernel", "Convolution"), "sm_80", output="-ptx")


def test_nvrtc_makes_machine_code() -> None:
    library = cubins.nvrtc()
    if library is None:
        pytest.skip("needs NVRTC")
    for architecture in ("sm_80", "sm_90"):
        source = cubins.program("tiled<2, 64, BITS>", "Convolution")
        assert cubins.by_nvrtc(library, source, architecture).startswith(ELF)
    with pytest.raises(UsageError, match="NVRTC does not compile the kernels for sm_80"):
        cubins.by_nvrtc(library, cubins.program("no_such_kernel", "Convolution"), "sm_80")


def test_machine_code_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[tuple[str, str]] = []

    def compile(source: str, architecture: str) -> bytes:
        compiled.append((source, architecture))
        return f"code {len(compiled)}".encode()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cubins, "_compiled", compile)
    assert [cubins.cubin(*program) for program in (("a", "sm_80"), ("a", "sm_90"), ("a", "sm_80"), ("b", "sm_80"))] == [
        b"code 1", b"code 2", b"code 1", b"code 3",
    ]  # fmt: skip
    monkeypatch.setattr(cubins, "headers", lambda: {"tiled.cuh": "other"})
    assert cubins.cubin("a", "sm_80") == b"code 4"
    assert len(list((tmp_path / "frostline").iterdir())) == 4


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frostline").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cubins, "_compiled", lambda source, architecture: b"code")
    assert cubins.cubin("a", "sm_80") == b"code"


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cubins, "nvrtc", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"there is no CUDA compiler.*\n.*\n.*brings NVRTC"):
        cubins.cubin("a", "sm_80")
