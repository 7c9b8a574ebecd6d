from __future__ import annotations

import torch
from torch import Tensor, nn

import frostline as fl
from frostline.compiler.structure import structures


class Recomputed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.v = (nn.Parameter(torch.randn(4, 4)) for _ in range(2))
        self.tied = self.w

    def forward(self, x: Tensor) -> Tensor:
        values = [self.w[:2] * 2, self.tied[:2] * 2, self.w[1:3] * 2, self.v[:2] * 2, self.w[:2] * 3]
        return x + torch.stack([value.sum() for value in values]).sum()


def test_equal_calls_on_equal_tensors_have_one_number() -> None:
    graph = fl.capture(Recomputed(), (torch.randn(2, 4),))
    numbers = structures(graph)
    doubled = [numbers[node] for node in graph.nodes if str(node.name).startswith("mul")]
    assert doubled[0] == doubled[1]
    assert len(set(doubled)) == 4
