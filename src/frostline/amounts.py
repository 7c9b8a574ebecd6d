"""What a plan amounts to: the multiply-adds and weights that become binary, the size of its masks and of its file.

A multiply-add is one product of an activation's entry and a weight's, added to a sum, for one sample. Counted are those
of the operations that can turn binary, with the padding of convolutions. Not counted are products of two activations,
as in attention, recurrent layers, look-ups, normalisations, and all that works entry by entry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
from torch import Tensor, fx, nn

from frostline.compiler.bits import is_narrow, words
from frostline.compiler.equations import letters
from frostline.compiler.flow import flow_of
from frostline.compiler.graph import Graph, facts
from frostline.compiler.invariants import mask_nodes
from frostline.compiler.plan import Plan, Turn
from frostline.compiler.products import Product, attribute, products_of
from frostline.compiler.rearrangements import called, root_of
from frostline.compiler.sites import Operand, Site
from frostline.program import Program

_FUNCTIONS, _NARROW, _CALL, _OPERATION, _ATTENTION = 2500, 1050, 250, 120, 3400
"""Bytes of a file beside its tensors, as measured: its functions and the head; the function of narrow convolutions;
each call; what each binary operation and its proof take besides; and each attention, which is written in many plain
operations."""


@dataclass(frozen=True)
class Reading:
    """An operand of an operation: its site, and how that turns, or why it stays float."""

    name: str
    site: Site
    turn: Turn | None
    why: str


@dataclass(frozen=True)
class Work:
    """An operation of the model, with the multiply-adds that it makes for one sample."""

    name: str
    kind: str
    node: tuple[str, str]
    """The region of the graph, and the name of its node there."""
    depth: int
    roles: tuple[str, ...]
    activation: Reading
    weight: Reading
    multiply_adds: int

    @property
    def binary(self) -> bool:
        """Whether both operands turn binary, so that its multiply-adds are made on bits."""
        return self.activation.turn is not None and self.weight.turn is not None

    @property
    def where(self) -> str | None:
        return self.activation.site.where


@dataclass(frozen=True)
class Amounts:
    """All operations of a program, in the order of their depth, and the bytes of the file that it will be."""

    works: tuple[Work, ...]
    plan: Plan
    file_bytes: int
    """An estimate, from what packing and folding do to such tensors: tests hold it to 10 % of exported files."""
    float_bytes: int
    """The same file with float32 weights."""
    parameters: int
    """The entries of all parameters of the model."""
    regions: tuple[str, ...] = ()
    """The submodules that become a file each, where the model branches on values and cannot be one."""

    @property
    def multiply_adds(self) -> int:
        return sum(work.multiply_adds for work in self.works)

    @property
    def binary_multiply_adds(self) -> int:
        return sum(work.multiply_adds for work in self.works if work.binary)

    @property
    def added(self) -> int:
        """The multiply-adds of float activations and binary weights, which need no product, but sums of floats."""
        halves = (work for work in self.works if work.weight.turn is not None and not work.binary)
        return sum(work.multiply_adds for work in halves)

    @cached_property
    def binary_weights(self) -> int:
        """The entries of the weights that become one bit each."""
        return sum(math.prod(turn.site.shape) for turn in self.plan.turns if turn.site.kind == "weight")

    def __str__(self) -> str:
        on_bits, added = share(self.binary_multiply_adds, self.multiply_adds), share(self.added, self.multiply_adds)
        rows = [
            ("multiply-adds", f"{self.multiply_adds:,} a sample, {on_bits} of them on bits"),
            ("", f"{added} with binary weights, on float activations"),
            ("parameters", f"{self.parameters:,}, {share(self.binary_weights, self.parameters)} of them one bit each"),
            ("file", f"about {size(self.file_bytes)}; with float32 weights {size(self.float_bytes)}"),
        ]
        rows = [row for row in rows if row[0] or self.added]
        if self.regions:
            rows.append(("", f"in {len(self.regions)} files, one for each region: {', '.join(self.regions)}"))
            rows.append(("", "the model branches on values, and cannot be one (`frostline doctor` says where)"))
        return "\n".join(f"{name:<13}  {text}" for name, text in rows)


def amounts(program: Program) -> Amounts:
    """What the plan of a program amounts to. Nothing is run."""
    parts = [_part_of(part) for part in program.graph.parts()]
    works = tuple(sorted(_works(program, parts), key=lambda work: work.depth))
    weights = {turn.site.name: turn for work in works if (turn := work.weight.turn) is not None}.values()
    tensors = sum(map(_float_tensors, parts))
    graph = _FUNCTIONS + sum(map(_calls, parts)) + _OPERATION * sum(work.weight.turn is not None for work in works)
    parameters = sum(parameter.numel() for parameter in program.model.parameters())
    floats = sum(4 * math.prod(turn.site.shape) for turn in weights)
    products = {(part.graph.region, node.name): each for part in parts for node, each in part.products.items()}
    narrow = {
        turn.site.name
        for work in works
        if (turn := work.weight.turn) is not None and is_narrow(turn.site.shape, products[work.node].groups)
    }
    graph += _NARROW * bool(narrow)
    file_bytes = tensors + sum(_packed(turn, turn.site.name in narrow) for turn in weights) + graph
    float_bytes = tensors + floats + graph
    return Amounts(works, program.plan, file_bytes, float_bytes, parameters, program.graph.separate_regions)


def share(part: int, whole: int) -> str:
    """A share, which is 0 % and 100 % only where it is.

    >>> share(999_999, 1_000_000), share(1, 3), share(0, 5), share(5, 5)
    ('>99.9 %', '33.3 %', '0 %', '100 %')
    """
    if part in (0, whole):
        return "100 %" if part else "0 %"
    percent = 100 * part / whole
    return "<0.1 %" if percent < 0.1 else ">99.9 %" if percent > 99.9 else f"{percent:.1f} %"


def size(count: int) -> str:
    """A number of bytes with three digits, in powers of 1000.

    >>> size(312), size(33_769), size(94_123_456)
    ('312 B', '33.8 kB', '94.1 MB')
    """
    return f"{rounded(count, ' ')}B"


def rounded(count: int, before: str = " ") -> str:
    """A number with three digits.

    >>> rounded(312), rounded(33_769), rounded(4_089_184_256)
    ('312 ', '33.8 k', '4.09 G')
    """
    value, units = float(count), ["", "k", "M", "G", "T", "P"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    text = f"{value:.0f}" if units[0] == "" or value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
    return f"{text}{before}{units[0]}"


@dataclass(frozen=True)
class _Part:
    """A graph of the program, with what is read of it when the masked weights are bits."""

    graph: Graph
    products: Mapping[fx.Node, Product]
    masks: Set[fx.Node]
    kept: Set[fx.Node]


def _part_of(graph: Graph) -> _Part:
    products = {product.node: product for product in products_of(graph)}
    masks = {node for node, _ in mask_nodes(graph)}
    weights = masks & {root_of(product.weight) for product in products.values()}
    between = flow_of(graph).between
    between.remove_edges_from([edge for node in weights for edge in between.in_edges(node)])
    output = next(node for node in graph.nodes if node.op == "output")
    return _Part(graph, products, masks, {output, *nx.ancestors(between, output)})


def _works(program: Program, parts: Sequence[_Part]) -> Iterator[Work]:
    turns = {operand.key: turn for turn in program.plan.turns for operand in turn.site.operands}
    kept = {one.name: one.why for one in program.plan.kept_float}
    own = {(part.graph.region, node.name): (part, product) for part in parts for node, product in part.products.items()}
    readings: dict[str, dict[str, tuple[Reading, Operand]]] = {}
    for site in program.sites:
        for operand in site.operands:
            turn = turns.get(operand.key)
            reading = Reading(operand.name, site, turn, "" if turn else kept.get(operand.name, ""))
            readings.setdefault(operand.operation, {})[operand.argument] = reading, operand
    for name, both in readings.items():
        (activation, operand), (weight, _) = both["input"], both["weight"]
        node = activation.site.region, operand.node
        part, product = own[node]
        depth = operand.depths.by(program.plan.spec.progression.depth)
        count = _multiply_adds(product) // (part.graph.example.batch_size() or 1)
        yield Work(name, product.operation.name, node, depth, operand.roles, activation, weight, count)


def _multiply_adds(product: Product) -> int:
    """The multiply-adds of a product for the example inputs: its results, times the entries that each sums over."""
    results, activation, weight = (
        facts(node).shape or () for node in (product.node, product.activation, product.weight)
    )
    operation = product.operation
    if operation.spatial:
        entries = activation if operation.name.startswith("conv_transpose") else results
        return math.prod(entries) * math.prod(weight[1:])
    if product.roles.channels is not None:
        return math.prod(results) * activation[product.roles.channels]
    arguments = operation.bind(product.node)
    shapes = [facts(arguments[name]).shape or () for name in ("first", "second")]
    terms, _ = letters(str(arguments["equation"]), (len(shapes[0]), len(shapes[1])))
    sizes = {
        letter: size
        for term, shape in zip(terms, shapes, strict=True)
        for letter, size in zip(term, shape, strict=True)
    }
    return math.prod(sizes.values())


def _packed(turn: Turn, narrow: bool) -> int:
    """The bytes of a packed weight and its scale: the entries that one sum reads at one place fill whole words, and
    those of a narrow one fill one row."""
    shape, axis = turn.site.shape, turn.site.channel
    summed = shape[1] if axis != 1 else shape[0]
    scale = 4 * shape[axis] + _CALL if turn.scale == "channel" and axis is not None else 0
    if narrow:
        return 4 * words(math.prod(shape)) + scale
    return math.prod(shape) // summed * 4 * words(summed) + scale


def _calls(part: _Part) -> int:
    """The bytes of the calls that a file still makes, without the masks of weights."""
    weights = {root_of(product.weight) for product in part.products.values()} & part.masks
    calls = [node for node in part.kept - weights if node.op.startswith("call")]
    attentions = sum(called(node) == "scaled_dot_product_attention" for node in calls)
    return _CALL * len(calls) + _ATTENTION * attentions


def _float_tensors(part: _Part) -> int:
    """The bytes of what the file holds beside bits: parameters, buffers, and what becomes of BatchNorm."""
    total, seen = 0, set[int]()
    for node in part.graph.nodes:
        tensors: list[Tensor] = []
        if node not in part.kept or node in part.masks:
            continue
        if node.op == "call_module":
            module = part.graph.module.get_submodule(str(node.target))
            tensors += [*module.parameters(), *(each for each in module.buffers() if each.is_floating_point())]
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and _reads_integers(node, part):
                tensors = tensors[:2]  # thresholds, or a factor and a summand
        elif node.op == "get_attr":
            tensors.append(attribute(part.graph, node))
        total += sum(tensor.numel() * tensor.element_size() for tensor in tensors if id(tensor) not in seen)
        seen.update(map(id, tensors))
    return total


def _reads_integers(node: fx.Node, part: _Part) -> bool:
    product = part.products.get(node.all_input_nodes[0])
    return product is not None and {product.activation, root_of(product.weight)} <= part.masks
