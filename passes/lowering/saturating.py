"""Convolutions whose sums go to thresholds and nowhere else, as one operation that saturates: `QLinearConv`, `Clip`.

A sum reaches the threshold t exactly where 2 sum - (2 t - 1) is at least 1; else it is at most -1, and it is never 0.
So with weights of +2 and -2 and the bias 1 - 2 t, `QLinearConv` may saturate at 8 bits: `Clip` needs the sign alone.
Where a channel's low level is the one above, its weights and its bias are negated. Both are folded when the session is
made. Sizes need not be known, and nothing is gathered.
"""

from __future__ import annotations

import math

import onnx
from onnx import helper, parser

from frostline.compiler.exported import attributes, named, reads, same_but_for_ones
from frostline.passes.lowering.functions import HEADER, KERNEL, WINDOW
from frostline.schedules import SIGNS, ZERO_ONE, Levels

PRODUCTS = ("BinaryConv", "ZeroOneConv")
_SITES = {"BinarizeAt": SIGNS, "BinarizeZeroOneAt": ZERO_ONE}

_WIDE = 32
"""The input channels in a group from which on `QLinearConv` is faster than float: it computes groups one by one."""
_EXACT = 2**24
"""Twice a sum and the bias stay within: `QLinearConv` scales its 32-bit sums in float32."""

_CONV_AT = f"""{HEADER}
NAME <site, operation, inputs, kernel_shape, strides, pads, dilations, group> (x, bits, thresholds, high) => (y)
{{{KERNEL}
    each = Concat <axis = 0> (inputs, kernel)
    most = ReduceProd (each)
    largest = Cast <to = {onnx.TensorProto.FLOAT}> (most)
    beyond = Add (largest, plus)
    least = Neg (beyond)
    given = Reshape (thresholds, last)
    smallest = Ceil (given)
    is_reached = Less (smallest, beyond)
    bounded = Max (smallest, least)
    threshold = Where (is_reached, bounded, beyond)

    total = Constant <value = float {{TOTAL}}> ()
    levels = Reshape (high, last)
    others = Sub (total, levels)
    is_turned = Less (levels, others)
    turn = Where (is_turned, minus, plus)
    twice = Add (threshold, threshold)
    distance = Sub (plus, twice)
    turned_distance = Mul (distance, turn)
    bias = Cast <to = {onnx.TensorProto.INT32}> (turned_distance)
    factors = Add (turn, turn)
    factor_column = Unsqueeze (factors, last)
    matrix_shape = Concat <axis = 0> (outputs, last)
    matrix = Reshape (weight, matrix_shape)
    turned_matrix = Mul (matrix, factor_column)
    turned = Reshape (turned_matrix, weight_shape)
    turned_weight = Cast <to = {onnx.TensorProto.INT8}> (turned)

    one = Constant <value = float {{1.0}}> ()
    zero = Constant <value = uint8 {{128}}> ()
    weight_zero = Constant <value = int8 {{0}}> ()
    bottom = Constant <value = uint8 {{BOTTOM}}> ()
    top = Constant <value = uint8 {{TOP}}> ()
    bytes_in = QuantizeLinear (x, one, zero)
    sums = QLinearConv <{WINDOW}> (bytes_in, one, zero, turned_weight, one, weight_zero, one, zero, bias)
    stored = Clip (sums, bottom, top)
    y = DequantizeLinear (stored, one, zero)
}}"""


def functions_at() -> dict[str, onnx.FunctionProto]:
    """`BinaryConvBinarizeAt` and its like, by operator: each named by the two that it stands for."""
    texts = [_text(product + site, levels) for product in PRODUCTS for site, levels in _SITES.items()]
    return {function.name: function for function in map(parser.parse_function, texts)}


def _text(name: str, levels: Levels) -> str:
    """NaN, which nothing reaches, is beyond every sum: it is not less than anything."""
    text = _CONV_AT.replace("NAME", name).replace("TOTAL", str(float(sum(levels))))
    return text.replace("BOTTOM", str(128 + min(levels))).replace("TOP", str(128 + max(levels)))


def join(model: onnx.ModelProto) -> None:
    """binarize_at(conv(x, bits), thresholds, high) -> one node, in place, where nothing else reads the sums."""
    reading: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in reads(node):
            reading.setdefault(name, []).append(node)
    kept = {value.name for value in model.graph.output}
    held = {tensor.name: [*tensor.dims] for tensor in model.graph.initializer}
    gone: dict[str, onnx.NodeProto] = {}
    for operation, node in named(model):
        readers = reading.get(node.output[0], [])
        if node.op_type not in PRODUCTS or len(readers) != 1 or node.output[0] in kept or not _gains(node):
            continue
        (site,) = readers
        channels = [held[node.input[1]][0], *(1 for _ in attributes(node)["kernel_shape"])]
        if site.op_type in _SITES and all(same_but_for_ones(held.get(name, []), channels) for name in site.input[1:]):
            gone[node.output[0]] = site
            node.op_type += site.op_type
            node.input.extend(site.input[1:])
            node.output[0] = site.output[0]
            given = {each.name: each for each in node.attribute}
            given["site"].s = attributes(site)["site"]
            node.attribute.append(helper.make_attribute("operation", operation))
    for site in gone.values():
        model.graph.node.remove(site)
    for value in [value for value in model.graph.value_info if value.name in gone]:
        model.graph.value_info.remove(value)


def _gains(product: onnx.NodeProto) -> bool:
    """Whether a convolution can do this and is faster so."""
    given = attributes(product)
    (inputs,) = given["inputs"]
    wide = given["group"] == 1 or inputs >= _WIDE
    most = inputs * math.prod(given["kernel_shape"])
    return bool(wide and 4 * (most + 1) <= _EXACT)
