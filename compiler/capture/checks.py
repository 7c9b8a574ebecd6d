"""Branches that only raise: `assert ok`, `if wrong: raise ...`, and `if ok: return ...` before a `raise`.

A graph cannot follow a branch on a value, but of these only one way goes on. It takes that way, and checks the value.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from functools import cache
from itertools import islice
from types import FrameType
from typing import Any

from frostline.errors import Offence, UsageError

_LEAVING = (ast.Return, ast.Break, ast.Continue, ast.Yield, ast.YieldFrom, ast.Try, ast.With)
_Place = tuple[int | None, int | None, int | None, int | None]


def holds(value: Any, expected: bool, where: str | None) -> None:
    """Raise UsageError where a value is not what the forward needs in order to go on."""
    if bool(value) != expected:
        raise UsageError("the model refuses these inputs", [Offence("its own check fails here", where)])


def passing(frames: list[FrameType]) -> bool | None:
    """What the condition that the first of the user's frames asks for must be if the forward is to go on.

    None where both ways go on, or may: where what is raised could be caught on the way out, in one of the frames.
    """
    if not frames or any(map(_catches, frames)):
        return None
    code, last = frames[0].f_code, frames[0].f_lasti
    places = code.co_positions()  # two bytes each; what asks comes after what made the value
    return _checks(code.co_filename).get(next(islice(places, max(last // 2 - 1, 0), None)))


@cache
def _checks(filename: str) -> dict[_Place, bool]:
    """The conditions of a file of which one outcome raises, by their place, with the other outcome."""
    found: dict[_Place, bool] = {}
    for node in ast.walk(_tree(filename)):
        if isinstance(node, ast.Assert):
            found.update(_operands(node.test, True))
        for _, block in ast.iter_fields(node):
            for here, following in zip(block, [*block[1:], None], strict=False) if isinstance(block, list) else ():
                if isinstance(here, ast.If):
                    returns = bool(here.body) and isinstance(here.body[-1], ast.Return)
                    otherwise = here.orelse or ([following] if returns and following else [])
                    if _only_raises(here.body) != _only_raises(otherwise):
                        found.update(_operands(here.test, _only_raises(otherwise)))
    return found


def _only_raises(block: list[ast.stmt]) -> bool:
    if not block or not isinstance(block[-1], ast.Raise):
        return False
    return not any(isinstance(inner, _LEAVING) for statement in block for inner in ast.walk(statement))


def _operands(test: ast.expr, needed: bool) -> Iterator[tuple[_Place, bool]]:
    """The operands of a condition that decide it where they are asked, with what they must be.

    Of `a and b` that must fail, and of `a or b` that must hold, only the last is: another would be followed by it.
    """
    if isinstance(test, ast.BoolOp):
        all_decide = isinstance(test.op, ast.And) == needed
        for value in test.values if all_decide else test.values[-1:]:
            yield from _operands(value, needed)
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from _operands(test.operand, not needed)
    elif _is_plain(test, needed):
        yield (test.lineno, test.end_lineno, test.col_offset, test.end_col_offset), needed


def _is_plain(test: ast.expr, needed: bool) -> bool:
    chained = isinstance(test, ast.Compare) and len(test.ops) > 1 and not needed
    return not chained and not isinstance(test, (ast.IfExp, ast.NamedExpr))


def _catches(frame: FrameType) -> bool:
    """Whether what is raised in a frame may be caught there."""
    return any(first <= frame.f_lineno <= last for first, last in _catching(frame.f_code.co_filename))


@cache
def _catching(filename: str) -> tuple[tuple[int, int], ...]:
    """The lines inside of `try`, and of `with` unless it is torch's."""
    found = []
    for node in ast.walk(_tree(filename)):
        if isinstance(node, ast.Try) or (isinstance(node, ast.With) and not all(map(_is_torchs, node.items))):
            found.append((node.lineno, node.end_lineno or node.lineno))
    return tuple(found)


def _is_torchs(item: ast.withitem) -> bool:
    return ast.unparse(item.context_expr).startswith("torch.")


@cache
def _tree(filename: str) -> ast.Module:
    try:
        return ast.parse("".join(linecache.getlines(filename)))
    except SyntaxError:
        return ast.Module([], [])
