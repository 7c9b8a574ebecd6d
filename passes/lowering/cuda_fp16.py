"""Target `cuda-fp16`: half-precision products of standard operators, for the CUDA provider of ONNX Runtime.

Sums of signs are exact in the float32 accumulator, and in the half-precision result up to 2,048 in magnitude, or 4,096
where all of them are even. They are even with an even number of input channels, at the border as well, where some taps
see padding only. Operations whose sums could be larger stay in float32 (TF32, where the provider uses it, holds +1 and
-1 just as well). Levels are chosen by comparing in float32.

The bits are unpacked when the session is made, on the CPU: CUDA has no kernel for `BitwiseAnd`. Between two operations
the runtime drops the casts. Nothing is rounded: a cast keeps factors that follow out of the weights. Not so on the CPU,
which has no products in half precision and drops every cast: this file runs there, but the portable one is made for it.
"""

from __future__ import annotations

import math

import onnx
from onnx import parser

from frostline.compiler.certificate import AS_FLOAT
from frostline.compiler.exported import attributes, named
from frostline.passes.lowering.functions import HEADER, KERNEL, MATRIX, WINDOW, functions, narrow
from frostline.passes.lowering.levels import binarizers
from frostline.passes.lowering.target import Target, in_float

_HALF, _FLOAT = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
_EXACT = 2048

_PRODUCTS = {
    "Linear": f"""{HEADER}
NAME <site, inputs> (x, bits) => (y) {{{MATRIX}
    half_weight = Cast <to = {_HALF}> (weight)
    half = Cast <to = {_HALF}> (x)
    sums = MatMul (half, half_weight)
    y = Cast <to = {_FLOAT}> (sums)
}}""",
    "Conv": f"""{HEADER}
NAME <site, inputs, kernel_shape, strides, pads, dilations, group> (x, bits) => (y) {{{KERNEL}
    half_weight = Cast <to = {_HALF}> (weight)
    half = Cast <to = {_HALF}> (x)
    sums = Conv <{WINDOW}> (half, half_weight)
    y = Cast <to = {_FLOAT}> (sums)
}}""",
}
_PRODUCTS["NarrowConv"] = narrow(_PRODUCTS["Conv"])
_OPERATORS = {operand + name: text for name, text in _PRODUCTS.items() for operand in ("Binary", "ZeroOne")}


def _prepare(model: onnx.ModelProto) -> None:
    for _, node in named(model):
        if node.op_type in _OPERATORS and not _is_exact(node):
            node.op_type += AS_FLOAT


def _is_exact(node: onnx.NodeProto) -> bool:
    """Whether half precision holds every sum that an operation can have."""
    given = attributes(node)
    (inputs,) = given["shape"][1:2] if "shape" in given else given["inputs"]
    even = inputs % 2 == 0 and node.op_type.startswith("Binary")
    return bool(inputs * math.prod(given.get("kernel_shape", [])) <= (2 * _EXACT if even else _EXACT))


def _functions() -> dict[str, onnx.FunctionProto]:
    portable = functions()
    own = binarizers(f"Cast <to = {_HALF}> ($)", f"Cast <to = {_FLOAT}> ($)")
    own |= {name: parser.parse_function(text.replace("NAME", name)) for name, text in _OPERATORS.items()}
    return portable | own | {name + AS_FLOAT: in_float(portable[name]) for name in _OPERATORS}


CUDA_FP16 = Target(_functions(), _prepare, note="proven on the CPU provider; CUDA has not run this file")
