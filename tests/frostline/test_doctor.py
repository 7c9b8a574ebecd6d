from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import frostline as fl
from tests.models.factories import branching_with_example, recurrent_with_example
from tests.models.small import Drawing

Golden = Callable[[str, str], None]


def test_a_model_that_the_recorder_takes(golden: Golden) -> None:
    golden("doctor-recorder", str(fl.diagnose(*recurrent_with_example())))


def test_a_branch_on_a_value_is_captured_in_regions(golden: Golden) -> None:
    golden("doctor-regions", str(fl.diagnose(*branching_with_example())))


def test_a_model_that_nothing_captures(golden: Golden) -> None:
    diagnosis = fl.diagnose(Drawing(4, 4), (torch.zeros(2, 4),))
    assert diagnosis.winner is None
    golden("doctor-nothing", str(diagnosis))


class Between(nn.Module):
    """A branch on a value, and a weight that the model's own Python uses."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(4, 4)
        self.outside = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.inside(x)
        return x @ self.outside if float(x.sum()) > 0 else x


def test_what_lies_outside_of_the_regions_is_named() -> None:
    (lost,) = fl.diagnose(Between(), (torch.randn(2, 4),)).unreached
    assert (lost.name, lost.why.partition(":")[0]) == ("outside", "outside of the regions")


def test_an_example_that_does_not_fit() -> None:
    with pytest.raises(fl.FrostlineError, match="does not run on its example inputs"):
        fl.diagnose(nn.Linear(3, 3), (torch.zeros(2, 4),))


def test_a_recurrent_module_alone_is_captured_and_says_why_it_stays_float() -> None:
    diagnosis = fl.diagnose(nn.LSTM(4, 8, batch_first=True), (torch.randn(2, 5, 4),))
    assert [(one.name, one.why.partition(":")[0]) for one in diagnosis.unreached] == [
        ("weight_ih_l0", "lstm runs as a whole"),
        ("weight_hh_l0", "lstm runs as a whole"),
    ]
