from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import frostline as fl
from examples.divergence import stop_if_diverged
from frostline.divergence import FirstBad
from frostline.errors import FrostlineError

FINE, NAN = torch.tensor(0.5), torch.tensor(float("nan"))


def test_the_step_the_window_and_the_checkpoint_are_named(tmp_path: Path) -> None:
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)])
    program = fl.compile(model, fl.load_spec("stompp-ste"), (torch.randn(2, 4),), 100)
    bad, weights = FirstBad(torch.device("cpu")), list(program.net.parameters())
    checkpoint = tmp_path / "checkpoint.pt"
    bad.see(49, FINE, weights)
    stop_if_diverged(bad, program, checkpoint, "lower --lr")
    for step in (50, 51):
        bad.see(step, NAN, weights)
    with pytest.raises(FrostlineError, match=r"loss nan at step 50, while depth 2 was turning\n    -> lower --lr$"):
        stop_if_diverged(bad, program, checkpoint, "lower --lr")
    checkpoint.touch()
    with pytest.raises(FrostlineError, match=r"lower --lr; .*checkpoint\.pt is of before$"):
        stop_if_diverged(bad, program, checkpoint, "lower --lr")


def test_a_weight_of_a_float_run_is_found_though_its_loss_is_fine(tmp_path: Path) -> None:
    bad = FirstBad(torch.device("cpu"))
    bad.see(3, FINE, [NAN.clone().requires_grad_()])
    with pytest.raises(FrostlineError, match=r"weights that are not finite after step 3\n"):
        stop_if_diverged(bad, None, tmp_path / "checkpoint.pt", "lower --lr")
