"""CUDA kernels, loaded and launched through the driver that the GPU came with."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from frostline.compiler.kernels.cubins import cubin, program
from frostline.errors import Offence, UsageError

_SHARED_MEMORY = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_PLAIN_SHARED_MEMORY = 48 * 1024
"""What a block may have without asking."""


def launch(
    kernel: str, arguments: ctypes.Structure, blocks: tuple[int, int], threads: int, shared: int, device: torch.device
) -> None:
    """Launch `kernel` on the current stream of `device`, with `shared` bytes of shared memory a block.

    The name of the struct in CUDA is the name of its class. Raises UsageError where there is no GPU or no compiler, or
    the driver refuses.
    """
    if device.type != "cuda":
        remedy = "move the tensors to a CUDA device"
        raise UsageError("these kernels run on a GPU", [Offence(f"the tensors are on {device}", remedy=remedy)])
    index = torch.cuda.current_device() if device.index is None else device.index
    stream = ctypes.c_void_p(torch.cuda.current_stream(index).cuda_stream)
    with _context(index):
        function = _function(kernel, type(arguments).__name__, shared, index)
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        _check(_driver().cuLaunchKernel(function, *blocks, 1, threads, 1, 1, shared, stream, pointers, None), kernel)


@functools.cache
def _function(kernel: str, arguments: str, shared: int, index: int) -> ctypes.c_void_p:
    major, minor = torch.cuda.get_device_capability(index)
    if major < 8:
        remedy = "use a GPU of compute capability 8.0 or later"
        what = f"{torch.cuda.get_device_name(index)} is sm_{major}{minor}"
        raise UsageError("the kernels need tensor cores for single bits", [Offence(what, remedy=remedy)])
    code = cubin(program(kernel, arguments), f"sm_{major}{minor}")
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    _check(_driver().cuModuleLoadData(ctypes.byref(module), code), kernel)
    _check(_driver().cuModuleGetFunction(ctypes.byref(function), module, b"entry"), kernel)
    if shared > _PLAIN_SHARED_MEMORY:
        _check(_driver().cuFuncSetAttribute(function, _SHARED_MEMORY, shared), kernel)
    return function


@contextmanager
def _context(index: int) -> Iterator[None]:
    """PyTorch's own context, which a thread that is new need not have yet."""
    _check(_driver().cuCtxPushCurrent_v2(_primary_context(index)), "cuCtxPushCurrent")
    try:
        yield
    finally:
        _driver().cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


@functools.cache
def _primary_context(index: int) -> ctypes.c_void_p:
    torch.cuda.current_device()  # begins CUDA
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _check(_driver().cuDeviceGet(ctypes.byref(device), index), "cuDeviceGet")
    _check(_driver().cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
    return context


@functools.cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        remedy = "install NVIDIA's driver"
        raise UsageError("there is no CUDA driver", [Offence(str(error), remedy=remedy)]) from error


def _check(status: int, where: str) -> None:
    if status != 0:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(status, ctypes.byref(text))
        what = (text.value or b"unknown error").decode()
        raise UsageError(f"the CUDA driver refuses {where}", [Offence(f"error {status}: {what}")])
