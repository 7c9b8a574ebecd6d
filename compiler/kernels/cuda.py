"""Packed signs on a GPU: packing, linear layers and convolutions, with what follows a sum of signs.

Bits lie as in `compiler/bits.py`: a set bit is +1, little-endian along the channels, padded with clear bits to a multiple of
32. `inputs` are the channels of one group, as a weight has them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from frostline.compiler.kernels.launching import launch
from frostline.errors import Offence, UsageError

_THREADS = 128
_TILE_ROWS = 128
_STAGE_BYTES = 4 * 64
"""Of one row of a tile: four stages of 16 words."""
_ROW_BYTES = 16 + 4
"""Of one row beside its bits: its window and its count."""
_TYPES = {torch.float32: "FLOATS", torch.float16: "HALVES"}
_PATTERNS = {
    torch.float16: ("unsigned short", 0x7C00),
    torch.bfloat16: ("unsigned short", 0x7F80),
    torch.float32: ("unsigned", 0x7F800000),
    torch.float64: ("unsigned long long", 0x7FF0000000000000),
}
"""The unsigned type as wide as a float, and the bits of its infinity."""
_ONES = torch.tensor([value.bit_count() for value in range(256)], dtype=torch.int32)


@dataclass(frozen=True)
class Affine:
    """`sum * scale + shift + residual`, in float32 and rounded after each step; what is None is left out.

    `scale` and `shift` are float32 `[outputs]`; `residual` has the result's shape and type. `dtype` is float32 or float16.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    residual: Tensor | None = None
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Threshold:
    """The bit `(sum >= at) != flip`: `at` is int32 `[outputs]`, `flip` bool `[outputs]`."""

    at: Tensor
    flip: Tensor | None = None


class Packing(ctypes.Structure):
    """The arguments of the packing kernels, as in `pack.cuh`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("values", "bits")),
        *((name, ctypes.c_longlong) for name in ("images", "pixels", "image_stride", "channel_stride", "pixel_stride")),
        ("infinity", ctypes.c_ulonglong),
        *((name, ctypes.c_int) for name in ("channels", "words")),
    )


_POINTERS = "activations weights corrections result thresholds flips scales shifts residual"
_SIZES = (
    "rows height width words inputs group_words out_height out_width outputs group_outputs kernel_height kernel_width "
    "stride_y stride_x pad_top pad_left dilation_y dilation_x"
)


class Convolution(ctypes.Structure):
    """The arguments of the convolution kernels, as in `window.cuh`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS.split()),
        *((name, ctypes.c_int) for name in _SIZES.split()),
    )


