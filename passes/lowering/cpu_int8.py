"""Target `cpu-int8`: 8-bit products of standard operators, for the CPU of any stock ONNX Runtime from 1.19 on.

Activations are u8 with zero point 128, weights s8, both at scale 1. A product is `MatMulInteger`, whose sums are
32-bit integers, and exact. A convolution whose sums go to thresholds and nowhere else is `QLinearConv`, which saturates
at 8 bits where that changes nothing (`saturating.py`). Of all others the sums are read. `ConvInteger` is four times
slower than float, so they gather their windows into the rows of a matrix. Padding with the zero point adds 0. Where a
processor adds pairs of products in 16 bits (`vpmaddubsw`), they are at most 4 x 129.

Between two operations the runtime drops `DequantizeLinear` and `QuantizeLinear`: values stay u8. Weights are one bit
in the file, and they and the indices of windows are folded when the session is made. Where sums are read, convolutions
in groups, whose matrices are small, and those whose input has no known size stay in float32.
"""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul

import onnx
from onnx import helper, parser

from frostline.compiler.certificate import AS_FLOAT
from frostline.compiler.exported import attributes, named
from frostline.passes.lowering.functions import HEADER, UNPACK, functions
from frostline.passes.lowering.levels import binarizers
from frostline.passes.lowering.saturating import PRODUCTS, functions_at, join
from frostline.passes.lowering.target import Target, in_float

_EIGHT_BITS = """
    one = Constant <value = float {1.0}> ()
    zero = Constant <value = uint8 {128}> ()
"""

_LINEAR = f"""{HEADER}
NAME <site, inputs> (x, bits) => (y) {{{UNPACK}{_EIGHT_BITS}
    columns = Transpose <perm = [1, 0]> (rows)
    weight = Cast <to = {onnx.TensorProto.INT8}> (columns)
    matrix = QuantizeLinear (x, one, zero)
    sums = MatMulInteger (matrix, weight, zero)
    y = Cast <to = {onnx.TensorProto.FLOAT}> (sums)
}}"""

# ONNX Runtime 1.19 refuses a Pad that reads an attribute's Constant itself, hence the Identity.
# The i-th of all positions is at (i / place) % size along each axis, where places are the products of the sizes that
# follow; the same for the taps of a kernel.
_CONV = f"""{HEADER}
NAME <site, inputs, kernel_shape, strides, pads, dilations, group, axes, channels_last,
      channels_second, area, lines, sizes, size_places, kernel_places>
     (x, bits) => (y) {{{UNPACK}{_EIGHT_BITS}
    rows_shape = Concat <axis = 0> (outputs, last)
    flat = Reshape (rows, rows_shape)
    columns = Transpose <perm = [1, 0]> (flat)
    weight = Cast <to = {onnx.TensorProto.INT8}> (columns)

    start = Constant <value = int64 {{0}}> ()
    step = Constant <value = int64 {{1}}> ()
    kernel = Constant <value_ints: ints = @kernel_shape> ()
    kernel_places = Constant <value_ints: ints = @kernel_places> ()
    sizes = Constant <value_ints: ints = @sizes> ()
    size_places = Constant <value_ints: ints = @size_places> ()
    strides = Constant <value_ints: ints = @strides> ()
    dilations = Constant <value_ints: ints = @dilations> ()
    lines = Constant <value_ints: ints = @lines> ()
    count = ReduceProd <keepdims = 0> (sizes)
    range = Range (start, count, step)
    positions = Unsqueeze (range, last)
    rests = Div (positions, size_places)
    position = Mod (rests, sizes)
    tap_count = ReduceProd <keepdims = 0> (kernel)
    tap_range = Range (start, tap_count, step)
    taps = Unsqueeze (tap_range, last)
    tap_rests = Div (taps, kernel_places)
    tap = Mod (tap_rests, kernel)
    far = Mul (strides, lines)
    corner_parts = Mul (position, far)
    corners = ReduceSum (corner_parts, last)
    near = Mul (dilations, lines)
    offset_parts = Mul (tap, near)
    offsets = ReduceSum <keepdims = 0> (offset_parts, last)
    indices = Add (corners, offsets)

    own_pads = Constant <value_ints: ints = @pads> ()
    pads = Identity (own_pads)
    axes = Constant <value_ints: ints = @axes> ()
    area = Constant <value_ints: ints = @area> ()
    pixels_shape = Concat <axis = 0> (first, area, inputs)
    width = Mul (tap_count, inputs)
    matrix_shape = Concat <axis = 0> (first, first, width)
    bytes_in = QuantizeLinear (x, one, zero)
    channels_last = Transpose <perm: ints = @channels_last> (bytes_in)
    framed = Pad (channels_last, pads, zero, axes)
    pixels = Reshape (framed, pixels_shape)
    windows = Gather <axis = 1> (pixels, indices)
    matrix = Reshape (windows, matrix_shape)
    sums = MatMulInteger (matrix, weight, zero)
    floats = Cast <to = {onnx.TensorProto.FLOAT}> (sums)
    shape = Concat <axis = 0> (first, sizes, outputs)
    outputs_last = Reshape (floats, shape)
    y = Transpose <perm: ints = @channels_second> (outputs_last)
}}"""


