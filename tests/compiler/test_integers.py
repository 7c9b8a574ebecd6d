from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from frostline.compiler.integers import Integer, integers_of
from frostline.compiler.invariants import is_binary
from frostline.passes import FreezeMasks, SplitBias
from tests.models.small import spec


class Sums(nn.Module):
    """Products and sums of products, some of them no integers: `[n, 6, 4, 4]` to `[n, 3]`."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(6, 8, 3, padding=1, groups=2, bias=False)
        self.b = nn.Conv2d(6, 8, 1, bias=False)
        self.c = nn.Linear(8, 5, bias=False)
        self.d = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = self.a(x) - torch.relu(self.b(x))
        pooled = functional.max_pool2d(both, 4).flatten(1)
        return self.d(self.c(pooled) * 0.5)


def found(model: nn.Module, x: Tensor) -> dict[str, Integer]:
    program = fl.compile(model, spec(binarize__keep_float=[]), (x,), total_steps=9)
    program.driver.resume(9)
    graph = fl.run(program.graph.snapshot(), [FreezeMasks(), SplitBias()])
    known = integers_of(graph)
    return {node.name: one for node, one in known.items() if not is_binary(node)}


def test_bounds_and_channels() -> None:
    known = found(Sums(), torch.randn(2, 6, 4, 4))
    assert known == {
        "conv2d": Integer(27, -3),
        "conv2d_1": Integer(6, -3),
        "relu": Integer(6, -3),
        "sub": Integer(33, -3),
        "max_pool2d": Integer(33, -3),
        "flatten": Integer(33, -1),
        "linear": Integer(8, -1),
        "linear_1": Integer(5, -1),
    }


class Written(nn.Module):
    """A sum of a product that was changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Linear(4, 4, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y.mul_(0.3)
        return self.b(x) + y


def test_what_was_written_into_is_no_integer() -> None:
    assert found(Written(), torch.randn(2, 4)).keys() == {"linear", "linear_1"}
