"""The functions that make an activation binary, for targets that hold its two levels as something else than float32."""

from __future__ import annotations

import onnx
from onnx import parser

from frostline.compiler.masks import threshold
from frostline.passes.lowering.functions import HEADER
from frostline.schedules import SIGNS, ZERO_ONE, Levels


def binarizers(store: str, read: str, constants: str = "") -> dict[str, onnx.FunctionProto]:
    """`Binarize` and its like, by operator.

    `store` is the operation that makes of float32 what the target holds, and `read` the one back, as text such as
    `Cast <to = 10> ($)`, with `$` for the operand; `constants` is text that they need before them. The operators whose
    names end in `At` are given thresholds and high levels, which may differ by channel.
    """
    kinds: list[tuple[str, Levels]] = [("Binarize", SIGNS), ("BinarizeZeroOne", ZERO_ONE)]
    texts = (_text(name + end, levels, store, read, constants) for name, levels in kinds for end in ("", "At"))
    return {function.name: function for function in map(parser.parse_function, texts)}


def _text(name: str, levels: Levels, store: str, read: str, constants: str) -> str:
    """Levels of channels are turned around as booleans: ONNX Runtime is slow to choose between tensors of levels."""
    at = name.endswith("At")
    compared = f"""
    sum = Constant <value = float {{{float(sum(levels))}}}> ()
    other = Sub (sum, high)
    is_turned = Less (high, other)
    reaches = GreaterOrEqual (x, thresholds)
    is_top = Xor (reaches, is_turned)"""
    fixed = f"""
    threshold = Constant <value = float {{{threshold(levels)}}}> ()
    is_top = GreaterOrEqual (x, threshold)"""
    return f"""{HEADER}
{name} <site> ({"x, thresholds, high" if at else "x"}) => (y) {{{constants}{compared if at else fixed}
    top = Constant <value = float {{{float(max(levels))}}}> ()
    bottom = Constant <value = float {{{float(min(levels))}}}> ()
    stored_top = {store.replace("$", "top")}
    stored_bottom = {store.replace("$", "bottom")}
    stored = Where (is_top, stored_top, stored_bottom)
    y = {read.replace("$", "stored")}
}}"""
