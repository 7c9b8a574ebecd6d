"""CUDA programs, compiled when they are first asked for: by NVRTC, which PyTorch brings, or by nvcc.

A program has one kernel, named `entry`. Its machine code is kept in `$XDG_CACHE_HOME/frostline` (`~/.cache/frostline`),
under a name made of the sources and the architecture.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from frostline.compiler.files import replacing
from frostline.errors import FileError, Offence, UsageError

SOURCES = Path(__file__).with_name("cuda")
_OPTIONS = ("-std=c++17", "-fmad=false")  # a product and a sum are rounded one by one, as PyTorch does it


def program(kernel: str, arguments: str) -> str:
    """The source of one kernel, such as `plain<BITS>`, which takes a struct named `arguments`.

    >>> print(program("plain<BITS>", "Convolution"))
    #include "pack.cuh"
    #include "plain.cuh"
    #include "rate.cuh"
    #include "tiled.cuh"
    extern "C" __global__ void __launch_bounds__(128) entry(const Convolution arguments) { plain<BITS>(arguments); }
    """
    entry = f"entry(const {arguments} arguments) {{ {kernel}(arguments); }}"
    headers = "".join(f'#include "{name}.cuh"\n' for name in ("pack", "plain", "rate", "tiled"))
    return f'{headers}extern "C" __global__ void __launch_bounds__(128) {entry}'


def cubin(source: str, architecture: str) -> bytes:
    """The machine code of a program for an architecture such as `sm_90`, from the cache where it is there.

    Raises UsageError where there is no compiler, or it refuses.
    """
    digest = hashlib.sha256(repr((source, architecture, _OPTIONS, sorted(headers().items()))).encode()).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "frostline"
    path = folder / f"{digest}.cubin"
    try:
        return path.read_bytes()
    except OSError:
        code = _compiled(source, architecture)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(code)
    except (OSError, FileError):
        pass  # a cache that cannot be written costs a second at every start, and nothing else
    return code


def headers() -> dict[str, str]:
    """The text of every header, by name."""
    return {path.name: path.read_text() for path in SOURCES.glob("*.cuh")}


def _compiled(source: str, architecture: str) -> bytes:
    library = nvrtc()
    if library is not None:
        return by_nvrtc(library, source, architecture)
    if (compiler := shutil.which("nvcc")) is not None:
        return by_nvcc(compiler, source, architecture)
    remedy = "install the CUDA build of PyTorch, which brings NVRTC, or put nvcc on the PATH"
    raise UsageError("there is no CUDA compiler", [Offence("neither NVRTC nor nvcc was found", remedy=remedy)])


def nvrtc() -> ctypes.CDLL | None:
    """NVRTC, where PyTorch or the machine has it."""
    major = (torch.version.cuda or "13").split(".")[0]
    for name in (f"libnvrtc.so.{major}", "libnvrtc.so"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def by_nvrtc(library: ctypes.CDLL, source: str, architecture: str) -> bytes:
    """Compile with NVRTC. Raises UsageError with its log."""
    texts = headers()
    count = len(texts)
    handle = ctypes.c_void_p()
    contents = (ctypes.c_char_p * count)(*(text.encode() for text in texts.values()))
    names = (ctypes.c_char_p * count)(*(name.encode() for name in texts))
    library.nvrtcCreateProgram(ctypes.byref(handle), source.encode(), b"entry.cu", count, contents, names)
    try:
        options = [option.encode() for option in (*_OPTIONS, f"-arch={architecture}")]
        status = library.nvrtcCompileProgram(handle, len(options), (ctypes.c_char_p * len(options))(*options))
        if status != 0:
            log = _fetched(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, handle)
            raise _refusal("NVRTC", architecture, log.rstrip(b"\0").decode(errors="replace"))
        return _fetched(library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN, handle)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(handle))


def _fetched(size_of: ctypes._NamedFuncPointer, fetch: ctypes._NamedFuncPointer, handle: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    size_of(handle, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    fetch(handle, buffer)
    return buffer.raw


def by_nvcc(compiler: str, source: str, architecture: str, *options: str, output: str = "-cubin") -> bytes:
    """Compile with nvcc, to machine code or with `output="-ptx"` to PTX. Raises UsageError with what nvcc says."""
    with tempfile.TemporaryDirectory() as folder:
        text, code = Path(folder) / "entry.cu", Path(folder) / "entry.out"
        text.write_text(source)
        command = [compiler, output, f"-arch={architecture}", f"-I{SOURCES}", *_OPTIONS, *options]
        ran = subprocess.run([*command, "-o", code, text], capture_output=True, text=True, check=False)  # noqa: S603
        if ran.returncode != 0:
            raise _refusal("nvcc", architecture, ran.stderr)
        return code.read_bytes()


def _refusal(compiler: str, architecture: str, log: str) -> UsageError:
    remedy = "the kernels are for sm_80 and later, and for CUDA 12 and 13: check what is installed"
    headline = f"{compiler} does not compile the kernels for {architecture}"
    return UsageError(headline, [Offence(log.strip(), remedy=remedy)])
