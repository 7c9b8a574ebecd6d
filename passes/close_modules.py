from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from torch import fx, nn

from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.invariants import masked
from frostline.compiler.masks import Mask
from frostline.compiler.names import joined
from frostline.compiler.net import Modes, assemble, modes_of, share
from frostline.compiler.patterns import matches_nothing
from frostline.compiler.rewriting import Invariant, Pass
from frostline.errors import Offence, PassError, UsageError
from frostline.passes.insert_masks import HOME


@dataclass(frozen=True)
class CloseModules(Pass):
    """linear(x, mask(a.weight)), hardtanh(...) -> a(x), for the module at each of these paths, which becomes a net.

    That net makes the calls that were made inside of the module, and has the masks that no one else reads. Parameters
    and buffers keep their names, and the whole makes the same calls in the same order. What works module by module,
    as `fully_shard` does, sees the module called.
    """

    paths: tuple[str, ...]

    requires: ClassVar[tuple[Invariant, ...]] = (masked,)

    def rewrite(self, graph: Graph) -> None:
        inside = [path for path in self.paths if _within(path, graph.region) and path != graph.region]
        own = [path[len(graph.region) :].lstrip(".") for path in inside]
        known = {path for path, _ in graph.module.named_modules()}
        faults = [Offence(f"there is no module {path}") for path in own if path not in known]
        faults += [f for path in own if path in known for nodes in _both(graph) for f in _open_ends(graph, nodes, path)]
        if faults:
            raise PassError("these modules cannot be closed", dict.fromkeys(faults))
        for path in sorted(own, key=lambda path: -path.count(".")):  # those inside of others first
            _close(graph, path)


@dataclass(frozen=True)
class OpenModules(Pass):
    """a(x) -> linear(x, mask(a.weight)), hardtanh(...), for every module that CloseModules closed."""

    def rewrite(self, graph: Graph) -> None:
        closed = [(part.region[len(graph.region) :].lstrip("."), part) for part in graph.parts()[1:]]
        for path, part in closed:  # those around others first
            for nodes, body in zip(_both(graph), (_both(part)[0], _both(part)[-1]), strict=False):
                for call in [node for node in nodes.nodes if node.op == "call_module" and node.target == path]:
                    _inline(nodes, call, body)
        for path, part in reversed(closed):
            for target, mask in _masks(part.module):
                graph.module.add_submodule(target, mask)
            tree = share(part.module)
            tree._modules.pop(HOME, None)
            graph.module.set_submodule(path, tree)


def matching(graph: Graph, patterns: Sequence[str]) -> tuple[str, ...]:
    """The modules that patterns name: of those that a pattern matches, the outermost.

    Raises UsageError, with every pattern that matches none.
    """
    if isinstance(patterns, str):
        raise UsageError("closed is a list of patterns", [Offence(f"it is {patterns!r}", remedy=f"[{patterns!r}]")])
    known = closable(graph)
    found: dict[str, None] = {}
    faults = []
    for pattern in patterns:
        paths = [path for path in known if fnmatchcase(path, pattern)]
        found |= {path: None for path in paths if not any(_within(path, other) for other in paths if other != path)}
        faults += [] if paths else [matches_nothing(pattern, known, None, kind="module")]
    if faults:
        raise UsageError("the modules to close cannot be found", faults)
    return tuple(found)


def closable(graph: Graph) -> tuple[str, ...]:
    """The paths of the modules that make calls of their own in a graph, regions among them, in the order of running."""
    found: dict[str, None] = dict.fromkeys(graph.regions)
    for part in graph.parts():
        for node in (node for nodes in _both(part) for node in nodes.nodes if _is_call(node)):
            names = facts(node).path.split(".") if facts(node).path else []
            paths = [".".join(names[:size]) for size in range(1, len(names) + 1)]
            found |= {joined(part.region, path): None for path in paths if path != node.target}
    return tuple(found)


def _both(graph: Graph) -> list[fx.Graph]:
    """The nodes of eval mode, and those of train mode where they are others."""
    training = modes_of(graph.module).training
    return [graph.module.graph, *([] if training is None else [training])]


def _within(name: str, path: str) -> bool:
    return not path or name == path or name.startswith(f"{path}.")


def _is_mask(node: fx.Node) -> bool:
    return node.op == "call_module" and str(node.target).startswith(f"{HOME}.")


def _is_call(node: fx.Node) -> bool:
    return node.op.startswith("call_") and not _is_mask(node)


def _span(nodes: fx.Graph, path: str) -> list[fx.Node]:
    """All from the first call that is made inside of a module to the last."""
    order = list(nodes.nodes)
    inside = [node for node in order if _is_call(node) and _within(facts(node).path, path) and node.target != path]
    calls = [order.index(node) for node in (*inside[:1], *inside[-1:])]
    return order[calls[0] : calls[-1] + 1] if calls else []


