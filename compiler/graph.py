"""The graph that everything here works on: torch.fx at the level of torch's API, with typed facts on every node."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import fx

from frostline.compiler.net import Net, assemble, duplicate, modes_of, share
from frostline.compiler.tensors import map_tensors, tensors_in

_KEY = "frostline"


@dataclass(frozen=True)
class Facts:
    """What is known of a node.

    `shape` and `dtype` are those of its value for the example inputs (None where the value is no tensor), and `batch`
    the axes whose size follows the batch's. `where` is the user's line that computed it, `path` the module that the
    line belongs to, and `name` the name that users know it by: a site's, or an operation's. `kept` says why an
    operation that could turn binary stays float.
    """

    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    batch: tuple[int, ...] = (0,)
    where: str | None = None
    path: str = ""
    name: str | None = None
    kept: str = ""


def facts(node: fx.Node) -> Facts:
    """The facts of a node; empty ones for a node that has none."""
    known = node.meta.get(_KEY)
    return known if isinstance(known, Facts) else Facts()


def set_facts(node: fx.Node, known: Facts) -> fx.Node:
    """Attach facts to a node, and return it."""
    node.meta[_KEY] = known
    return node


@dataclass(frozen=True)
class Example:
    """The inputs that a model was captured with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def bound(self, module: fx.GraphModule) -> dict[str, Any]:
        """The inputs by the names of a graph's placeholders, defaults filled in, tensors copied.

        Raises TypeError when they are not the arguments that the graph takes.
        """
        arguments = inspect.signature(module.forward).bind(*self.args, **self.kwargs)
        arguments.apply_defaults()
        names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
        copies = map_tensors(list(arguments.arguments.values()), lambda tensor: tensor.detach().clone())
        return dict(zip(names, copies, strict=True))

    def batch_size(self) -> int | None:
        """The size of the first dimension of the first tensor that has one."""
        return next((t.shape[0] for t in tensors_in(self) if t.dim()), None)

    def picked(self, indices: Sequence[int]) -> Example:
        """The same inputs with these samples as the batch; tensors that are not as long as the batch stay whole."""
        own = self.batch_size()

        def pick(tensor: torch.Tensor) -> torch.Tensor:
            if not tensor.dim() or tensor.shape[0] != own:
                return tensor
            return tensor.detach()[torch.as_tensor(indices, device=tensor.device)]

        return self.mapped(pick)

    def copied(self) -> Example:
        """The same inputs in tensors of their own, which a model may change."""
        return self.mapped(lambda tensor: tensor.detach().clone())

    def mapped(self, change: Callable[[torch.Tensor], Any]) -> Example:
        """The same inputs with every tensor in them changed."""
        return Example(*map_tensors((self.args, self.kwargs), change))


@dataclass(frozen=True)
class Graph:
    """A model as a graph: a module that runs, whose nodes carry facts.

    `captured` says by which front end, and what was proven of it. A model that was captured in regions keeps its own
    Python; `regions` are then the paths of the submodules that are graphs, with what they were captured with, and
    `parts()` those graphs. A part knows as `region` where it stands; a module that a graph calls and that is a net, a
    closed one, is a part too. Where a model in regions can be captured whole in eval mode, `evaluating` is that graph,
    over the same parameters: it is what can be shipped.
    """

    module: fx.GraphModule = field(repr=False)
    example: Example = field(repr=False)
    captured: str
    regions: Mapping[str, Example] = field(default_factory=dict, repr=False)
    region: str = ""
    evaluating: Graph | None = field(default=None, repr=False)

    @property
    def nodes(self) -> Iterable[fx.Node]:
        return self.module.graph.nodes

    @property
    def separate_regions(self) -> tuple[str, ...]:
        """The regions that are shipped as files of their own: all, unless eval mode is one graph."""
        return () if self.evaluating else tuple(self.regions)

    def parts(self) -> tuple[Graph, ...]:
        """The graphs that it consists of, in the order in which they run: itself, or its regions; each
        before the closed modules that it calls."""
        if not self.regions:
            return (self, *self._closed())
        modules = {path: self.module.get_submodule(path) for path in self.regions}
        outer = [
            Graph(module, self.regions[path], self.captured, region=path)
            for path, module in modules.items()
            if isinstance(module, fx.GraphModule)
        ]
        return tuple(part for one in outer for part in (one, *one._closed()))

    def _closed(self) -> Iterator[Graph]:
        """The modules that are called and are nets, and those that they call in turn."""
        training = modes_of(self.module).training
        nodes = [*self.nodes, *(() if training is None else training.nodes)]
        for path in dict.fromkeys(str(node.target) for node in nodes if node.op == "call_module"):
            module = self.module.get_submodule(path)
            if isinstance(module, Net):
                part = replace(self, module=module, region=f"{self.region}.{path}" if self.region else path)
                yield from (part, *part._closed())

    def in_training(self) -> Graph | None:
        """The nodes that run in train mode, where they are others than in eval mode."""
        training = modes_of(self.module).training
        if training is None:
            return None
        return replace(self, module=assemble(share(self.module), training, training=True))

    def copy(self) -> Graph:
        """Nodes of its own over the same parameters and buffers."""
        module = self.module
        if self.regions:
            return replace(self, module=cast(fx.GraphModule, share(module)))
        net = assemble(share(module), copy.deepcopy(module.graph), module.training, modes_of(module).copied())
        return replace(self, module=net)

    def snapshot(self) -> Graph:
        """Nodes, parameters and buffers of its own, on the same device."""
        return replace(self, module=duplicate(self.module))

    def show(self) -> str:
        """The graph as stable text, one node a line."""
        return show(self)


def show(graph: Graph) -> str:
    """The graph as stable text, one node a line: value, how it is made, type, the user's line."""
    kind = "region" if graph.regions else "module"
    texts = [(part.region if part is not graph else "", _shown(part)) for part in graph.parts()]
    return "\n\n".join(f"{kind} {region}: {text}" if region else text for region, text in texts)


def _shown(graph: Graph) -> str:
    rows = [(_left(node), _right(node)) for node in graph.nodes]
    wide = max((len(left) for left, _ in rows), default=0)
    lines = [f"{left:<{wide}}  {right}".rstrip() for left, right in rows]
    return "\n".join([f"graph of {len(rows)} nodes, captured by {graph.captured}", *lines])


def _left(node: fx.Node) -> str:
    shown = ", ".join([*map(_value, node.args), *(f"{key}={_value(value)}" for key, value in node.kwargs.items())])
    match node.op:
        case "placeholder":
            return f"%{node.name} = input"
        case "get_attr":
            return f"%{node.name} = {node.target}"
        case "output":
            return f"return {shown}"
        case "call_function":
            target = getattr(node.target, "__name__", str(node.target))
            return f"%{node.name} = {target}({shown})"
    return f"%{node.name} = {'.' if node.op == 'call_method' else ''}{node.target}({shown})"


def _right(node: fx.Node) -> str:
    known = facts(node)
    dtype = str(known.dtype).removeprefix("torch.")
    kind = f"{dtype}{list(known.shape)}" if known.shape is not None else "-"
    return f": {kind:<24} {known.where or ''}"


def _value(value: object) -> str:
    match value:
        case fx.Node():
            return f"%{value.name}"
        case tuple() | list():
            inner = ", ".join(map(_value, value))
            return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
        case dict():
            return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
    return str(value)
