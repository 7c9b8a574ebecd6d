from __future__ import annotations

import torch
from torch import Tensor, nn

import frostline as fl
from tests.models.small import spec


class Chooser(nn.Module):
    """Chooses by scores that take few values."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(3, 40, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        scores = self.score(x)
        values, indices = scores.sort(-1, descending=True)
        top = torch.topk(input=scores, k=30, dim=1)
        return values, indices, top.indices, scores.argsort(-1), torch.topk(scores, 5, 1, False)[1]


def test_the_first_of_equal_scores_is_chosen() -> None:
    program = fl.compile(Chooser(), spec(binarize__keep_float=[]), (torch.randn(2, 3),), total_steps=2)
    program.advance()
    program.advance()
    graph = program.freeze()
    values, falling, top, rising, lowest = graph.module(torch.randn(16, 3))
    assert len(values[0].unique()) <= 4
    scores = torch.zeros_like(values).scatter(1, falling, values)
    for row in range(16):
        in_order = sorted(range(40), key=lambda place: (-scores[row, place].item(), place))
        assert falling[row].tolist() == in_order
        assert top[row].tolist() == in_order[:30]
        in_order = sorted(range(40), key=lambda place: (scores[row, place].item(), place))
        assert rising[row].tolist() == in_order
        assert lowest[row].tolist() == in_order[:5]