def _members(nodes: fx.Graph, path: str) -> list[fx.Node]:
    """What moves into a module, in order: its calls, and the masks and tensors of its own that only they read."""
    span = _span(nodes, path)
    found = {node for node in span if node.op != "get_attr"}
    for node in reversed(nodes.nodes):
        held = node.op == "get_attr" and _within(str(node.target), path)
        if (held or _is_mask(node)) and node.users and found.issuperset(node.users):
            found.add(node)
    return [node for node in nodes.nodes if node in found]


def _open_ends(graph: Graph, nodes: fx.Graph, path: str) -> Iterator[Offence]:
    """Why a module is not closed: others compute between its calls, or read its parameters."""
    for node in _span(nodes, path):
        if _is_call(node) and not _within(facts(node).path, path):
            other = joined(graph.region, facts(node).path) or "the model itself"
            what = f"{path} does not run in one go: {other} computes in between"
            yield Offence(what, facts(node).where, "close a module around both, or leave it out")
            break
    members = _members(nodes, path)
    own = dict(graph.module.get_submodule(path).named_parameters(path, remove_duplicate=False))
    if not members:
        return
    for node in nodes.nodes:
        if node.op == "get_attr" and node.target in own and node not in members:
            readers = [reader for user in node.users for reader in ([*user.users] if _is_mask(user) else [user])]
            reader = next(reader for reader in readers if reader not in members)
            remedy = "close a module around both, or leave it out"
            yield Offence(f"{node.target} is read outside of {path} too", facts(reader).where, remedy)
    names = {id(parameter): name for name, parameter in own.items()}
    for name, parameter in graph.module.named_parameters(remove_duplicate=False):
        if name not in own and id(parameter) in names:
            remedy = "close a module around both, or leave it out"
            yield Offence(f"{names[id(parameter)]} is {name} as well", None, remedy)


def _close(graph: Graph, path: str) -> None:
    module = graph.module
    bodies = [_moved(nodes, path) for nodes in _both(graph) if _span(nodes, path)]
    if not bodies:
        return
    tree = module.get_submodule(path)
    modes = Modes(training=bodies[1] if len(bodies) > 1 else None)
    for target in {str(node.target) for body in bodies for node in body.nodes if _is_mask(node)}:
        fx.GraphModule.add_submodule(tree, target, module.get_submodule(target))  # type: ignore[arg-type]
    module.set_submodule(path, assemble(tree, bodies[0], tree.training, modes))
    read = {node.target for nodes in _both(graph) for node in nodes.nodes if _is_mask(node)}
    for target in [target for target, mask in _masks(module) if target not in read]:
        module.delete_submodule(target)


def _masks(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The masks that a module itself holds."""
    home = module._modules.get(HOME)
    found = [] if home is None else list(home.named_modules(prefix=HOME))
    return [(target, mask) for target, mask in found if isinstance(mask, Mask)]


def _moved(nodes: fx.Graph, path: str) -> fx.Graph:
    """Take out of a graph what a module computes, leave a call of the module there, and return what was taken."""
    members = _members(nodes, path)
    inside = set(members)
    inputs = list(dict.fromkeys(source for node in members for source in node.all_input_nodes if source not in inside))
    outputs = [node for node in members if not inside.issuperset(node.users)]

    body = fx.Graph()
    twins = {node: set_facts(body.placeholder(node.name), facts(node)) for node in inputs}
    for node in members:
        twins[node] = body.node_copy(node, twins.__getitem__)
        if node.op in ("get_attr", "call_module") and not _is_mask(node):
            twins[node].target = str(node.target).removeprefix(f"{path}.")
    body.output(twins[outputs[0]] if len(outputs) == 1 else tuple(twins[node] for node in outputs))

    with nodes.inserting_after(members[-1]):
        call = nodes.call_module(path, tuple(inputs))
        set_facts(call, replace(facts(members[-1]), shape=None, name=None, path=path))
    for index, node in reversed(list(enumerate(outputs))):
        value = call
        if len(outputs) > 1:
            with nodes.inserting_after(call):
                value = nodes.call_function(operator.getitem, (call, index))
        set_facts(value, replace(facts(node), path=path))
        node.replace_all_uses_with(value, delete_user_cb=lambda user: user not in inside and user is not call)
    for node in reversed(members):
        nodes.erase_node(node)
    return body


def _inline(nodes: fx.Graph, call: fx.Node, body: fx.Graph) -> None:
    """Let a graph make the calls that the module makes which it calls."""
    twins: dict[fx.Node, Any] = {}
    given = iter(call.args)
    with nodes.inserting_before(call):
        for node in body.nodes:
            if node.op == "placeholder":
                twins[node] = next(given)
            elif node.op != "output":
                twins[node] = nodes.node_copy(node, twins.__getitem__)
                if node.op in ("get_attr", "call_module") and not _is_mask(node):
                    twins[node].target = f"{call.target}.{node.target}"
    result: Any = fx.map_arg(body.output_node().args[0], twins.__getitem__)
    if isinstance(result, fx.Node):
        call.replace_all_uses_with(result)
    else:
        for part in list(call.users):
            part.replace_all_uses_with(result[part.args[1]])
            nodes.erase_node(part)
    nodes.erase_node(call)
