"""The library of kernels as Python calls, for torch tensors on the CPU.

Bits lie as in `compiler.bits`: a set bit is +1, 32 channels a word. Activations are packed pixel by pixel,
`[batch, *pixels, words * 4]` in uint8.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frostline.compiler.bits import words
from frostline.compiler.kernels.build import library
from frostline.errors import Offence, UsageError

_ROOM = 256
"""Bytes for what the library says when it refuses."""


@cache
def loaded() -> ctypes.CDLL:
    """The library, built if need be. Raises UsageError where it cannot be built."""
    return opened(library())


def opened(path: Path) -> ctypes.CDLL:
    """A library, with the types that it returns. Raises UsageError for a file that is none."""
    try:
        found = ctypes.CDLL(str(path))
    except OSError as error:
        offence = Offence(str(error), remedy=f"remove {path}, and it is built anew")
        raise UsageError("the library of kernels cannot be loaded", [offence]) from error
    found.frostline_engines.restype = found.frostline_engine.restype = ctypes.c_char_p
    found.frostline_product.restype = ctypes.c_void_p
    found.frostline_limit.restype = found.frostline_clock.restype = ctypes.c_double
    return found


def engines() -> tuple[str, ...]:
    """The instruction sets that this processor has kernels for, the fastest first."""
    return tuple(loaded().frostline_engines().decode().split())


def choose(engine: str | None) -> None:
    """Let everything that is made from now on use one engine; None lets the library choose.

    Raises UsageError where the processor does not have it.
    """
    if not loaded().frostline_choose((engine or "").encode()):
        remedy = f"it has {', '.join(engines())}"
        raise UsageError(f'there is no engine "{engine}"', [Offence("this processor does not have it", remedy=remedy)])


def limit() -> float:
    """Products a second that one core's instructions can make at best, without any memory, as measured now.

    Where they count every bit: layers of one tap, which may count carries, can make a fifth more.
    """
    return float(loaded().frostline_limit())


def clock() -> float:
    """Cycles a second of one core, as measured now."""
    return float(loaded().frostline_clock())


def pack(x: Tensor, *, rows: bool = False) -> Tensor:
    """The bits of a float activation `[batch, channels, *pixels]`, or `[..., channels]` where it is rows."""
    x = _floats(x)
    channels = x.shape[-1] if rows else x.shape[1]
    images = 1 if rows else x.shape[0]
    shape = x.shape[:-1] if rows else (x.shape[0], *x.shape[2:])
    bits = torch.empty((*shape, words(channels) * 4), dtype=torch.uint8)
    if x.numel():
        pixels = x.numel() // channels // images
        sizes = map(ctypes.c_int64, (images, channels, pixels))
        loaded().frostline_pack(_pointer(x), *sizes, ctypes.c_int(rows), _pointer(bits))
    return bits


@dataclass(frozen=True)
class Window:
    """What a convolution slides over its input; `pads` has all begins before all ends. Without axes it is linear."""

    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    groups: int = 1


@dataclass(eq=False)
class Product:
    """A convolution or a linear layer of binary operands, its weights ready for the processor.

    `weights` are packed, `[outputs, *kernel, words * 4]` for `inputs` channels (of one group). Its integers become
    bits by `thresholds` and `high` (the bit says whether the level is +1), or floats, with one factor and term an
    output, and limits. Raises UsageError for what the library refuses.
    """

    weights: Tensor
    inputs: int
    window: Window = Window()
    thresholds: Tensor | None = None
    high: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    limits: tuple[float, float] | None = None
    _handle: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        window, self.weights = self.window, self.weights.detach().cpu().contiguous()
        _check(window, self.weights, self.inputs)
        _check_constants(self)
        constants = [None if one is None else _floats(one).flatten() for one in self._constants()]
        self._handle = self._call(
            loaded().frostline_product, _pointer(self.weights), self.outputs, self.inputs, len(window.kernel),
            window.kernel, window.strides, window.pads, window.dilations, window.groups, ctypes.c_int(self.rows),
            *map(_pointer, constants),
        )  # fmt: skip
        weakref.finalize(self, loaded().frostline_free, ctypes.c_void_p(self._handle)).atexit = False

    def _constants(self) -> tuple[Tensor | None, ...]:
        limits = None if self.limits is None else torch.tensor(self.limits)
        return self.thresholds, self.high, self.scale, self.shift, limits

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is made anew: what the library holds has one owner."""
        return type(self), tuple(getattr(self, one.name) for one in fields(self) if one.init)

    @property
    def rows(self) -> bool:
        """Whether it is linear: its activations are rows, channels last."""
        return not self.window.kernel

    @property
    def outputs(self) -> int:
        return self.weights.shape[0]

    @property
    def engine(self) -> str:
        """The instruction set that it runs on."""
        name: bytes = loaded().frostline_engine(ctypes.c_void_p(self._handle))
        return name.decode()

    def floats(self, x: Tensor, *, residual: Tensor | None = None, threads: int | None = None) -> Tensor:
        """The integers, or what factor, sum and limits make of them, with a residual of the result's shape.

        `x` is floats, of which the signs are taken, or bits (uint8). `threads` are those of torch by default.
        """
        sizes, shape = self._shapes(x)
        floats = torch.empty(shape)
        self._run(x, sizes, self._residual(residual, shape), floats, None, threads)
        return floats

    def bits(self, x: Tensor, *, threads: int | None = None) -> Tensor:
        """The bits of a product with thresholds."""
        sizes, shape = self._shapes(x)
        bits = self._bits_like(shape)
        self._run(x, sizes, None, None, bits, threads)
        return bits

    def floats_and_bits(
        self, x: Tensor, *, residual: Tensor | None = None, threads: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The floats of `floats`, and the bits of their signs."""
        sizes, shape = self._shapes(x)
        floats, bits = torch.empty(shape), self._bits_like(shape)
        self._run(x, sizes, self._residual(residual, shape), floats, bits, threads)
        return floats, bits

    def _residual(self, given: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
        if given is not None and given.shape != shape:
            what = f"it has the shape {list(given.shape)} in place of {list(shape)}"
            raise UsageError("the residual cannot be added", [Offence(what)])
        return None if given is None else _floats(given)

    def _shapes(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The spatial sizes of an activation, and the shape of the float result."""
        sizes = self._sizes(x, x.dtype == torch.uint8)
        if self.rows:
            return sizes, (*x.shape[:-1], self.outputs)
        out = (ctypes.c_int64 * len(sizes))()
        self._call(loaded().frostline_out_sizes, ctypes.c_void_p(self._handle), len(sizes), sizes, out)
        return sizes, (x.shape[0], self.outputs, *out)

    def _bits_like(self, shape: tuple[int, ...]) -> Tensor:
        pixels = shape[:-1] if self.rows else (shape[0], *shape[2:])
        return torch.empty((*pixels, words(self.outputs) * 4), dtype=torch.uint8)

    def _run(
        self, x: Tensor, sizes: tuple[int, ...], residual: Tensor | None, floats: Tensor | None, bits: Tensor | None,
        threads: int | None,
    ) -> None:  # fmt: skip
        if (self.thresholds is None) != (floats is not None):
            remedy = "ask for bits where there are thresholds, and for floats where there are none"
            raise UsageError("the product does not give this", [Offence("it has, or lacks, thresholds", remedy=remedy)])
        packed = x.dtype == torch.uint8
        x = x.detach().cpu().contiguous() if packed else _floats(x)
        self._call(
            loaded().frostline_run, ctypes.c_void_p(self._handle), 1 if self.rows else x.shape[0], len(sizes),
            sizes, _pointer(None if packed else x), _pointer(x if packed else None), _pointer(residual),
            _pointer(floats), _pointer(bits), threads or torch.get_num_threads(),
        )  # fmt: skip

    def _sizes(self, x: Tensor, packed: bool) -> tuple[int, ...]:
        channels = self.inputs * self.window.groups
        wanted, axis = (words(channels) * 4, -1) if packed else (channels, -1 if self.rows else 1)
        rank_fits = self.rows or x.dim() == len(self.window.kernel) + 2
        if x.dim() < 2 or not rank_fits or x.shape[axis] != wanted:
            what = f"it has the shape {list(x.shape)}, and {wanted} {'bytes' if packed else 'channels'} are read"
            raise UsageError("the activation does not fit the weights", [Offence(what)])
        if self.rows:
            return (x.numel() // wanted, 1)
        return tuple(x.shape[1:-1] if packed else x.shape[2:])

    def _call(self, function: Any, *arguments: Any) -> int:
        said = ctypes.create_string_buffer(_ROOM)
        result = function(*map(_native, arguments), said, ctypes.c_int64(_ROOM))
        if not result:
            raise UsageError("the kernels refuse this product", [Offence(said.value.decode())])
        return int(result)


def _check(window: Window, bits: Tensor, inputs: int) -> None:
    """The library reads as many numbers as there are axes, and as many bits as the shapes say."""
    axes = len(window.kernel)
    faults = [
        Offence(f"{name} has {len(values)} entries for {axes} axes", remedy=f"give it {count}")
        for name, values, count in (
            ("strides", window.strides, axes), ("dilations", window.dilations, axes), ("pads", window.pads, 2 * axes),
        )
        if len(values) != count
    ]  # fmt: skip
    wanted = [bits.shape[0], *window.kernel, words(inputs) * 4] if bits.dim() else []
    if list(bits.shape) != wanted or bits.dtype != torch.uint8:
        faults.append(Offence(f"the bits are {bits.dtype} of shape {list(bits.shape)} in place of uint8 {wanted}"))
    if faults:
        raise UsageError("the kernels refuse this product", faults)


def _check_constants(product: Product) -> None:
    """It reads one number an output."""
    pairs = (("thresholds", "high"), ("scale", "shift"))
    faults = [
        Offence(f"{name} comes without {other}", remedy="give it both, or neither")
        for pair in pairs
        for name, other in (pair, pair[::-1])
        if getattr(product, name) is not None and getattr(product, other) is None
    ] + [
        Offence(f"{name} has {value.numel()} entries for {product.outputs} outputs", remedy="give it one an output")
        for pair in pairs
        for name in pair
        if (value := getattr(product, name)) is not None and value.numel() != product.outputs
    ]
    if faults:
        raise UsageError("the kernels refuse this product", faults)


def _floats(tensor: Tensor) -> Tensor:
    """Its numbers as they are read."""
    return tensor.detach().to("cpu", torch.float32).contiguous()


def _native(value: Any) -> Any:
    if isinstance(value, int):
        return ctypes.c_int64(value)
    return (ctypes.c_int64 * len(value))(*value) if isinstance(value, Sequence) else value


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
