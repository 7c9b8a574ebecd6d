"""Errors in the user's own loop: whatever is raised, and wherever, the program stays what its step says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import frostline as fl
from frostline.errors import FrostlineError
from tests.faults.training import TOTAL, program

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def computed(one: fl.Program) -> Tensor:
    """What the net computes now; weights are those of the first step in every program here."""
    with torch.no_grad():
        return one.net.eval()(X)


def at(step: int) -> fl.Program:
    one = program()
    one.driver.resume(step)
    return one


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), GeneratorExit()])
def test_binarized_is_left_properly(error: BaseException) -> None:
    one = at(7)
    before = computed(one)

    def fail() -> None:
        with one.binarized(), one.binarized() as net:
            assert not torch.equal(net.eval()(X), before)
            raise error

    with pytest.raises(type(error)):
        fail()
    assert torch.equal(computed(one), before)
    assert one.step == 7


def test_a_state_that_is_saved_while_binarized_is_of_the_step() -> None:
    one = at(7)
    expected = computed(one)
    with one.binarized():
        state = one.state_dict()
    other = at(0)
    other.load_state_dict(state)
    assert torch.equal(computed(other), expected)


@pytest.mark.parametrize("fails", ["forward", "backward", "optimizer"])
def test_an_error_in_a_step_leaves_the_step_before(fails: str) -> None:
    one = at(0)
    optimizer = torch.optim.SGD(one.net.parameters(), lr=0.0)
    for step in range(TOTAL):
        try:
            if step == 9 and fails == "forward":
                one.net(X[:, :2])
            loss = functional.cross_entropy(one.net(X), torch.arange(4))
            if step == 9 and fails == "backward":
                loss.register_hook(lambda _: 1 / 0)
            loss.backward()
            if step == 9 and fails == "optimizer":
                raise RuntimeError
            optimizer.step()
        except (RuntimeError, ZeroDivisionError):
            break
        one.advance()
    assert one.step == 9
    again = at(9)
    again.net.load_state_dict(one.net.state_dict())
    assert torch.equal(computed(one), computed(again))


def test_a_state_of_something_else_changes_nothing() -> None:
    one = at(7)
    expected = computed(one)
    for state in ({}, {**one.state_dict(), "step": -1}, {**one.state_dict(), "total_steps": 99, "plan": ""}):
        with pytest.raises(FrostlineError):
            one.load_state_dict(state)
    assert one.step == 7
    assert torch.equal(computed(one), expected)


def test_a_loss_that_is_not_a_number_is_never_saved(tmp_path: Path) -> None:
    """In a loop of one's own: the checkpoint before it is there to go back to."""
    one, checkpoints = at(0), fl.Checkpoints(tmp_path)
    optimizer = torch.optim.SGD(one.net.parameters(), lr=0.1)
    for step in range(TOTAL):
        x = X * (torch.nan if step == 5 else 1)
        loss = functional.cross_entropy(one.net.train()(x), torch.arange(4))
        if not torch.isfinite(loss):
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        one.advance()
        checkpoints.save(one.step, {"program": one.state_dict(), "net": one.net.state_dict()})
    state = checkpoints.latest()
    assert state is not None
    assert state["program"]["step"] == 5
    other = at(0)
    other.load_state_dict(state["program"])
    assert other.step == 5
