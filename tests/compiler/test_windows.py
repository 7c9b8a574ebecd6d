from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import frostline as fl
from frostline.compiler.depths import Depths
from frostline.compiler.plan import Plan
from frostline.compiler.sites import Operand, Site
from frostline.compiler.windows import block_of
from frostline.errors import PlanError, SpecError
from tests.models.small import spec


def pair(operation: str, depth: int, weights: int = 3) -> list[Site]:
    """The weight and the activation of an operation."""
    at = Depths(depth, depth, depth)
    weight = Operand(f"{operation}.weight", operation, operation, "weight", at)
    activation = Operand(f"{operation}.activation", operation, operation, "input", at)
    return [
        Site(activation.name, depth, "activation", (5,), None, (activation,)),
        Site(weight.name, depth, "weight", (weights,), None, (weight,)),
    ]


SITES = [*pair("stem", 0, 1), *pair("blocks.0.a", 1, 2), *pair("blocks.0.b", 2, 3), *pair("blocks.1.a", 3, 4)]


def planned(edits: dict[str, object], steps: int = 100) -> Plan:
    return fl.plan(spec(binarize__keep_float=[], **edits), SITES, steps)


def refused(edits: dict[str, object]) -> str:
    with pytest.raises(PlanError) as caught:
        planned(edits)
    return str(caught.value)


def labels(plan: Plan) -> list[str]:
    return [window.label for window in plan.windows]


def lengths(plan: Plan) -> list[int]:
    return [window.stop - window.start for window in plan.windows]


@pytest.mark.parametrize(
    ("operation", "block"),
    [
        ("layer1.0.conv2", "layer1.0"),
        ("layer1.0.downsample.0", "layer1.0"),
        ("encoder.layer.11.attention.self.query", "encoder.layer.11"),
        ("features.3", "features.3"),
        ("stem.conv", "stem.conv"),
        ("conv1", "conv1"),
    ],
)
def test_a_block_is_an_element_of_the_outermost_list(operation: str, block: str) -> None:
    assert block_of(pair(operation, 1)[0]) == block


def test_blocks_share_a_window() -> None:
    plan = planned({"progression__group": "block"})
    assert labels(plan) == ["block stem", "block blocks.0", "block blocks.1"]
    assert [turn.site.name for turn in plan.windows[1].turns] == [
        "blocks.0.a.activation", "blocks.0.a.weight", "blocks.0.b.activation", "blocks.0.b.weight",
    ]  # fmt: skip
    backwards = planned({"progression__group": "block", "progression__order": "reverse"})
    assert labels(backwards) == ["block blocks.1", "block blocks.0", "block stem"]


def test_one_kind_may_turn_before_the_other() -> None:
    plan = planned({"progression__stages": "activations_first"})
    assert labels(plan) == [
        *(f"activations, depth {depth}" for depth in range(4)),
        *(f"weights, depth {depth}" for depth in range(4)),
    ]
    assert {turn.site.kind for window in plan.windows[:4] for turn in window.turns} == {"activation"}
    plan = planned({"progression__stages": "weights_first", "progression__order": "global"})
    assert labels(plan) == ["weights, all", "activations, all"]


def test_windows_by_parameters() -> None:
    assert lengths(planned({"progression__windows": "parameters"})) == [10, 20, 30, 40]


def test_windows_of_activations_alone_are_as_long_as_the_weights_that_they_meet() -> None:
    plan = planned({"progression__windows": "parameters", "binarize__weights": False})
    assert lengths(plan) == [10, 20, 30, 40]


def test_windows_of_given_lengths() -> None:
    assert lengths(planned({"progression__windows": [1, 2, 1, 0.5], "progression__warmup": 10})) == [20, 40, 20, 10]


@given(st.lists(st.floats(0.5, 9), min_size=4, max_size=4), st.integers(80, 500))
def test_windows_of_any_lengths_fill_the_budget(given_lengths: list[float], steps: int) -> None:
    plan = planned({"progression__windows": given_lengths}, steps)
    assert sum(lengths(plan)) == steps
    for length, wanted in zip(lengths(plan), given_lengths, strict=True):
        assert math.isclose(length, steps * wanted / sum(given_lengths), abs_tol=1)


def test_a_window_without_a_step_is_refused() -> None:
    assert refused({"progression__windows": [1, 1000, 1000, 1]}) == (
        "the plan cannot be made\n"
        "  no step is left for depth 0, depth 3\n"
        "    -> give the run more steps, or equal windows"
    )


def test_as_many_lengths_as_windows() -> None:
    assert refused({"progression__windows": [1, 2]}) == (
        "the plan cannot be made\n"
        "  2 lengths are given for 4 windows\n"
        "    -> the windows are depth 0; depth 1; depth 2; depth 3"
    )


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"progression__group": "block", "progression__order": "global"}, "blocks are for the orders forward and"),
        ({"progression__group": "block", "progression__order": ["*"]}, "blocks are for the orders forward and"),
        ({"progression__stages": "weights_first", "progression__order": ["*"]}, "a list as order says itself"),
        ({"progression__windows": [1, -1]}, "a list of positive numbers, one a window"),
        ({"progression__windows": "long"}, "lengths are equal, parameters, or a list"),
    ],
)
def test_what_does_not_go_together_is_refused(edits: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec(**edits)
