"""The binary operations as ONNX functions of standard operators.

A node `frostline.BinaryConv` with a function of the same name in the file runs on any ONNX Runtime: it inlines the
function, and folds the unpacking of the bits when the session is made. Where a custom operator of that name is
registered, the node stays whole and runs there. `BinaryLinear` and `BinaryConv` have two binary operands and integer
results; `BinaryWeightLinear` and `BinaryWeightConv` have binary weights and float activations. `Binarize` gives -1 and
+1, and so does `BinarizeAt` from integers: `high` where they reach the threshold of their channel. What gives or reads
0 and 1 has names of its own: no operator that is made for signs can take them for signs. They are `BinarizeZeroOne`,
`BinarizeZeroOneAt`, `ZeroOneLinear` and `ZeroOneConv`. A target may put a product and the comparison behind it
together: such an operator is named by the two, as `BinaryConvBinarizeAt` is.

A `NarrowConv` has few channels in a group, depthwise ones above all: its bits are one row, and it has no custom
operator, which would gain nothing. `Unpack` gives standard operators the weights that are none of these.
"""

from __future__ import annotations

import onnx
from onnx import parser

from frostline.compiler.exported import DOMAIN
from frostline.compiler.masks import threshold
from frostline.schedules import SIGNS, ZERO_ONE, Levels

VERSION = 1
OPSET = 21
IR_VERSION = 10

DOCS = {
    "Binarize": "+1 where x reaches the threshold, else -1",
    "BinarizeZeroOne": "1 where x reaches the threshold, else 0",
    "BinarizeAt": "high where the integer x reaches the threshold of its channel, else -high",
    "BinarizeZeroOneAt": "high where the integer x reaches the threshold of its channel, else 1 - high",
    "BinaryLinear": "linear layer of signs and one-bit weights: integer sums",
    "BinaryConv": "convolution of signs and one-bit weights: integer sums",
    "ZeroOneLinear": "linear layer of 0 and 1 and one-bit weights: integer sums",
    "ZeroOneConv": "convolution of 0 and 1 and one-bit weights: integer sums",
    "BinaryConvBinarizeAt": "BinaryConv, then BinarizeAt",
    "BinaryConvBinarizeZeroOneAt": "BinaryConv, then BinarizeZeroOneAt",
    "ZeroOneConvBinarizeAt": "ZeroOneConv, then BinarizeAt",
    "ZeroOneConvBinarizeZeroOneAt": "ZeroOneConv, then BinarizeZeroOneAt",
    "BinaryWeightLinear": "linear layer of floats and one-bit weights",
    "BinaryWeightConv": "convolution of floats and one-bit weights",
    "BinaryNarrowConv": "convolution of signs and one-bit weights with few channels in a group: integer sums",
    "ZeroOneNarrowConv": "convolution of 0 and 1 and one-bit weights with few channels in a group: integer sums",
    "BinaryWeightNarrowConv": "convolution of floats and one-bit weights with few channels in a group",
    "Unpack": "one-bit weights as +1 and -1",
}
"""What each operator does, in a line for those who open the file."""

HEADER = f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>'

UNPACK = """
    places = Constant <value = uint8[8] {1, 2, 4, 8, 16, 32, 64, 128}> ()
    plus = Constant <value = float {1.0}> ()
    minus = Constant <value = float {-1.0}> ()
    first = Constant <value_ints = [0]> ()
    last = Constant <value_ints = [-1]> ()
    inputs = Constant <value_ints: ints = @inputs> ()
    bytes = Unsqueeze (bits, last)
    set = BitwiseAnd (bytes, places)
    is_set = Cast <to = 9> (set)
    signs = Where (is_set, plus, minus)
    heads = Shape <start = 0, end = -1> (bits)
    padded_shape = Concat <axis = 0> (heads, last)
    padded = Reshape (signs, padded_shape)
    rows = Slice (padded, first, inputs, last)
    outputs = Shape <start = 0, end = 1> (bits)
"""

MATRIX = f"""{UNPACK}
    weight = Transpose <perm = [1, 0]> (rows)"""
"""The weight of a linear operation, `[inputs, outputs]`."""

KERNEL = f"""{UNPACK}
    flat_shape = Concat <axis = 0> (outputs, last, inputs)
    flat = Reshape (rows, flat_shape)
    channels_first = Transpose <perm = [0, 2, 1]> (flat)
    kernel = Constant <value_ints: ints = @kernel_shape> ()
    weight_shape = Concat <axis = 0> (outputs, inputs, kernel)
    weight = Reshape (channels_first, weight_shape)"""