def pack(x: Tensor) -> Tensor:
    """The bits of `[N, C, *spatial]`, uint8 `[N, *spatial, ceil(C / 32) * 4]`. Entries >= 0 count as +1, NaN as -1.

    Takes any float type. Raises UsageError for another type or fewer than two dimensions.
    """
    if x.dtype not in _PATTERNS or x.dim() < 2:
        what = f"it is a {x.dtype} of {x.dim()} dimensions"
        raise UsageError("there is nothing to pack", [Offence(what, remedy="give floats [N, C, ...]")])
    images, channels, *spatial = x.shape
    words = -(-channels // 32)
    bits = x.new_empty((images, *spatial, 4 * words), dtype=torch.uint8)
    if bits.numel() == 0:
        return bits
    values = x.flatten(2) if x.dim() > 2 else x.unsqueeze(-1)
    pattern, infinity = _PATTERNS[x.dtype]
    arguments = Packing(
        values.data_ptr(), bits.data_ptr(), images, values.shape[2],
        values.stride(0), values.stride(1), values.stride(2), infinity, channels, words,
    )  # fmt: skip
    kernel = "pack_rows" if values.stride(1) == 1 else "pack_planes"
    launch(f"{kernel}<{pattern}>", arguments, (-(-bits.numel() // 4 // _THREADS), 1), _THREADS, 0, x.device)
    return bits


def corrections(weights: Tensor, inputs: int) -> Tensor:
    """What sums over the taps inside of an image lack, int32 `[kernel_height + 1, kernel_width + 1, outputs]`.

    `inputs - 2 * popcount` of each tap of packed weights `[outputs, height, width, bytes]`, summed over all taps above and
    left of a corner: a summed-area table.
    """
    taps = inputs - 2 * _ONES.to(weights.device)[weights.int()].sum(-1, dtype=torch.int32)
    summed = taps.permute(1, 2, 0).cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    return functional.pad(summed, (0, 0, 1, 0, 1, 0)).contiguous()


def linear(
    x: Tensor,
    weights: Tensor,
    inputs: int,
    then: Affine | Threshold | None = None,
    *,
    corrected: Tensor | None = None,
    plain: bool = False,
) -> Tensor:
    """The products of packed activations `[..., bytes]` and packed weights `[outputs, bytes]`, `[..., outputs]`.

    int32 sums; with an Affine floats; with a Threshold bits, uint8 `[..., ceil(outputs / 32) * 4]`. The rest as in `conv`.
    """
    leading = x.shape[:-1]
    rows = x.reshape(-1, 1, 1, x.shape[-1])
    if isinstance(then, Affine) and then.residual is not None:
        residual = then.residual.reshape(len(rows), -1, 1, 1)
        then = Affine(then.scale, then.shift, residual, then.dtype)
    result = conv(rows, weights[:, None, None], inputs, then=then, corrected=corrected, plain=plain)
    return result.reshape(*leading, result.shape[-1] if isinstance(then, Threshold) else result.shape[1])


def conv(
    x: Tensor,
    weights: Tensor,
    inputs: int,
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
    then: Affine | Threshold | None = None,
    *,
    corrected: Tensor | None = None,
    plain: bool = False,
) -> Tensor:
    """The convolution of packed activations `[N, H, W, bytes]` and packed weights `[outputs, height, width, bytes]`.

    Padding adds nothing to a sum. `pads` are top, left, bottom, right, as ONNX has them. Returns int32 sums, or with an
    Affine floats, `[N, outputs, H', W']` in channels-last memory; with a Threshold bits, uint8
    `[N, H', W', ceil(outputs / 32) * 4]`. `corrected` is `corrections(weights, inputs)`, computed here where it is not
    given. `plain` asks for the reference kernel, one thread an output. So do groups whose channels are no multiple of 32.

    Raises UsageError with everything that does not fit, or where there is no GPU.
    """
    offences = list(_misfits(x, weights, inputs, strides, pads, dilations, group))
    if offences:
        raise UsageError("this convolution cannot be computed", offences)
    images, height, width, _ = x.shape
    outputs, kernel_height, kernel_width, _ = weights.shape
    out_height, out_width = (
        (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
        for size, before, after, dilation, kernel, stride in zip(
            (height, width), pads[:2], pads[2:], dilations, (kernel_height, kernel_width), strides, strict=True
        )
    )
    offences = [] if min(out_height, out_width) > 0 else [Offence("the window is larger than the padded image")]
    offences += _misfits_after(then, x.device, (images, outputs, out_height, out_width))
    if offences:
        raise UsageError("this convolution cannot be computed", offences)

    x, weights = _in_words(x), _in_words(weights)
    if isinstance(then, Threshold):
        result = x.new_empty((images, out_height, out_width, -(-outputs // 32) * 4))
        kind, parameters = "BITS", (then.at.contiguous(), _contiguous(then.flip), None, None, None)
    else:
        dtype = torch.int32 if then is None else then.dtype
        result = x.new_empty((images, out_height, out_width, outputs), dtype=dtype).permute(0, 3, 1, 2)
        residual = None
        if then is not None and then.residual is not None:
            residual = then.residual.permute(0, 2, 3, 1).contiguous()
        then = then or Affine()
        kind = _TYPES.get(dtype, "SUMS")
        parameters = (None, None, _contiguous(then.scale), _contiguous(then.shift), residual)
    if result.numel() == 0:
        return result

    words, group_words, group_outputs = x.shape[-1] // 4, weights.shape[-1] // 4, outputs // group
    whole = group == 1 or (inputs % 32 == 0 and (group_outputs % 32 == 0 or kind != "BITS"))
    tiled = whole and not plain
    if tiled and corrected is None:
        corrected = corrections(weights, inputs)
    tensors = (x, weights, corrected if tiled else None, result, *parameters)
    rows = images * out_height * out_width
    arguments = Convolution(
        *(None if tensor is None else tensor.data_ptr() for tensor in tensors), rows,
        height, width, words, inputs, group_words, out_height, out_width, outputs, group_outputs,
        kernel_height, kernel_width, *strides, *pads[:2], *dilations,
    )  # fmt: skip
    if not tiled:
        threads = rows * -(-outputs // 32) * 32
        launch(f"plain<{kind}>", arguments, (-(-threads // _THREADS), 1), _THREADS, 0, x.device)
        return result
    vector = next(
        size for size in (4, 2, 1)
        if not (group_words % size or x.data_ptr() % (4 * size) or weights.data_ptr() % (4 * size))
    )  # fmt: skip
    columns = 64 if group_outputs <= 64 else 128
    blocks = -(-rows // _TILE_ROWS) * -(-group_outputs // columns)
    shared = (_TILE_ROWS + columns) * _STAGE_BYTES + _TILE_ROWS * _ROW_BYTES + 16
    launch(f"tiled<{vector}, {columns}, {kind}>", arguments, (blocks, group), _THREADS, shared, x.device)
    return result


def _misfits(
    x: Tensor,
    weights: Tensor,
    inputs: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> Iterator[Offence]:
    if x.dtype != torch.uint8 or weights.dtype != torch.uint8:
        yield Offence(f"the bits are {x.dtype} and {weights.dtype}", remedy="give uint8, as pack() makes them")
    if x.device != weights.device:
        yield Offence(f"the activations are on {x.device}, the weights on {weights.device}")
    if x.dim() != 4 or weights.dim() != 4:
        yield Offence(f"activations and weights have {x.dim()} and {weights.dim()} dimensions", remedy="give four")
        return
    if (len(strides), len(pads), len(dilations)) != (2, 4, 2):
        yield Offence("strides, pads and dilations are not two, four and two numbers")
    if min(*strides, *dilations, inputs, group) < 1 or min(pads) < 0:
        yield Offence("strides, dilations, inputs and group are at least 1, pads at least 0")
        return
    for name, tensor, channels in (("activations", x, inputs * group), ("weights", weights, inputs)):
        if tensor.shape[-1] != -(-channels // 32) * 4:
            what = f"{name} of {channels} channels have {-(-channels // 32) * 4} bytes a pixel, not {tensor.shape[-1]}"
            yield Offence(what)
    if weights.shape[0] % group:
        yield Offence(f"{weights.shape[0]} outputs do not divide into {group} groups")
    if max(*weights.shape[1:3], 0) >= 2**15 or min(weights.shape) < 1:
        yield Offence(f"a kernel of {tuple(weights.shape[1:3])} taps", remedy="use from 1 to 32,767")


def _misfits_after(
    then: Affine | Threshold | None, device: torch.device, shape: tuple[int, int, int, int]
) -> Iterator[Offence]:
    outputs = (shape[1],)
    expected: list[tuple[str, Tensor | None, torch.dtype, tuple[int, ...]]] = []
    if isinstance(then, Threshold):
        expected += [("at", then.at, torch.int32, outputs), ("flip", then.flip, torch.bool, outputs)]
    elif then is not None:
        if then.dtype not in _TYPES:
            yield Offence(f"the result would be {then.dtype}", remedy="ask for float32 or float16")
        expected += [("scale", then.scale, torch.float32, outputs), ("shift", then.shift, torch.float32, outputs)]
        expected += [("residual", then.residual, then.dtype, shape)]
    for name, tensor, dtype, wanted in expected:
        if tensor is not None and (tensor.dtype != dtype or tensor.shape != wanted or tensor.device != device):
            found = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
            yield Offence(f"{name} is {found}", remedy=f"give {dtype} {wanted} on {device}")


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _in_words(bits: Tensor) -> Tensor:
    """Bits that a kernel can read as words of 32."""
    bits = bits.contiguous()
    return bits.clone() if bits.data_ptr() % 4 else bits
