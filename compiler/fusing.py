"""Puts the nodes of an exported file together into what the library of kernels does at once.

A file holds operators that every runtime knows. Where the library is at hand, a product takes the float in front of its
`Binarize`, or bits, and gives what its integers become: bits by thresholds, or a factor, a term and a sum. Bits flow
from product to product where nothing between reads floats. What is computed is the same, operation by operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from frostline.compiler import bits as packing
from frostline.compiler.exported import DOMAIN, attributes, compares, copied, reads, site_in

_PRODUCTS = {"BinaryConv": "Conv", "BinaryLinear": "Linear"}


def fuse(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in the library's operators, for a session in which they are registered."""
    fused = copied(model)
    _take_apart(fused)
    _Fusion(fused).run()
    return fused


def _take_apart(model: onnx.ModelProto) -> None:
    """BinaryConvBinarizeAt -> BinaryConv, BinarizeAt: a convolution that compares its own sums has no operator in the
    library, and its parts have."""
    functions = {function.name for function in model.functions}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        site = node.op_type.removeprefix("BinaryConv")
        if node.domain != DOMAIN or not compares(node) or site != site_in(node) or site not in functions:
            nodes.append(node)
            continue
        sums, own = f"{node.output[0]}/sums", ("site", "operation")
        product = helper.make_node("BinaryConv", node.input[:2], [sums], node.name, domain=DOMAIN)
        product.attribute.extend(each for each in node.attribute if each.name not in own)
        name = attributes(node)["site"]
        nodes += [product, helper.make_node(site, [sums, *node.input[2:]], node.output, site=name, domain=DOMAIN)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@dataclass
class _Fused:
    """A product with what was put together with it. Names are those of the file; "" is nothing."""

    node: onnx.NodeProto
    last: int
    """The place of the last of its nodes: everything that it reads is there by then."""
    x: str
    packed: bool = False
    thresholds: tuple[str, str] = ("", "")
    scale: tuple[str, str] = ("", "")
    limits: str = ""
    residual: str = ""
    floats: str = ""
    bits: str = ""

    @property
    def conv(self) -> bool:
        return self.node.op_type == "BinaryConv"

    def written(self) -> onnx.NodeProto:
        kind = ("Packed" if self.packed else "Fused") + _PRODUCTS[self.node.op_type]
        inputs = [self.x, self.node.input[1], *self.thresholds, *self.scale, self.limits, self.residual]
        while not inputs[-1]:
            inputs.pop()
        outputs = [self.floats, self.bits] if self.bits else [self.floats]
        node = helper.make_node(kind, inputs, outputs, self.node.name, domain=DOMAIN)
        node.attribute.extend(a for a in self.node.attribute if a.name != "site")
        return node


@dataclass
class _Fusion:
    """One model's nodes, by place; what is put together elsewhere becomes None."""

    model: onnx.ModelProto
    nodes: list[onnx.NodeProto | None] = field(init=False)
    makers: dict[str, int] = field(init=False)
    readers: dict[str, list[int]] = field(init=False)
    outputs: set[str] = field(init=False)
    held: dict[str, onnx.TensorProto] = field(init=False)
    shapes: dict[str, list[int | str] | None] = field(init=False)
    pooled: set[str] = field(default_factory=set)
    """The bits that poolings give."""

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.nodes = list(graph.node)
        self.makers = {name: place for place, node in enumerate(graph.node) for name in node.output}
        self.readers = {}
        for place, node in enumerate(graph.node):
            for name in reads(node):
                self.readers.setdefault(name, []).append(place)
        self.outputs = {value.name for value in graph.output}
        given = {value.name for value in graph.input}
        self.held = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in given}
        self.shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}

    def run(self) -> None:
        """Put together what can be, in the order of the file, and write it."""
        products: dict[int, _Fused] = {}
        packs: dict[int, list[onnx.NodeProto]] = {}
        for place, node in enumerate(list(self.nodes)):
            if node is not None and node.domain == DOMAIN and node.op_type in _PRODUCTS:
                products[place] = self._ends(_Fused(node, place, node.input[0], floats=node.output[0]))
        by_result = {one.floats: one for one in products.values() if one.floats}
        bits = {one.bits for one in products.values() if one.bits}
        for one in products.values():
            if one.x in bits or one.x in self.pooled:
                one.packed = True
                continue
            site = self._node(self.makers.get(one.x), "Binarize")
            if site is None:
                continue
            source, name = self._unclipped(site.input[0]), f"{one.x}/{'bits' if one.conv else 'rows'}"
            maker = by_result.get(source)
            if not _takes_bits(one.node):
                one.x = source
            elif maker is not None and maker.conv == one.conv and self._gives_bits(maker):
                maker.bits = maker.bits or name  # another site may read the same value
                one.x, one.packed = maker.bits, True
            elif len(self.readers[one.x]) > 1:
                self._pack(packs, self.makers[one.x], source, name, one)
                one.x, one.packed = name, True
            else:
                one.x = source
        self._write(products, packs)

    def _ends(self, one: _Fused) -> _Fused:
        """What the integers of a product become, as far as it can be put together with it."""
        node = self._only_reader(one.floats)
        pool = node if node is not None and node.op_type == "MaxPool" and one.conv and _pools_signs(node) else None
        if pool is not None:
            node = self._only_reader(pool.output[0])
        if node is not None and node.op_type == "BinarizeAt" and self._is_one_each(node.input[1:3], one):
            pools = self._pools_behind(node.output[0], one.node.op_type)
            if pools is not None and self._gives_bits(one):
                if pool is None:
                    self._absorb(one, node)
                    one.thresholds, one.floats, one.bits = (node.input[1], node.input[2]), "", node.output[0]
                else:
                    self._binarize_before(pool, one, node)
                for place in pools:
                    self._pool_bits(place)
            return one
        self._absorb_constant(one, "Mul", 0)
        self._absorb_constant(one, "Add", 1)
        if one.scale[0] and not one.scale[1]:
            one.scale = one.scale[0], self._filled(one, "zeros", -0.0)
        adding = self._only_reader(one.floats)
        if adding is not None and adding.op_type == "Add":
            other = _other(adding, one.floats)
            shapes = [self.shapes.get(name) for name in (other, one.floats, adding.output[0])]
            if shapes[0] is not None and shapes.count(shapes[0]) == 3 and other not in self.held:
                self._absorb(one, adding)
                one.residual, one.floats = other, adding.output[0]
        clip = self._only_reader(one.floats)
        if clip is not None and clip.op_type == "Clip":
            limits = [self._number(name) for name in (*clip.input[1:], "", "")[:2]]
            if None not in limits:
                self._absorb(one, clip)
                one.limits = self._hold(f"{one.node.output[0]}/limits", np.array(limits, np.float32))
                one.floats = clip.output[0]
        return one

    def _pools_behind(self, name: str, kind: str) -> list[int] | None:
        """The places of the max poolings that signs go through on their way to products of one kind; None where
        anything else reads them."""
        places = self.readers.get(name, [])
        if not places or name in self.outputs:
            return None
        found: list[int] = []
        for place in places:
            reader = self.nodes[place]
            if reader is not None and reader.op_type == "MaxPool" and kind == "BinaryConv" and _pools_signs(reader):
                behind = self._pools_behind(reader.output[0], kind)
                if behind is None:
                    return None
                found += [place, *behind]
            elif (product := self._fusable(place)) is None or product.op_type != kind or not _takes_bits(product):
                return None
        return found

    def _binarize_before(self, pool: onnx.NodeProto, one: _Fused, site: onnx.NodeProto) -> None:
        """A site behind a pooling of integers. The largest integer reaches a threshold where one of them does, so bits
        are pooled as if they were high from there on; where they are low from there on, they are turned after it."""
        high = numpy_helper.to_array(self.held[site.input[2]]).reshape(1, -1)
        flips = packing.pack(torch.from_numpy(np.where(high < 0, 1, -1).astype(np.float32))).numpy()[0]
        one.thresholds = site.input[1], self._filled(one, "rising", 1.0)
        one.floats, one.bits = "", f"{one.floats}/bits"
        turned = self._hold(f"{site.output[0]}/flips", flips)
        self.nodes[self.makers[pool.output[0]]] = None
        self._write_pool(pool, self.makers[site.output[0]], [one.bits, turned], site.output[0])

    def _pool_bits(self, place: int) -> None:
        node = self.nodes[place]
        assert node is not None
        self._write_pool(node, place, [node.input[0]], node.output[0])

    def _write_pool(self, pool: onnx.NodeProto, place: int, inputs: list[str], output: str) -> None:
        given = attributes(pool)
        kernel = given["kernel_shape"]
        pads, strides = given.get("pads", [0] * 2 * len(kernel)), given.get("strides", [1] * len(kernel))
        window = {"kernel_shape": kernel, "strides": strides, "pads": pads}
        self.nodes[place] = helper.make_node("PoolBits", inputs, [output], pool.name, domain=DOMAIN, **window)
        self.pooled.add(output)

    def _unclipped(self, name: str) -> str:
        """The value that a name is clipped from, where clipping changes no sign."""
        while (maker := self._maker(name)) is not None and maker.op_type == "Clip":
            low, high = (self._number(limit) for limit in (*maker.input[1:], "", "")[:2])
            if low is None or high is None or not low < 0 <= high:
                break
            name = maker.input[0]
        return name

    def _number(self, name: str) -> float | None:
        """The number that a name stands for, where it is a constant of type float."""
        while (maker := self._maker(name)) is not None and (
            maker.op_type == "CastLike"
            or (maker.op_type == "Cast" and attributes(maker)["to"] == onnx.TensorProto.FLOAT)
        ):
            name = maker.input[0]
        if maker is not None and maker.op_type == "Constant":
            value = next(iter(attributes(maker).values()))
            array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.array(value)
        elif name in self.held:
            array = numpy_helper.to_array(self.held[name])
        else:
            return None
        return float(array) if array.size == 1 and array.dtype.kind == "f" else None

    def _absorb_constant(self, one: _Fused, kind: str, place: int) -> None:
        """A factor or a term with one entry a channel, where the next node is one."""
        node = self._only_reader(one.floats)
        if node is None or node.op_type != kind:
            return
        constant = _other(node, one.floats)
        if self._is_one_each([constant], one):
            self._absorb(one, node)
            given = [*one.scale]
            given[place] = constant
            one.scale = given[0] or self._filled(one, "ones", 1.0), given[1]
            one.floats = node.output[0]

    def _filled(self, one: _Fused, name: str, value: float) -> str:
        """A factor or term that changes nothing: x * 1 is x, and so is x + -0, also where x is -0."""
        array = np.full(self.held[one.node.input[1]].dims[0], value, np.float32)
        return self._hold(f"{one.node.output[0]}/{name}", array)

    def _hold(self, name: str, array: np.ndarray[Any, Any]) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _absorb(self, one: _Fused, node: onnx.NodeProto) -> None:
        place = self.makers[node.output[0]]
        one.last, self.nodes[place] = max(one.last, place), None

    def _maker(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a value, where it is one whose meaning is known."""
        node = self.nodes[self.makers[name]] if name in self.makers else None
        return node if node is not None and node.domain in ("", DOMAIN) else None

    def _only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that alone reads a value, where it is one whose meaning is known."""
        places = self.readers.get(name, [])
        node = self.nodes[places[0]] if len(places) == 1 and name not in self.outputs else None
        return node if node is not None and node.domain in ("", DOMAIN) else None

    def _node(self, place: int | None, kind: str) -> onnx.NodeProto | None:
        node = self.nodes[place] if place is not None else None
        return node if node is not None and node.op_type == kind and node.domain == DOMAIN else None

    def _fusable(self, place: int) -> onnx.NodeProto | None:
        node = self.nodes[place]
        return node if node is not None and node.domain == DOMAIN and node.op_type in _PRODUCTS else None

    def _is_one_each(self, names: list[str] | tuple[str, ...], one: _Fused) -> bool:
        """Whether each is a constant with one entry a channel, along the channels."""
        outputs = self.held[one.node.input[1]].dims[0] if one.node.input[1] in self.held else -1
        axes = len(attributes(one.node)["kernel_shape"]) if one.conv else 0
        wanted = [outputs] + [1] * axes
        rank = len(self.shapes.get(one.node.output[0]) or wanted)
        return all(
            name in self.held
            and len(self.held[name].dims) <= rank
            and _without_ones(self.held[name].dims, len(wanted)) == wanted
            for name in names
        )

    def _gives_bits(self, one: _Fused) -> bool:
        groups = _groups(one.node)
        return groups == 1 or self.held[one.node.input[1]].dims[0] // groups % 32 == 0

    def _pack(self, packs: dict[int, list[onnx.NodeProto]], place: int, source: str, name: str, one: _Fused) -> None:
        """Bits of a value that several products read."""
        there = packs.setdefault(place, [])
        if not any(name in node.output for node in there):
            there.append(helper.make_node("Pack", [source], [name], name, domain=DOMAIN, rows=int(not one.conv)))

    def _write(self, products: dict[int, _Fused], packs: dict[int, list[onnx.NodeProto]]) -> None:
        written = {one.last: one.written() for one in products.values()}
        for place in products:
            self.nodes[place] = None
        found: list[onnx.NodeProto] = []
        for place, node in enumerate(self.nodes):
            found += [*packs.get(place, []), *([node] if node is not None else [])]
            found += [written[place]] if place in written else []
        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(_read(found, self.outputs))
        there = {name for node in graph.node for name in node.output}
        infos = [value for value in graph.value_info if value.name in there]
        bits = {one.bits for one in products.values()} | self.pooled
        del graph.value_info[:]
        graph.value_info.extend(value for value in infos if value.name not in bits)


def _groups(product: onnx.NodeProto) -> int:
    return int(attributes(product).get("group", 1))


def _takes_bits(product: onnx.NodeProto) -> bool:
    """Whether the channels of every group fill whole words."""
    return _groups(product) == 1 or int(attributes(product)["inputs"][0]) % 32 == 0


def _pools_signs(node: onnx.NodeProto) -> bool:
    """Whether a max pooling of signs is one of bits: every window holds some of them, and its size has one meaning."""
    given = attributes(node)
    kernel = given["kernel_shape"]
    pads = given.get("pads", [0] * 2 * len(kernel))
    return (
        node.domain == ""
        and len(node.output) == 1
        and not given.get("ceil_mode", 0)
        and given.get("auto_pad", b"NOTSET") in (b"NOTSET", "NOTSET")
        and set(given.get("dilations", [1])) == {1}
        and len(kernel) <= 3
        and all(0 <= pad < size for pad, size in zip(pads, [*kernel, *kernel], strict=True))
    )


def _read(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes whose values are read."""
    read, kept = set(outputs), []
    for node in reversed(nodes):
        if read.intersection(node.output):
            read.update(reads(node))
            kept.append(node)
    return kept[::-1]


def _other(node: onnx.NodeProto, name: str) -> str:
    """The other operand of a sum or a product."""
    return str(node.input[1] if node.input[0] == name else node.input[0])


def _without_ones(dims: Iterable[int], rank: int) -> list[int]:
    """A shape without the ones in front that its broadcasting does not need."""
    shape = list(dims)
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return shape


def _shape(value: onnx.ValueInfoProto) -> list[int | str] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim]
    return None if any(d == "" for d in dims) else dims