"""The weight of a convolution, `[outputs, inputs, *kernel]`."""

NARROW_KERNEL = f"""{UNPACK}
    weight_shape = Constant <value_ints: ints = @shape> ()
    weight = Reshape (rows, weight_shape)"""
"""The weight of a convolution from one row of bits."""

WINDOW = """kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads,
              dilations: ints = @dilations, group: int = @group"""


def narrow(text: str) -> str:
    """The function of a convolution, for weights that are one row of bits."""
    return text.replace(KERNEL, NARROW_KERNEL).replace("<site, inputs,", "<site, inputs, shape,")


_BINARIZE = f"""{HEADER}
NAME <site> (x) => (y) {{
    threshold = Constant <value = float {{THRESHOLD}}> ()
    high = Constant <value = float {{HIGH}}> ()
    low = Constant <value = float {{LOW}}> ()
    is_high = GreaterOrEqual (x, threshold)
    y = Where (is_high, high, low)
}}"""

_BINARIZE_AT = f"""{HEADER}
NAME <site> (x, thresholds, high) => (y) {{
    LOW
    is_high = GreaterOrEqual (x, thresholds)
    y = Where (is_high, high, low)
}}"""

_LINEAR = f"""{HEADER}
NAME <site, inputs> (x, bits) => (y) {{{MATRIX}
    RESULT = MatMul (x, weight)ROUND
}}"""

_CONV = f"""{HEADER}
NAME <site, inputs, kernel_shape, strides, pads, dilations, group> (x, bits) => (y) {{{KERNEL}
    RESULT = Conv <{WINDOW}> (x, weight)ROUND
}}"""


_NARROW_CONV = narrow(_CONV)


def _binarize(levels: Levels, name: str) -> str:
    low, high = map(float, levels)
    text = _BINARIZE.replace("THRESHOLD", str(threshold(levels)))
    return text.replace("NAME", name).replace("HIGH", str(high)).replace("LOW", str(low))


def _binarize_at(levels: Levels, name: str) -> str:
    total = f"total = Constant <value = float {{{float(sum(levels))}}}> ()\n    low = Sub (total, high)"
    return _BINARIZE_AT.replace("NAME", name).replace("LOW", total if sum(levels) else "low = Neg (high)")


_UNPACKED = f"""{HEADER}
Unpack <site, inputs, shape> (bits) => (weight) {{{UNPACK}
    flat_shape = Concat <axis = 0> (outputs, last, inputs)
    flat = Reshape (rows, flat_shape)
    inputs_first = Transpose <perm = [0, 2, 1]> (flat)
    weight_shape = Constant <value_ints: ints = @shape> ()
    weight = Reshape (inputs_first, weight_shape)
}}"""


def _of_floats(text: str, name: str) -> str:
    return text.replace("NAME", name).replace("RESULT", "y").replace("ROUND", "")


def _of_integers(text: str, name: str) -> str:
    """Rounding changes no integer, and keeps the runtime from folding a following factor into the weights: products
    that are 0 would become tiny numbers of either sign."""
    return text.replace("NAME", name).replace("RESULT", "sums").replace("ROUND", "\n    y = Round (sums)")


def functions() -> dict[str, onnx.FunctionProto]:
    """The functions by the name of their operator."""
    texts = (
        _binarize(SIGNS, "Binarize"),
        _binarize(ZERO_ONE, "BinarizeZeroOne"),
        _binarize_at(SIGNS, "BinarizeAt"),
        _binarize_at(ZERO_ONE, "BinarizeZeroOneAt"),
        _of_integers(_LINEAR, "BinaryLinear"),
        _of_integers(_CONV, "BinaryConv"),
        _of_integers(_LINEAR, "ZeroOneLinear"),
        _of_integers(_CONV, "ZeroOneConv"),
        _of_integers(_NARROW_CONV, "BinaryNarrowConv"),
        _of_integers(_NARROW_CONV, "ZeroOneNarrowConv"),
        _of_floats(_NARROW_CONV, "BinaryWeightNarrowConv"),
        _of_floats(_LINEAR, "BinaryWeightLinear"),
        _of_floats(_CONV, "BinaryWeightConv"),
        _UNPACKED,
    )
    return {function.name: function for function in map(parser.parse_function, texts)}
