"""The CUDA kernels on a CPU: the same sources, compiled with the warps of `emulated/warp.hpp`."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import torch

from frostline.compiler.kernels.cubins import SOURCES

_EMULATED = Path(__file__).with_name("emulated")


class Emulator:
    """Takes the place of `launch`; remembers the kernels that ran."""

    def __init__(self, compiler: str, folder: Path) -> None:
        library = folder / "emulated.so"
        options = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-ffp-contract=off"]
        paths = [f"-I{SOURCES}", f"-I{_EMULATED}", str(_EMULATED / "launch.cpp"), "-o", str(library)]
        subprocess.run([compiler, *options, "-shared", "-fPIC", *paths], check=True)  # noqa: S603
        self._launch = ctypes.CDLL(str(library)).launch
        self._launch.restype = ctypes.c_char_p
        self.launched: list[str] = []

    def launch(
        self,
        kernel: str,
        arguments: ctypes.Structure,
        blocks: tuple[int, int],
        threads: int,
        shared: int,
        device: torch.device,
    ) -> None:
        """Run a kernel, its warps in an order drawn from torch's generator. Fails at a fault or a conflict of banks."""
        self.launched.append(kernel)
        conflicts = ctypes.c_long()
        seed = int(torch.randint(2**31, ()))
        sizes = (ctypes.sizeof(arguments), *blocks, threads, shared, seed)
        fault = self._launch(kernel.encode(), ctypes.byref(arguments), *sizes, ctypes.byref(conflicts))
        assert fault is None, f"{kernel}: {fault.decode()}"
        assert conflicts.value == 0, f"{kernel}: {conflicts.value} conflicts of banks"
