from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console
from torch import nn

import frostline as fl
from frostline.history import Epoch
from frostline.progress import progress, row, status

EPOCH = Epoch(epoch=1, step=20, window="depth 2", loss=1.25, masked=0.876, binary=0.5)
HISTORY = [EPOCH]


@pytest.fixture
def program() -> fl.Program:
    model = nn.Sequential(*(module for _ in range(4) for module in (nn.Linear(4, 4), nn.Hardtanh())))
    spec = fl.edit_spec(fl.load_spec("stompp"), {"progression.curve": {"kind": "linear"}})
    return fl.compile(model, spec, (torch.randn(2, 4),), total_steps=100)


def shown(program: fl.Program, *, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with progress(console, program, HISTORY, 100) as show:
        program.driver.resume(28)
        show()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_what_turns_and_how_good_the_network_is(program: fl.Program) -> None:
    text = shown(program, terminal=True)
    assert "step 28 of 100," in text
    assert "depth 2 turning, 53% binary   window 1 of 2   masked 87.6%   fully binary 50.0%" in text


def test_nothing_is_shown_where_the_output_is_piped(program: fl.Program) -> None:
    assert shown(program, terminal=False) == ""


def test_warm_up_and_tail_are_told(program: fl.Program) -> None:
    assert status(program.plan, 0, []) == "warm-up until step 5"
    assert status(program.plan, 95, []) == "all settled"


def test_an_epoch_is_a_line(program: fl.Program) -> None:
    assert row(HISTORY[0], program.plan) == (
        "epoch   1  step    20  depth 2 turning  loss 1.250  masked  87.6%  fully binary  50.0%"
    )


def test_columns_stand_under_each_other_whatever_a_window_is_called() -> None:
    model = nn.Sequential(*(module for _ in range(4) for module in (nn.Linear(4, 4), nn.Hardtanh())))
    spec = fl.edit_spec(fl.load_spec("stompp"), {"progression.order": ["2.weight", "4.*", "*"]})
    plan = fl.compile(model, spec, (torch.randn(2, 4),), total_steps=100).plan
    rows = [row(EPOCH.model_copy(update={"window": label}), plan) for label in ("2.weight", "4.*", "*", "")]
    assert len({line.index("loss") for line in rows}) == 1
