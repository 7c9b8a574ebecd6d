from __future__ import annotations

from pathlib import Path

import pytest
import torch

import frostline as fl
from examples.ablations.cells import Cell
from examples.digits import main
from examples.digits.network import plain, residual


@pytest.mark.parametrize("make", [plain, residual])
def test_sixteen_binary_convolutions(make) -> None:  # type: ignore[no-untyped-def]
    spec = fl.load_spec("examples/digits/schedule.yaml")
    program = fl.compile(make(), spec, (torch.zeros(2, 1, 8, 8),), total_steps=100)
    assert sum(turn.site.kind == "weight" for turn in program.plan.turns) == 16
    assert len(program.plan.windows) == 16


def test_order_decides_in_a_plain_chain() -> None:
    """The method's qualitative result, at width 8 and 8 epochs: chance is 10 %."""
    methods = ("clipped STE", "reverse", "forward", "forward + clipped")
    ste, reverse, forward, both = (
        Cell("digits", "plain-16", method, seed=0, epochs=8, width=8).run_on_digits()["binary"] for method in methods
    )
    assert ste < 0.2
    assert reverse < 0.2
    assert forward > 0.4
    assert both > forward + 0.1


def test_the_main_job_at_a_smaller_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "RUN", tmp_path / "digits")
    monkeypatch.setattr(main, "EPOCHS", 2)
    main.main()
    out = capsys.readouterr().out
    assert "plan: 32 sites turn binary in 16 windows of 42 steps" in out
    assert "16 binary operations give the graph's integers" in out
    assert "of 497 test digits" in out
