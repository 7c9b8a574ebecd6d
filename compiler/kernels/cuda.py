"""Packed signs on a GPU: packing, linear layers and convolutions, with what follows a sum of signs.

Bits lie as in `compiler/bits.py`: a set bit is +1, little-endian along the channels, padded with clear bits to a
multiple of 32. `inputs` are the channels of one group, as a weight has them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from frostline.compiler.bits import words
from frostline.compiler.kernels.fitting import Affine, Threshold, misfits, misfits_after
from frostline.compiler.kernels.launching import launch
from frostline.errors import Offence, UsageError

_THREADS = 128
_TILE_ROWS = 128
# The shared memory of a block, as `Tile` in `tiled.cuh` has it.
_STAGES_BYTES = 4 * 64
"""Of one row or column: four stages of 16 words."""
_ROW_BYTES = 16 + 4
"""Of one row beside that: its window and its count."""
_TILE_BYTES = 16
_KINDS = {None: "BITS", torch.int32: "SUMS", torch.float32: "FLOATS", torch.float16: "HALVES"}
_PATTERNS = {
    torch.float16: ("unsigned short", 0x7C00),
    torch.bfloat16: ("unsigned short", 0x7F80),
    torch.float32: ("unsigned", 0x7F800000),
    torch.float64: ("unsigned long long", 0x7FF0000000000000),
}
"""The unsigned type as wide as a float, and the bits of its infinity."""
_ONES = torch.tensor([value.bit_count() for value in range(256)], dtype=torch.int32)


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
    bits = x.new_empty((images, *spatial, 4 * words(channels)), dtype=torch.uint8)
    if bits.numel() == 0:
        return bits
    values = x.flatten(2) if x.dim() > 2 else x.unsqueeze(-1)
    pattern, infinity = _PATTERNS[x.dtype]
    arguments = Packing(
        values.data_ptr(), bits.data_ptr(), images, values.shape[2],
        values.stride(0), values.stride(1), values.stride(2), infinity, channels, words(channels),
    )  # fmt: skip
    kernel = "pack_rows" if values.stride(1) == 1 else "pack_planes"
    launch(f"{kernel}<{pattern}>", arguments, (_up(bits.numel() // 4, _THREADS), 1), _THREADS, 0, x.device)
    return bits


def corrections(weights: Tensor, inputs: int) -> Tensor:
    """What sums over the taps inside of an image lack, int32 `[kernel_height + 1, kernel_width + 1, outputs]`.

    `inputs - 2 * popcount` of each tap of packed weights `[outputs, height, width, bytes]`, summed over all taps above
    and left of a corner: a summed-area table.
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

    int32 sums; with an Affine floats; with a Threshold bits, uint8 `[..., ceil(outputs / 32) * 4]`. The rest is as in
    `conv`.
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
    given. `plain` asks for the reference kernel, one thread an output; groups get it whose channels share a word.

    Raises UsageError with everything that does not fit, or where there is no GPU.
    """
    if offences := list(misfits(x, weights, inputs, strides, pads, dilations, group)):
        raise UsageError("this convolution cannot be computed", offences)
    kernel = weights.shape[1:3]
    out_height, out_width = (
        (x.shape[1 + i] + pads[i] + pads[2 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i in range(2)
    )
    shape = (len(x), len(weights), out_height, out_width)
    if offences := list(misfits_after(then, corrected, kernel, shape, x.device)):
        raise UsageError("this convolution cannot be computed", offences)

    x, weights = _in_words(x), _in_words(weights)
    result = _empty_result(x, then, shape)
    if result.numel() == 0:
        return result
    kind = _KINDS[None if isinstance(then, Threshold) else result.dtype]
    rows, outputs = shape[0] * out_height * out_width, shape[1]
    group_outputs = outputs // group
    words_of_their_own = inputs % 32 == 0 and (group_outputs % 32 == 0 or kind != "BITS")
    tiled = not plain and (group == 1 or words_of_their_own)
    if tiled and corrected is None:
        corrected = corrections(weights, inputs)
    tensors = (x, weights, _contiguous(corrected), result, *_parameters(then))
    arguments = Convolution(
        *(None if tensor is None else tensor.data_ptr() for tensor in tensors),
        rows, *x.shape[1:3], x.shape[3] // 4, inputs, weights.shape[3] // 4, out_height, out_width,
        outputs, group_outputs, *kernel, *strides, *pads[:2], *dilations,
    )  # fmt: skip
    if not tiled:
        threads = rows * words(outputs) * 32
        launch(f"plain<{kind}>", arguments, (_up(threads, _THREADS), 1), _THREADS, 0, x.device)
        return result
    places = (weights.shape[3], x.data_ptr(), weights.data_ptr())
    vector = next(count for count in (4, 2, 1) if all(place % (4 * count) == 0 for place in places))
    columns = 64 if group_outputs <= 64 else 128
    blocks = _up(rows, _TILE_ROWS) * _up(group_outputs, columns)
    shared = (_TILE_ROWS + columns) * _STAGES_BYTES + _TILE_ROWS * _ROW_BYTES + _TILE_BYTES
    launch(f"tiled<{vector}, {columns}, {kind}>", arguments, (blocks, group), _THREADS, shared, x.device)
    return result


def _empty_result(x: Tensor, then: Affine | Threshold | None, shape: tuple[int, int, int, int]) -> Tensor:
    images, outputs, height, width = shape
    if isinstance(then, Threshold):
        return x.new_empty((images, height, width, words(outputs) * 4))
    dtype = torch.int32 if then is None else then.dtype
    return x.new_empty((images, height, width, outputs), dtype=dtype).permute(0, 3, 1, 2)


def _parameters(then: Affine | Threshold | None) -> Sequence[Tensor | None]:
    """Thresholds, flips, scales, shifts and residual."""
    if isinstance(then, Threshold):
        return (then.at.contiguous(), _contiguous(then.flip), None, None, None)
    then = then or Affine()
    residual = None if then.residual is None else then.residual.permute(0, 2, 3, 1)
    return (None, None, _contiguous(then.scale), _contiguous(then.shift), _contiguous(residual))


def _up(count: int, size: int) -> int:
    """How many of `size` hold `count`."""
    return -(-count // size)


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _in_words(bits: Tensor) -> Tensor:
    """Bits that a kernel can read as words of 32."""
    bits = bits.contiguous()
    return bits.clone() if bits.data_ptr() % 4 else bits
