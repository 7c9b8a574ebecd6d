from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.schedules import Duration


@pytest.mark.parametrize(
    ("written", "steps"),
    [
        (0, 0),
        (17, 17),
        ("17 steps", 17),
        ("1 step", 1),
        ("5%", 50),
        ("12.5 %", 125),
        ("2 epochs", 42),
        ("0.5 epoch", 11),
    ],
)
def test_a_duration_is_steps_epochs_or_a_share(written: object, steps: int) -> None:
    assert Duration.parse(written).steps(total_steps=1000, steps_per_epoch=21) == steps


@pytest.mark.parametrize("written", [-1, 1.5, True, None, "", "5", "five", "101%", "1.5 steps", "-5%", [], 10**9])
def test_anything_else_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"duration|share|whole number|negative"):
        Duration.parse(written)


def test_epochs_need_their_length() -> None:
    with pytest.raises(ValueError, match='"3 epochs" needs steps_per_epoch'):
        Duration.parse("3 epochs").steps(total_steps=100, steps_per_epoch=None)


@given(st.integers(0, 10_000), st.integers(1, 10**6))
def test_a_share_is_rounded_to_the_nearest_step_halves_upwards(hundredths: int, total: int) -> None:
    share = Duration.parse(f"{hundredths / 100:.2f}%")
    exact = Fraction(hundredths, 10_000) * total
    assert -Fraction(1, 2) < share.steps(total, None) - exact <= Fraction(1, 2)


@given(st.integers(0, 10**6))
def test_its_text_reads_back(steps: int) -> None:
    assert Duration.parse(str(Duration.parse(steps))) == Duration.parse(steps)


@pytest.mark.parametrize("text", ["0.00001%", "123456789.123 epochs", "0.000000001 epochs", "12.5%"])
def test_a_duration_is_written_exactly(text: str) -> None:
    assert str(Duration.parse(text)) == text
    assert Duration.parse(str(Duration.parse(text))) == Duration.parse(text)
