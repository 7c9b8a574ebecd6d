from __future__ import annotations

import torch
from torch import Tensor, nn

import frostline as fl
from frostline.compiler.unreached import unreached
from tests.models.small import Embedded, chain, spec


class Elsewhere(nn.Module):
    """Parameters that no known operation multiplies with an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.places = nn.Parameter(torch.randn(1, 3, 4))
        self.scale = nn.Parameter(torch.randn(1, 1, 4))
        self.gru = nn.GRU(4, 4, batch_first=True)
        self.pair = nn.Bilinear(4, 4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens) * self.scale + self.places
        x = self.gru(x)[0]
        return self.head(self.pair(x, x))


def test_each_is_named_with_its_line_and_the_reason() -> None:
    found = unreached(fl.capture(Elsewhere(), (torch.tensor([[1, 2, 3], [3, 4, 0]]),)))
    assert [(one.name, one.why) for one in found] == [
        ("table", "looked up, not multiplied"),
        ("places", "used by add, in no product"),
        ("gru", "GRU runs as a whole: its weights cannot be reached"),
        ("pair", "used by Bilinear, which is no operation that can be binarized"),
    ]
    assert all(str(one.where).startswith("tests/compiler/test_unreached.py:") for one in found)


def test_what_a_product_reads_is_reached_wherever_else_it_is_read() -> None:
    assert unreached(fl.capture(chain(), (torch.zeros(2, 3, 8, 8),))) == ()
    assert unreached(fl.capture(Embedded(), (torch.tensor([[1, 2], [3, 4]]),))) == ()


def test_what_a_view_takes_only_the_size_of_is_not_reached() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.w = nn.Embedding(5, 4), nn.Parameter(torch.randn(4, 4))

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.table(tokens)
            return torch.bmm(x, self.w.expand(x.shape[0], -1, -1))

    (only,) = unreached(fl.capture(Sized(), (torch.tensor([[1, 2, 3], [3, 4, 0]]),)))
    assert only.name == "table"


def test_the_plan_says_that_they_stay_float() -> None:
    program = fl.compile(
        Elsewhere(), spec(binarize__keep_float=[]), (torch.tensor([[1, 2, 3], [3, 4, 0]]),), total_steps=10
    )
    below = str(program.plan).partition("stays float\n")[2]
    assert "  gru     GRU runs as a whole: its weights cannot be reached" in below.splitlines()
