from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import frostline as fl
from frostline.compiler.capture.checks import holds, passing
from frostline.compiler.capture.user_line import user_frames
from frostline.compiler.graph import facts
from frostline.errors import UsageError
from tests.models import branches


class Asked:
    """Notes what a condition that asks it must be."""

    def __init__(self) -> None:
        self.needed: bool | None = None

    def __bool__(self) -> bool:
        self.needed = passing(list(user_frames())[1:])
        return bool(self.needed)


def run(forward: Callable[[object], object], asked: Asked) -> None:
    """In a thread, so that nothing of pytest's can catch what is raised."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(forward, asked).result()


@pytest.mark.parametrize(
    ("forward", "needed"),
    [
        (branches.asserted, True), (branches.refused, False), (branches.at_last, False), (branches.one_of_two, True),
        (branches.negated, True), (branches.in_a_chain, False), (branches.otherwise, True),
    ],
)  # fmt: skip
def test_what_goes_on(forward: Callable[[object], object], needed: bool) -> None:
    asked = Asked()
    run(forward, asked)
    assert asked.needed is needed


@pytest.mark.parametrize(
    "forward",
    [
        branches.both_ways, branches.not_last, branches.either, branches.caught, branches.suppressed,
        branches.sometimes, branches.beside, branches.named, branches.in_a_call,
    ],
)  # fmt: skip
def test_where_both_ways_may_go_on_none_is_taken(forward: Callable[[object], object]) -> None:
    asked = Asked()
    run(forward, asked)
    assert asked.needed is None


def test_where_every_way_raises_none_goes_on() -> None:
    asked = Asked()
    with pytest.raises(ValueError, match="other"):
        run(branches.never, asked)
    assert asked.needed is None


def test_a_check_that_fails_names_its_line() -> None:
    holds(1.0, True, "model.py:3")
    with pytest.raises(UsageError, match=r"refuses these inputs\n  model.py:3: its own check fails here"):
        holds(0.0, True, "model.py:3")


def test_what_could_catch_outside_of_the_capture_does_not_matter() -> None:
    x = torch.randn(3, 4)
    try:
        evaluating = fl.capture(branches.Wanders(), (x,)).evaluating
    except ValueError:
        pytest.fail("never raised")
    assert evaluating is not None
    assert not any("test_checks.py" in str(facts(node).where) for node in evaluating.nodes)
    evaluating.module(x)
    line = next(node for node in evaluating.nodes if node.target is holds).args[2]
    with pytest.raises(UsageError, match=rf"{line}: its own check fails here"):
        evaluating.module(x * torch.nan)
