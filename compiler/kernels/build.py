"""Builds the library of kernels with the machine's own C++ compiler, once, and keeps it.

The library holds code for every instruction set that the compiler knows, and chooses when it runs: it can be copied to
another machine of the same architecture.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from frostline.compiler.files import replacing
from frostline.errors import FileError, Offence, UsageError, first_line

SOURCES = Path(__file__).parent
COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off")
"""No product and sum become one: they round as separate operators do."""
_INSTRUCTIONS = {
    "avx2": ("-mavx2",),
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512vl"),
    "avx512_popcount": ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vpopcntdq"),
}
"""What a file is compiled with, on x86-64. Elsewhere, or where the compiler does not know it, it has nothing in it."""
_FOLDER = "name a folder that can be written to in FROSTLINE_CACHE"


def library() -> Path:
    """The path of the library, built if it is not there yet.

    FROSTLINE_CACHE names the folder that keeps it, and CXX the compiler. Raises UsageError where there is no compiler,
    or where it fails.
    """
    compiler = _compiler()
    path = _folder() / f"frostline-{_digest(compiler)}.so"
    if not path.exists():
        _build(compiler, path)
    return path


def _compiler() -> list[str]:
    if given := os.environ.get("CXX", "").strip():
        with suppress(ValueError):  # a quotation without an end
            words = shlex.split(given)
            if words and shutil.which(words[0]):
                return words
        what, remedy = f"there is no C++ compiler `{given}`, which CXX names", "name another, or none"
        raise UsageError("the kernels cannot be built", [Offence(what, remedy=remedy)])
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    remedy = "install one (on Debian: apt install g++), or name it in CXX; without it a file runs on standard operators"
    raise UsageError("the kernels cannot be built", [Offence("there is no C++ compiler", remedy=remedy)])


def _folder() -> Path:
    given = os.environ.get("FROSTLINE_CACHE") or os.environ.get("XDG_CACHE_HOME")
    try:
        root = Path(given).absolute() if given else Path.home() / ".cache"
    except RuntimeError as error:  # a user without a home
        offence = Offence(str(error), remedy=_FOLDER)
        raise UsageError("the kernels cannot be kept", [offence]) from error
    return root / "frostline"


def _digest(compiler: list[str]) -> str:
    """Of all that the library is made of, so that a change of any part is another file."""
    made_of = [*compiler, *_FLAGS, repr(_INSTRUCTIONS), platform.machine(), sys.platform]
    texts = [path.read_bytes() for path in sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")])]
    return hashlib.sha256("\0".join(made_of).encode() + b"".join(texts)).hexdigest()[:16]


def _build(compiler: list[str], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder, replacing(path) as part:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiled = pool.map(partial(_compile, compiler, Path(folder)), sorted(SOURCES.glob("*.cpp")))
                objects = list(compiled)
            _call([*compiler, "-shared", "-o", str(part), *map(str, objects), "-pthread"])
    except (OSError, FileError) as error:
        offence = Offence(" ".join(str(error).split()), remedy=_FOLDER)
        raise UsageError("the kernels cannot be built", [offence]) from error


def _compile(compiler: list[str], folder: Path, source: Path) -> Path:
    result = folder / f"{source.stem}.o"
    instructions = _INSTRUCTIONS.get(source.stem, ()) if platform.machine() in ("x86_64", "AMD64") else ()
    if instructions and not _knows(compiler, instructions, result):
        instructions = ()
    _call([*compiler, *_FLAGS, *instructions, "-c", str(source), "-o", str(result)])
    return result


def _knows(compiler: list[str], instructions: tuple[str, ...], result: Path) -> bool:
    command = [*compiler, *instructions, "-x", "c++", "-c", os.devnull, "-o", str(result)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603


def _call(command: list[str]) -> None:
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (the user's own compiler)
    if found.returncode:
        said = next((line for line in found.stderr.splitlines() if "error" in line), found.stderr)
        offence = Offence(f"{command[0]}: {first_line(RuntimeError(said))}", remedy="name another compiler in CXX")
        raise UsageError("the kernels cannot be built", [offence])
