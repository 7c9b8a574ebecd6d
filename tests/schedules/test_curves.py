from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.schedules import Cosine, Curve, FlippedPower, Instant, Linear, Power

exponents = st.floats(0.1, 20)
curves = st.one_of(
    exponents.map(lambda e: Power(kind="power", exponent=e)),
    exponents.map(lambda e: FlippedPower(kind="flipped_power", exponent=e)),
    st.just(Linear(kind="linear")),
    st.just(Cosine(kind="cosine")),
)


@given(curves, st.floats(0, 1), st.floats(0, 1))
def test_a_curve_grows_from_none_to_all(curve: Curve, s: float, t: float) -> None:
    assert curve.fraction(0.0) == 0.0
    assert curve.fraction(1.0) == pytest.approx(1.0)
    assert 0.0 <= curve.fraction(min(s, t)) <= curve.fraction(max(s, t)) <= 1.0


@given(st.floats(0, 1))
def test_instant_is_binary_from_the_first_step(t: float) -> None:
    assert Instant(kind="instant").fraction(t) == 1.0


@given(exponents, st.floats(0, 1))
def test_flipped_power_mirrors_power(exponent: float, t: float) -> None:
    power, flipped = Power(kind="power", exponent=exponent), FlippedPower(kind="flipped_power", exponent=exponent)
    assert flipped.fraction(t) == pytest.approx(1 - power.fraction(1 - t))
