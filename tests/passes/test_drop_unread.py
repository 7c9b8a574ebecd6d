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


class Writes(nn.Module):
    """Writes into its own tensors: into one that is read, into one that is not, into its state, and by `out`."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body, self.lost, self.late = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        lost = self.lost(torch.tanh(x))
        lost[:, :2] += 1
        view = x.detach()
        x += 1
        y = torch.empty_like(x)
        with torch.no_grad():
            torch.add(x, view, out=y)
            self.seen.add_(y.sum(0))
        return self.late(x + y)


def test_writes_stay_where_they_can_be_seen() -> None:
    model, x = Writes(), torch.randn(2, 4)
    before = fl.capture(model, (x,))
    after = fl.run(before, [DropUnread()])
    assert {"lost.weight", "tanh"}.isdisjoint(str(node.target) for node in after.nodes)
    assert {"add_", "add"} <= {getattr(node.target, "__name__", node.target) for node in after.nodes}
    model.seen.zero_()
    assert torch.equal(after.module(x), model(x))


class WritesThroughEinsum(Heads):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        torch.einsum("bi->ib", x).add_(1)
        return self.late(x)


def test_einsum_may_give_a_view() -> None:
    model, x = WritesThroughEinsum(), torch.randn(2, 4)
    assert torch.equal(fl.run(fl.capture(model, (x,)), [DropUnread()]).module(x), model(x))
