"""Target `tensorrt-int8`: explicit s8 quantization around standard operators, for TensorRT in ONNX Runtime.

`QuantizeLinear` and `DequantizeLinear` at scale 1 and zero point 0 stand around both operands, as TensorRT's explicit
quantization wants them; +1 and -1 are exact in s8, and their sums in its 32-bit accumulators. ONNX Runtime unpacks the
bits on the CPU before it hands a graph over. Not one operation has run in TensorRT: what is proven is the arithmetic,
on the CPU. Products of float activations and binary weights have no 8-bit form there, and are refused.
"""

from __future__ import annotations

import onnx
from onnx import parser

from frostline.passes.lowering.functions import HEADER, KERNEL, MATRIX, WINDOW, functions, narrow
from frostline.passes.lowering.levels import binarizers
from frostline.passes.lowering.target import Target

_INT8 = onnx.TensorProto.INT8
_EIGHT_BITS = f"""
    one = Constant <value = float {{1.0}}> ()
    zero = Constant <value = int8 {{0}}> ()
    stored_weight = Cast <to = {_INT8}> (weight)
    read_weight = DequantizeLinear (stored_weight, one, zero)
    stored = QuantizeLinear (x, one, zero)
    read = DequantizeLinear (stored, one, zero)
"""

_PRODUCTS = {
    "Linear": f"""{HEADER}
NAME <site, inputs> (x, bits) => (y) {{{MATRIX}{_EIGHT_BITS}
    y = MatMul (read, read_weight)
}}""",
    "Conv": f"""{HEADER}
NAME <site, inputs, kernel_shape, strides, pads, dilations, group> (x, bits) => (y) {{{KERNEL}{_EIGHT_BITS}
    y = Conv <{WINDOW}> (read, read_weight)
}}""",
}
_PRODUCTS["NarrowConv"] = narrow(_PRODUCTS["Conv"])
_OPERATORS = {operand + name: text for name, text in _PRODUCTS.items() for operand in ("Binary", "ZeroOne")}


def _functions() -> dict[str, onnx.FunctionProto]:
    own = binarizers("Identity ($)", "Identity ($)")
    own |= {name: parser.parse_function(text.replace("NAME", name)) for name, text in _OPERATORS.items()}
    return own | {"Unpack": functions()["Unpack"]}


TENSORRT_INT8 = Target(_functions(), note="proven on the CPU provider; TensorRT has not run this file")
