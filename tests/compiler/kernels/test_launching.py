"""The driver is a stand-in here; what it is told is what a GPU would be told."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from frostline.compiler.kernels import launching
from frostline.compiler.kernels.cuda import Convolution
from frostline.errors import UsageError

DEVICE = torch.device("cuda", 0)


class Driver:
    """Writes down every call; `refused` are the names of the calls that fail."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self.refused: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: object) -> int:
            self.calls.append((name, arguments))
            return 1 if name in self.refused else 0

        return call

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    launching._function.cache_clear()
    launching._primary_context.cache_clear()
    monkeypatch.setattr(launching, "_driver", lambda: driver)
    monkeypatch.setattr(launching, "cubin", lambda source, architecture: f"{architecture}: {source}".encode())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=77))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    return driver


def test_a_kernel_is_loaded_once_and_launched_in_the_context_of_pytorch(driver: Driver) -> None:
    arguments = Convolution()
    for _ in range(2):
        launching.launch("tiled<4, 128, BITS>", arguments, (1000, 3), 128, 68_000, DEVICE)
    launch = ["cuCtxPushCurrent_v2", "cuLaunchKernel", "cuCtxPopCurrent_v2"]
    assert [name for name in driver.names() if name in launch] == [*launch, *launch]
    assert driver.names().count("cuModuleLoadData") == 1
    told = dict(driver.calls)
    code = told["cuModuleLoadData"][1]
    assert isinstance(code, bytes)
    assert code.startswith(b"sm_90: ")
    assert b"entry(const Convolution arguments) { tiled<4, 128, BITS>(arguments); }" in code
    assert told["cuModuleGetFunction"][2] == b"entry"
    assert told["cuFuncSetAttribute"][1:] == (8, 68_000)
    _, *sizes, stream, pointers, extra = told["cuLaunchKernel"]
    assert sizes == [1000, 3, 1, 128, 1, 1, 68_000]
    assert isinstance(stream, ctypes.c_void_p)
    assert stream.value == 77
    assert isinstance(pointers, ctypes.Array)
    assert pointers[0] == ctypes.addressof(arguments)
    assert extra is None


def test_a_refusal_is_said_and_leaves_the_context(driver: Driver) -> None:
    driver.refused = {"cuLaunchKernel"}
    with pytest.raises(UsageError, match=r"the CUDA driver refuses plain<SUMS>\n  error 1"):
        launching.launch("plain<SUMS>", Convolution(), (1, 1), 128, 0, DEVICE)
    assert driver.names()[-1] == "cuCtxPopCurrent_v2"


def test_a_gpu_without_products_of_bits_is_refused(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    with pytest.raises(UsageError, match="a GPU is sm_75"):
        launching.launch("plain<SUMS>", Convolution(), (1, 1), 128, 0, DEVICE)
