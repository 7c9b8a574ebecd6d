from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import frostline as fl
from frostline.compiler.rewriting import Invariant, Pass, Violation, trace
from frostline.errors import PassError
from frostline.passes import FREEZING
from tests.models.small import chain, spec


def small(graph: fl.Graph) -> Iterator[Violation]:
    for node in graph.nodes:
        if node.op == "call_function":
            yield Violation(f"%{node.name} is too much", "a.py:1")


@dataclass(frozen=True)
class Nothing(Pass):
    """x -> x"""

    requires: ClassVar[tuple[Invariant, ...]] = (small,)

    def rewrite(self, graph: fl.Graph) -> None:
        raise AssertionError("a pass does not run on a graph that it does not take")


@dataclass(frozen=True)
class Untrue(Pass):
    """x -> x, but promises more"""

    ensures: ClassVar[tuple[Invariant, ...]] = (small,)

    def rewrite(self, graph: fl.Graph) -> None:
        pass


GRAPH = fl.capture(chain(layers=1), (torch.zeros(2, 3, 8, 8),))


def test_the_runner_lists_every_violation_before_a_pass() -> None:
    with pytest.raises(PassError) as caught:
        fl.run(GRAPH, [Nothing()])
    assert str(caught.value).splitlines() == [
        "Nothing cannot run: the graph is not small",
        "  a.py:1: %conv2d is too much",
        "  a.py:1: %conv2d_1 is too much",
        "  a.py:1: %linear is too much",
    ]


def test_the_runner_checks_what_a_pass_promises() -> None:
    with pytest.raises(PassError, match="Untrue left a graph that is not small"):
        fl.run(GRAPH, [Untrue()])


def test_trace_gives_every_stage_and_leaves_the_graph_alone() -> None:
    program = fl.compile(chain(), spec(), (torch.zeros(2, 3, 8, 8),), total_steps=10)
    program.driver.resume(10)
    before = program.graph.show()
    assert [str(one) for one, _ in trace(program.graph, FREEZING)] == [
        "FreezeMasks",
        "LiftScales",
        "DropUnread",
        "SettleTies",
        "UseLinear",
        "SplitBias",
        "FoldBatchNorm",
        "SplitBatchNorm",
        "PackWeights",
    ]
    assert program.graph.show() == before
