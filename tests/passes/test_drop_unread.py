from __future__ import annotations

import torch
from torch import Tensor, nn

import frostline as fl
from frostline.passes import DropUnread


class Heads(nn.Module):
    """Computes an early answer that it does not return, and writes into what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.early, self.late = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        torch.relu(self.early(torch.tanh(x)))
        y = self.late(x)
        y.mul_(3)
        return y


def test_what_nobody_reads_is_gone_and_what_is_written_stays() -> None:
    model, x = Heads(), torch.randn(2, 4)
    before = fl.capture(model, (x,))
    after = fl.run(before, [DropUnread()])
    assert {"early.weight", "tanh", "relu"}.isdisjoint(str(node.target) for node in after.nodes)
    assert "mul_" in {str(node.target) for node in after.nodes}
    assert torch.equal(after.module(x), model(x))
