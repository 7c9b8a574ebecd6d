from __future__ import annotations

import operator

import torch
from torch import fx, nn

from frostline.compiler.flow import flow_of
from frostline.compiler.graph import Example, Facts, Graph, set_facts


def written(*write: object) -> tuple[fx.Graph, fx.Node, fx.Node, fx.Node]:
    """A tensor, its reader before and after a write, and the write, in a graph."""
    nodes = fx.Graph()
    x = nodes.placeholder("x")
    y = set_facts(nodes.call_function(torch.zeros_like, (x,)), Facts(shape=(2, 2)))
    view = nodes.call_method("t", (y,))
    before = nodes.call_function(torch.neg, (y,))
    target = {"y": y, "view": view}
    op, function, *arguments = write
    given = tuple(target.get(str(one), x if one == "x" else one) for one in arguments)
    wrote = nodes.create_node(str(op), function, given)  # type: ignore[arg-type]
    after = nodes.call_function(torch.neg, (y,))
    nodes.output((before, after))
    return nodes, wrote, before, after


def test_every_write_is_seen_after_it_and_not_before() -> None:
    for write in (
        ("call_function", operator.setitem, "y", 0, "x"),
        ("call_function", operator.iadd, "view", "x"),
        ("call_method", "add_", "view", "x"),
        ("call_function", torch.relu_, "y"),
    ):
        nodes, wrote, before, after = written(*write)
        flow = flow_of(Graph(fx.GraphModule(nn.Module(), nodes), Example((torch.ones(2, 2),)), "hand"))
        assert flow.between.has_edge(wrote, after)
        assert not flow.between.has_edge(wrote, before)
        (source,) = after.all_input_nodes
        assert flow.version(before, source) != flow.version(after, source)


def test_what_a_module_hands_on_is_written_into_as_well() -> None:
    for module, same in ((nn.Identity(), True), (nn.Dropout(0.5), True), (nn.Tanh(), False)):
        nodes = fx.Graph()
        x = nodes.placeholder("x")
        y = set_facts(nodes.call_function(torch.neg, (x,)), Facts(shape=(2, 2)))
        wrote = nodes.call_function(torch.relu_, (nodes.call_module("module", (y,)),))
        after = nodes.call_function(torch.neg, (y,))
        nodes.output((wrote, after))
        flow = flow_of(Graph(fx.GraphModule({"module": module}, nodes), Example((torch.ones(2, 2),)), "hand"))
        assert flow.between.has_edge(wrote, after) is same


def test_a_call_that_writes_nothing_leaves_a_value_as_it_was() -> None:
    nodes, call, before, after = written("call_function", torch.add, "y", "x")
    flow = flow_of(Graph(fx.GraphModule(nn.Module(), nodes), Example((torch.ones(2, 2),)), "hand"))
    assert not flow.between.has_edge(call, after)
    (source,) = after.all_input_nodes
    assert flow.version(before, source) == flow.version(after, source)
