from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from frostline.schedules import Surrogate

parse = TypeAdapter[Any](Surrogate).validate_python


def gradient(surrogate: object, v: float, sharpness: float = 1.0) -> float:
    value = torch.tensor(v, dtype=torch.float64)
    return float(parse(surrogate).slope(value, torch.tensor(sharpness, dtype=torch.float64)))


def tanh(v: float, s: float) -> float:
    return max(1.0, s) * (1 - float(torch.tensor(s * v, dtype=torch.float64).tanh()) ** 2)


def reste(v: float, o: float) -> float:
    if abs(v) > 1.5:
        return 0.0
    return 0.1 ** (1 / o - 1) if abs(v) < 0.1 else abs(v) ** (1 / o - 1) / o


FORMULAS: list[tuple[object, Callable[[float, float], float]]] = [
    ("identity", lambda v, s: 1.0),
    ("clipped", lambda v, s: float(abs(v) <= 1)),
    ("polynomial", lambda v, s: 2 - 2 * abs(v) if abs(v) <= 1 else 0.0),
    ({"kind": "tanh", "sharpness": 1}, tanh),
    ({"kind": "reste", "sharpness": 1}, reste),
]


@pytest.mark.parametrize(("surrogate", "formula"), FORMULAS, ids=[str(one) for one, _ in FORMULAS])
@given(st.integers(-300, 300).map(lambda hundredths: hundredths / 100 + 0.003), st.floats(0.1, 10))
def test_the_gradient_is_the_documented_formula(
    surrogate: object, formula: Callable[[float, float], float], v: float, sharpness: float
) -> None:
    assert gradient(surrogate, v, sharpness) == pytest.approx(formula(v, sharpness), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("surrogate", [surrogate for surrogate, _ in FORMULAS], ids=str)
def test_the_gradient_at_zero_is_that_beside_it(surrogate: object) -> None:
    assert gradient(surrogate, 0.0, 2.0) == pytest.approx(gradient(surrogate, 1e-9, 2.0))


def test_none_has_no_gradient() -> None:
    assert parse("none").slope(torch.ones(3), torch.ones(())).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("given_sharpness", "shares", "expected"),
    [
        (2, (0, 0.5, 1), [2, 2, 2]),
        ({"start": 1, "stop": 3, "curve": {"kind": "linear"}}, (0, 0.25, 1), [1, 1.5, 3]),
        ({"start": 10, "stop": 2, "curve": {"kind": "power", "exponent": 2}}, (0, 0.5, 1), [10, 8, 2]),
    ],
)
def test_a_sharpness_is_a_number_or_follows_a_curve(
    given_sharpness: object, shares: tuple[float, ...], expected: list[float]
) -> None:
    surrogate = parse({"kind": "tanh", "sharpness": given_sharpness})
    assert [surrogate.sharpness_at(share) for share in shares] == expected


def test_words_stay_words() -> None:
    assert parse("clipped").model_dump() == "clipped"
    assert parse({"kind": "clipped"}).model_dump() == "clipped"
    assert parse({"kind": "tanh", "sharpness": 2}).model_dump() == {"kind": "tanh", "sharpness": 2}
    rising = parse({"kind": "reste", "sharpness": {"start": 1, "stop": 3, "curve": {"kind": "linear"}}})
    assert (str(parse("none")), str(rising)) == ("none", "reste, sharpness 1 to 3 (linear)")
