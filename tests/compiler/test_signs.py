from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from frostline.compiler.capture import capture
from frostline.compiler.signs import never_negative


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.function(x))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: torch.relu(x), True),
        (lambda x: functional.relu(x).flatten(1), True),
        (lambda x: functional.max_pool1d(functional.relu(x), 1), True),
        (lambda x: torch.softmax(x, -1) + x.sigmoid(), True),
        (lambda x: torch.cat([x.relu(), x.abs()], -1)[:, :4], True),
        (lambda x: x.relu() + x, False),
        (lambda x: x.relu() - 1, False),
        (lambda x: x.relu() * -1, False),
        (lambda x: torch.tanh(x.relu()), False),
        (lambda x: functional.layer_norm(x.relu(), (4,)), False),
        (lambda x: x, False),
        (lambda x: x.relu().add_(1), False),
        (lambda x: functional.relu(x, inplace=True), True),
    ],
)
def test_what_follows_from_a_relu_is_never_negative(function: Callable[[Tensor], Tensor], expected: bool) -> None:
    graph = capture(Applied(function), (torch.randn(2, 4),))
    source = next(node for node in graph.nodes if node.name == "linear").args[0]
    assert never_negative(source, graph) is expected  # type: ignore[arg-type]
    if expected:
        assert (function(torch.randn(100, 4)) >= 0).all()
