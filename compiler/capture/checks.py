"""Branches that only raise: `assert ok`, `if wrong: raise ...`, and `if ok: return ...` before a `raise`.

A graph cannot follow a branch on a value, but of these only one way goes on. It takes that way, and checks the value.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from functools import cache
from types import FrameType
from typing import Any

from frostline.compiler.capture.user_line import frame_line
from frostline.errors import Offence, UsageError


def holds(value: Any, expected: bool, where: str | None) -> None:
    """Raise UsageError where a value is not what the forward needs in order to go on."""
    if bool(value) != expected:
        raise UsageError("the model refuses these inputs", [Offence("its own check fails here", where)])


def passing(frame: FrameType | None) -> bool | None:
    """What the condition that a frame asks for must be if the forward is to go on; None where both ways do."""
    if frame is None:
        return None
    line = frame.f_lineno
    found = [(test, needed) for test, needed in _checks(frame.f_code.co_filename) if _spans(test, line)]
    if len(found) != 1:
        return None
    test, needed = found[0]
    leaves = list(_leaves(test, needed))
    return leaves[0] if len(set(leaves)) == 1 else None


def where(frame: FrameType) -> str | None:
    """The line that a frame is at."""
    return frame_line(frame.f_code.co_filename, frame.f_lineno)


@cache
def _checks(filename: str) -> tuple[tuple[ast.expr, bool], ...]:
    """The conditions of a file of which one outcome raises, with the other outcome."""
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except SyntaxError:
        return ()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append((node.test, True))
        for _, block in ast.iter_fields(node):
            for here, following in zip(block, [*block[1:], None], strict=False) if isinstance(block, list) else ():
                if isinstance(here, ast.If):
                    otherwise = here.orelse or ([following] if _ends(here.body, ast.Return) else [])
                    if _ends(here.body, ast.Raise) != _ends(otherwise, ast.Raise):
                        found.append((here.test, _ends(otherwise, ast.Raise)))
    return tuple(found)


def _ends(block: list[Any], how: type[ast.stmt]) -> bool:
    return bool(block) and isinstance(block[-1], how)


def _spans(test: ast.expr, line: int) -> bool:
    return test.lineno <= line <= (test.end_lineno or test.lineno)


def _leaves(test: ast.expr, needed: bool) -> Iterator[bool]:
    """What is enough for each operand of a condition. `a and b` fails where either fails; it holds where both hold."""
    if isinstance(test, ast.BoolOp):
        for value in test.values:
            yield from _leaves(value, needed)
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from _leaves(test.operand, not needed)
    else:
        yield needed
