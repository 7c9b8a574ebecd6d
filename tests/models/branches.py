"""Branches of every kind on one value. (pytest rewrites the assertions of its own files.)"""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor, nn


def asserted(value: object) -> None:
    assert value, "no"


def refused(value: object, limit: int = 0) -> None:
    if limit > 3 or value:
        text = "no"
        raise ValueError(text)


def at_last(value: object, other: object = 1) -> None:
    if other is not None and value:
        raise ValueError("no")


def one_of_two(value: object) -> None:
    assert not (not value or value is None)  # noqa: PT018


def negated(value: object) -> None:
    with torch.no_grad():
        if not value:
            raise ValueError("no")


def in_a_chain(value: object, first: bool = False) -> None:
    if first:
        return
    elif value:  # noqa: RET505
        raise ValueError("no")


def otherwise(value: object) -> int:
    if value:
        return 1
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


def not_last(value: object, other: object = 1) -> None:
    if value and other is None:
        raise ValueError("no")


def either(value: object, other: object = 1) -> None:
    assert value or other


def caught(value: object) -> None:
    try:
        asserted(value)
    except AssertionError:
        return


def suppressed(value: object) -> None:
    with suppress(ValueError):
        otherwise(value)


def sometimes(value: object, flag: bool = True) -> None:
    if value:
        if flag:
            return
        raise ValueError("no")


def beside(value: object) -> None:
    assert (1 if value else 2) < 3


def named(value: object) -> None:
    if (big := bool(value)) is None:
        raise ValueError(big)


def in_a_call(value: object) -> None:
    assert not any(bool(one) for one in (value, value))


class Checks(nn.Module):
    """Refuses what it cannot use, in every way in which people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        assert x.isfinite().all()
        if x is None or (x > 100).any():
            raise ValueError("too large")
        if not (x.min() >= -100 and x.abs().max().item() <= 100):
            raise ValueError("too large")
        if len(x) == 0:
            raise ValueError("empty")
        if x.mean() < 100:
            return x * len(x)
        raise ValueError("too large")


class Wanders(nn.Module):
    """Checks its values, and branches on them where it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if x.isnan().any():
            raise ValueError("not a number")
        return -x if self.training and x.mean() > 0 else x
