from __future__ import annotations

import pytest

import frostline as fl
from frostline.adapters.logs import progress
from tests.adapters.plain import program


def at(one: fl.Program, step: int) -> dict[str, float]:
    one.driver.resume(step)
    return {name.removeprefix("frostline/"): value for name, value in progress(one).items()}


def test_progress_tells_where_the_plan_is() -> None:
    """Two windows, [2, 6) and [6, 10), of a weight and an activation each."""
    one = program(progression__curve={"kind": "linear"}, progression__warmup=2, progression__tail=2)
    assert at(one, 0) == {"step": 0, "window": 0, "fraction": 0, "settled": 0}
    assert at(one, 2) == {"step": 2, "window": 1, "fraction": 0, "settled": 0}
    assert at(one, 4) == {"step": 4, "window": 1, "fraction": 0.25, "settled": 0}
    assert at(one, 6) == {"step": 6, "window": 2, "fraction": 0.5, "settled": 0.5}
    assert at(one, 9) == {"step": 9, "window": 2, "fraction": 0.875, "settled": 0.5}
    assert at(one, 12) == {"step": 12, "window": 2, "fraction": 1, "settled": 1}


def test_the_fraction_is_that_of_the_masks() -> None:
    one = program(progression__curve={"kind": "linear"})
    for step in range(13):
        told = at(one, step)["fraction"]
        masks = [mask.frozen for mask in one.driver.masks.values()]
        frozen = sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)
        assert told == pytest.approx(frozen, abs=0.05)
