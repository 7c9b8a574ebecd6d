from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx
from torch.nn import functional

from frostline.compiler.operations import operation_of


def call(function: Callable[..., object] | str, *arguments: object, **named: object) -> fx.Node:
    """A call whose arguments named by a letter are values of a graph."""
    graph = fx.Graph()
    values = {letter: graph.placeholder(letter) for letter in "xwb"}
    given: Any = tuple(values.get(str(one), one) for one in arguments)
    known: Any = {name: values.get(str(one), one) for name, one in named.items()}
    op = "call_method" if isinstance(function, str) else "call_function"
    return graph.create_node(op, function, given, known)


@pytest.mark.parametrize(
    ("node", "name", "first", "second", "added"),
    [
        (call(functional.linear, "x", "w", bias="b"), "linear", "x", "w", "b"),
        (call(torch.conv2d, "x", weight="w", groups=2), "conv2d", "x", "w", None),
        (call(functional.conv_transpose3d, "x", "w", "b", 2), "conv_transpose3d", "x", "w", "b"),
        (call(operator.matmul, "x", "w"), "matmul", "x", "w", None),
        (call(torch.matmul, "w", other="x"), "matmul", "w", "x", None),
        (call("matmul", "x", "w"), "matmul", "x", "w", None),
        (call("mm", "x", mat2="w"), "mm", "x", "w", None),
        (call(torch.bmm, "x", "w"), "bmm", "x", "w", None),
        (call("addmm", "b", "x", "w", alpha=2), "addmm", "x", "w", "b"),
        (call(torch.baddbmm, "b", batch1="x", batch2="w"), "baddbmm", "x", "w", "b"),
        (call(torch.einsum, "ij,jk", "x", "w"), "einsum", "x", "w", None),
    ],
)
def test_a_call_is_read_however_it_is_spelled(
    node: fx.Node, name: str, first: str, second: str, added: str | None
) -> None:
    operation = operation_of(node)
    assert operation is not None
    roles, arguments = operation.roles[0], operation.bind(node)
    assert operation.name == name
    assert (str(arguments[roles.activation]), str(arguments[roles.weight])) == (first, second)
    assert operation.added is None or added == (arguments[operation.added] and str(arguments[operation.added]))


def test_operands_in_a_list_are_replaced_as_well() -> None:
    graph = fx.Graph()
    x, w, other = (graph.placeholder(name) for name in ("x", "w", "other"))
    node = graph.call_function(torch.einsum, ("ij,jk", [x, w]))
    operation = operation_of(node)
    assert operation is not None
    operation.rebind(node, "second", other)
    assert node.args == ("ij,jk", x, other)


def test_one_argument_is_replaced_and_no_other_use_of_its_value() -> None:
    graph = fx.Graph()
    w, other = graph.placeholder("w"), graph.placeholder("other")
    node = graph.call_function(torch.mm, (w,), {"mat2": w})
    operation = operation_of(node)
    assert operation is not None
    operation.rebind(node, "mat2", other)
    assert (node.args, node.kwargs) == ((w,), {"mat2": other})


@pytest.mark.parametrize(
    "node", [call(torch.einsum, "ij,jk,kl", "x", "w", "b"), call(torch.add, "x", "w"), call("t", "w")]
)
def test_other_calls_are_none(node: fx.Node) -> None:
    assert operation_of(node) is None


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_the_axis_of_the_outputs_is_the_one_that_the_result_has(spatial: int) -> None:
    for function in (getattr(torch, f"conv{spatial}d"), getattr(torch, f"conv_transpose{spatial}d")):
        operation = operation_of(call(function, "x", "w"))
        assert operation is not None
        (roles,) = operation.roles
        assert roles.channels is not None
        assert roles.outputs is not None
        weight = torch.zeros(*((5, 3) if roles.outputs == 0 else (3, 5)), *(1,) * spatial)
        shape = [2, 2, *(4,) * spatial]
        shape[roles.channels] = 3
        assert function(torch.zeros(shape), weight).shape[1] == weight.shape[roles.outputs] == 5
