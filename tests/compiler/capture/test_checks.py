from __future__ import annotations

import sys
from functools import partial

import pytest

from frostline.compiler.capture.checks import holds, passing
from frostline.errors import UsageError


class Asked:
    """Notes what a condition that asks it must be."""

    def __init__(self) -> None:
        self.needed: bool | None = None

    def __bool__(self) -> bool:
        self.needed = passing(sys._getframe(1))
        return bool(self.needed)


def asserted(value: object) -> None:
    assert value, "no"


def refused(value: object, limit: int = 0) -> None:
    if limit > 3 or (value and limit == 0):
        text = "no"
        raise ValueError(text)


def negated(value: object) -> None:
    if not value:
        raise ValueError("no")


def in_a_chain(value: object, first: bool = False) -> None:
    if first:
        return
    if value:
        raise ValueError("no")


def otherwise(value: object) -> int:
    if value:
        return 1
    raise ValueError("no")


def in_a_loop(value: object) -> None:
    if any(bool(one) for one in (value, value)):
        raise ValueError("no")


def both_ways(value: object) -> int:
    if value:
        return 1
    return 2


def never(value: object) -> None:
    if value:
        raise ValueError("one")
    else:  # noqa: RET506
        raise ValueError("other")


def mixed(value: object, other: object) -> None:
    if other and not (value or other):
        raise ValueError("no")


@pytest.mark.parametrize(
    ("forward", "needed"),
    [
        (asserted, True), (refused, False), (negated, True), (in_a_chain, False), (otherwise, True), (in_a_loop, False),
        (both_ways, None), (partial(mixed, other=True), None),
    ],
)  # fmt: skip
def test_what_goes_on(forward: object, needed: bool | None) -> None:
    asked = Asked()
    forward(asked)  # type: ignore[operator]
    assert asked.needed is needed


def test_where_every_way_raises_none_goes_on() -> None:
    asked = Asked()
    with pytest.raises(ValueError, match="other"):
        never(asked)
    assert asked.needed is None


def test_a_check_that_fails_names_its_line() -> None:
    holds(1.0, True, "model.py:3")
    with pytest.raises(UsageError, match=r"refuses these inputs\n  model.py:3: its own check fails here"):
        holds(0.0, True, "model.py:3")
