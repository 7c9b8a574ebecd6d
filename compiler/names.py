"""The names that users know operations and weights by: paths of modules and parameters, never names of nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from torch import fx

from frostline.compiler.graph import Graph, facts
from frostline.compiler.products import Product, above, held_parameters
from frostline.compiler.rearrangements import root_of
from frostline.compiler.structure import structures

_PARAMETRIZED = re.compile(r"(?P<owner>(?:.*\.)?)parametrizations\.(?P<name>\w+)\.(?:original\d*|\d+\..*)")
_HOOKED = re.compile(r"(?P<owner>(?:.*\.)?)(?P<name>\w+)_(?:g|v|orig)")


class Names:
    """Unique names for the products of a graph and for their weights, in the graph's order."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._region = graph.region
        self._structures = structures(graph)
        self._aliases: dict[int, list[str]] = {}
        for name, parameter in graph.module.named_parameters(remove_duplicate=False):
            self._aliases.setdefault(id(parameter), []).append(name)
        state = graph.module.state_dict(keep_vars=True)
        self._taken = {*state, *(name for name, _ in graph.module.named_modules())}
        self._operations: set[str] = set()
        self._weights: dict[str, int] = {}

    def of(self, product: Product) -> tuple[str, str]:
        """The name of an operation, and that of its weight."""
        root = root_of(product.weight)
        possible = self._possible(root)
        path = facts(product.node).path
        inner = _operation_name(path, possible)
        name = (
            ".".join(filter(None, (self._region, inner))) or product.operation.name
        )  # the model itself is the operation
        free = _free(name)
        unique = next(n for n in free if n not in self._operations and joined(n, "activation") not in self._taken)
        self._operations.add(unique)
        own = joined(inner, "weight")
        weight = joined(self._region, own if own in possible or not possible else possible[0])
        number = self._structures[root]
        return unique, next(name for name in _free(weight) if self._weights.setdefault(name, number) == number)

    def _possible(self, root: fx.Node) -> Sequence[str]:
        """The names of a weight: a parameter's own, or that of the one that a computed weight was made for."""
        made_of = dict(held_parameters(self._graph, above(root)))
        if root.op == "get_attr":
            return self._aliases[id(made_of[str(root.target)])]
        meant = list(dict.fromkeys(_meant(name, made_of) for name in made_of))
        return meant if len(meant) == 1 else []


def joined(path: str, name: str) -> str:
    """A name inside a module, by its whole path."""
    return f"{path}.{name}" if path else name


def _free(name: str) -> Iterable[str]:
    return (name if i == 1 else f"{name}@{i}" for i in count(1))


def _meant(name: str, names: Mapping[str, object]) -> str:
    """`conv.parametrizations.weight.original0`, `conv.weight_g` -> `conv.weight`; other names are what they are."""
    found = _PARAMETRIZED.fullmatch(name) or _HOOKED.fullmatch(name)
    return f"{found['owner']}{found['name']}" if found else name


def _operation_name(path: str, weights: Sequence[str]) -> str:
    """What users call an operation: the module that runs it, if the weight is its own; else the weight's owner."""
    if not weights or joined(path, "weight") in weights:
        return path
    inside = [weight for weight in weights if weight.startswith(f"{path}." if path else "")]
    return re.sub(r"(^|[._])weight$", "", (inside or weights)[0])
