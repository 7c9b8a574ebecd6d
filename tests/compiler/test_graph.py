from __future__ import annotations

import copy
from collections.abc import Callable

import torch

import frostline as fl
from frostline.passes import FREEZING
from tests.models.small import Attention, Tied, chain, spec

X = torch.zeros(2, 3, 8, 8)


def test_the_text_of_a_graph_at_each_stage(golden: Callable[[str, str], None]) -> None:
    program = fl.compile(chain(layers=1), spec(), (X,), total_steps=10)
    golden("graph-captured", fl.capture(chain(layers=1), (X,)).show())
    golden("graph-masked", program.graph.show())
    program.driver.resume(10)
    golden("graph-binary", fl.run(program.graph, FREEZING).show())


def test_the_text_of_a_graph_with_the_user_s_lines(golden: Callable[[str, str], None]) -> None:
    golden("graph-attention", fl.capture(Attention(), (torch.zeros(2, 3, 8),)).show())


def test_a_copy_shares_tensors_and_a_snapshot_does_not() -> None:
    graph = fl.capture(chain(), (X,))
    shared, own = graph.copy(), graph.snapshot()
    assert all(a is b for a, b in zip(graph.module.parameters(), shared.module.parameters(), strict=True))
    assert not any(a is b for a, b in zip(graph.module.parameters(), own.module.parameters(), strict=True))
    assert graph.show() == shared.show() == own.show()


def test_a_copy_has_flags_of_its_own() -> None:
    graph = fl.capture(chain().train(), (X,))
    graph.copy().module.eval()
    assert all(module.training for module in graph.module.modules())


def test_deepcopy_keeps_ties() -> None:
    net = copy.deepcopy(fl.capture(Tied(), (torch.zeros(2, 4),)).module)
    assert net.get_parameter("a.weight") is net.get_parameter("b.weight")