_NARROW = ("BinaryNarrowConv", "ZeroOneNarrowConv")


def _prepare(model: onnx.ModelProto) -> None:
    """Tell convolutions the sizes of what they read and write, which ONNX Runtime folds no shape of a free batch to;
    those alone need them whose sums are read."""
    join(model)
    known = _shapes(model)
    for _, node in named(model):
        if node.op_type in _NARROW:
            node.op_type += AS_FLOAT
        if node.op_type not in PRODUCTS:
            continue
        given = attributes(node)
        kernel, pads, rank = given["kernel_shape"], given["pads"], len(given["kernel_shape"])
        size = known.get(node.input[0], [0, 0])[2:]
        if given["group"] > 1 or len(size) != rank or not all(size):
            node.op_type += AS_FLOAT
            continue
        padded = [own + before + after for own, before, after in zip(size, pads[:rank], pads[rank:], strict=True)]
        windows = zip(padded, kernel, given["strides"], given["dilations"], strict=True)
        sizes = [(own - dilation * (taps - 1) - 1) // stride + 1 for own, taps, stride, dilation in windows]
        own = {
            "axes": [*range(1, 1 + rank)],
            "channels_last": [0, *range(2, 2 + rank), 1],
            "channels_second": [0, 1 + rank, *range(1, 1 + rank)],
            "area": [math.prod(padded)],
            "lines": _places(padded),
            "sizes": sizes,
            "size_places": _places(sizes),
            "kernel_places": _places(kernel),
        }
        node.attribute.extend(helper.make_attribute(name, value) for name, value in own.items())


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """The shapes of values, with 0 for what is free."""
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    return {value.name: [each.dim_value for each in value.type.tensor_type.shape.dim] for value in values}


def _places(sizes: list[int]) -> list[int]:
    """How far apart neighbours along each axis are, in a tensor of these sizes.

    >>> _places([2, 3, 5])
    [15, 5, 1]
    """
    return [*accumulate(sizes[:0:-1], mul, initial=1)][::-1]


def _functions() -> dict[str, onnx.FunctionProto]:
    portable = functions()
    own = binarizers("QuantizeLinear ($, one, zero)", "DequantizeLinear ($, one, zero)", _EIGHT_BITS)
    for name, text in (("Linear", _LINEAR), ("Conv", _CONV)):
        for operand in ("Binary", "ZeroOne"):
            own[operand + name] = parser.parse_function(text.replace("NAME", operand + name))
    own |= {kind + AS_FLOAT: in_float(portable[kind]) for kind in (*PRODUCTS, *_NARROW)}
    return portable | own | functions_at()


CPU_INT8 = Target(_functions(), _prepare)
