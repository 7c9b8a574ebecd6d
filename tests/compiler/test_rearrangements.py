from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

import frostline as fl
from frostline.compiler.rearrangements import chain_to, is_constant, root_of


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.w, x).sum() + x


def result(function: Callable[[Tensor, Tensor], Tensor]) -> fx.Node:
    graph = fl.capture(Applied(function), (torch.randn(2, 4),))
    node = next(node for node in graph.nodes if node.target == "sum").args[0]
    assert isinstance(node, fx.Node)
    return node


@pytest.mark.parametrize(
    ("function", "constant"),
    [
        (lambda w, x: w, True),
        (lambda w, x: w.t(), True),
        (lambda w, x: w.T.mT.transpose(0, 1), True),
        (lambda w, x: torch.permute(w, (1, 0)).reshape(3, 8).contiguous(), True),
        (lambda w, x: w.view(2, 2, 6).flatten(1), True),
        (lambda w, x: w[1:, None, ..., :2].movedim(0, 1), True),
        (lambda w, x: w.chunk(2, dim=1)[1], True),
        (lambda w, x: torch.unbind(w.split(2)[0])[1], True),
        (lambda w, x: w.to(torch.float32).float(), True),
        (lambda w, x: w.to(x.dtype), True),
        (lambda w, x: w.expand(x.shape[0], 4, 6), False),
        (lambda w, x: w.expand(x.size(0), -1, -1), False),
    ],
)
def test_a_chain_of_rearrangements_starts_from_its_root(
    function: Callable[[Tensor, Tensor], Tensor], constant: bool
) -> None:
    node = result(function)
    assert root_of(node).target == "w"
    assert all(is_constant(one) for one in chain_to(node)[1:]) is constant


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x: w + 1,
        lambda w, x: w.double(),
        lambda w, x: w[torch.tensor([0, 1])],
        lambda w, x: torch.linalg.qr(w)[0],
        lambda w, x: torch.roll(w, 1).abs(),
    ],
)
def test_what_computes_entries_is_a_root_of_its_own(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    node = result(function)
    assert root_of(node) is node
