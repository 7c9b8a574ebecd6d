"""The functions that make an activation binary, for targets that hold its two levels as something else than float32."""

from __future__ import annotations

import onnx
from onnx import parser

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
    fixed = f"""
    thresholds = Constant <value = float {{{sum(levels) / 2}}}> ()
    high = Constant <value = float {{{float(max(levels))}}}> ()"""
    at = name.endswith("At")
    return f"""{HEADER}
{name} <site> ({"x, thresholds, high" if at else "x"}) => (y) {{{constants}{"" if at else fixed}
    is_high = GreaterOrEqual (x, thresholds)
    both = Constant <value = float {{{float(sum(levels))}}}> ()
    low = Sub (both, high)
    stored_high = {store.replace("$", "high")}
    stored_low = {store.replace("$", "low")}
    stored = Where (is_high, stored_high, stored_low)
    y = {read.replace("$", "stored")}
}}"""
