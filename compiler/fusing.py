"""Puts the nodes of an exported file together into what the library of kernels does at once.

A file holds operators that every runtime knows. Where the library is at hand, a product takes the float in front of its
`Binarize`, or bits, and gives what its integers become: bits by thresholds, or a factor, a term and a sum. Bits flow
from product to product where nothing between reads floats. What is computed is the same, operation by operation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from frostline.compiler.bit_pooling import BitPooling, groups_of, pools_signs, takes_bits
from frostline.compiler.exported import DOMAIN, attributes, compares, copied, reads, same_but_for_ones, site_in
from frostline.compiler.places import Places

_PRODUCTS = {"BinaryConv": "Conv", "BinaryLinear": "Linear"}


def fuse(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in the library's operators, for a session in which they are registered."""
    fused = copied(model)
    _take_apart(fused)
    places = Places(fused)
    _Fusion(places, BitPooling(places)).run()
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
    """The products of one model, put together with what stands around them."""

    places: Places
    pooling: BitPooling

    def run(self) -> None:
        """Put together what can be, in the order of the file, and write it."""
        products: dict[int, _Fused] = {}
        packs: dict[int, list[onnx.NodeProto]] = {}
        for place, node in enumerate(list(self.places.nodes)):
            if node is not None and node.domain == DOMAIN and node.op_type in _PRODUCTS:
                products[place] = self._ends(_Fused(node, place, node.input[0], floats=node.output[0]))
        by_result = {one.floats: one for one in products.values() if one.floats}
        bits = {one.bits for one in products.values() if one.bits}
        for one in products.values():
            if one.x in bits or one.x in self.pooling.given:
                one.packed = True
                continue
            site = self.places.maker(one.x)
            if site is None or (site.domain, site.op_type) != (DOMAIN, "Binarize"):
                continue
            source, name = self._unclipped(site.input[0]), f"{one.x}/{'bits' if one.conv else 'rows'}"
            maker = by_result.get(source)
            if not takes_bits(one.node):
                one.x = source
            elif maker is not None and maker.conv == one.conv and self._gives_bits(maker):
                maker.bits = maker.bits or name  # another site may read the same value
                one.x, one.packed = maker.bits, True
            elif len(self.places.readers[one.x]) > 1:
                self._pack(packs, self.places.makers[one.x], source, name, one)
                one.x, one.packed = name, True
            else:
                one.x = source
        self._write(products, packs)

    def _ends(self, one: _Fused) -> _Fused:
        """What the integers of a product become, as far as it can be put together with it."""
        node = self.places.only_reader(one.floats)
        pool = node if node is not None and node.op_type == "MaxPool" and one.conv and pools_signs(node) else None
        if pool is not None:
            node = self.places.only_reader(pool.output[0])
        if node is not None and node.op_type == "BinarizeAt" and self._is_one_each(node.input[1:3], one):
            pools = self.pooling.behind(node.output[0], one.node.op_type)
            if pools is not None and self._gives_bits(one):
                if pool is None:
                    self._absorb(one, node)
                    one.thresholds, one.floats, one.bits = (node.input[1], node.input[2]), "", node.output[0]
                else:
                    one.thresholds = node.input[1], self._filled(one, "rising", 1.0)
                    one.floats, one.bits = "", f"{one.floats}/bits"
                    self.pooling.binarize_before(pool, node, one.bits)
                for place in pools:
                    self.pooling.pool_bits(place)
            return one
        self._absorb_constant(one, "Mul", 0)
        self._absorb_constant(one, "Add", 1)
        if one.scale[0] and not one.scale[1]:
            one.scale = one.scale[0], self._filled(one, "zeros", -0.0)
        adding = self.places.only_reader(one.floats)
        if adding is not None and adding.op_type == "Add":
            other = _other(adding, one.floats)
            shapes = [self.places.shapes.get(name) for name in (other, one.floats, adding.output[0])]
            if shapes[0] is not None and shapes.count(shapes[0]) == 3 and other not in self.places.held:
                self._absorb(one, adding)
                one.residual, one.floats = other, adding.output[0]
        clip = self.places.only_reader(one.floats)
        if clip is not None and clip.op_type == "Clip":
            limits = [self.places.number(name) for name in (*clip.input[1:], "", "")[:2]]
            if None not in limits:
                self._absorb(one, clip)
                one.limits = self.places.hold(f"{one.node.output[0]}/limits", np.array(limits, np.float32))
                one.floats = clip.output[0]
        return one

    def _unclipped(self, name: str) -> str:
        """The value that a name is clipped from, where clipping changes no sign."""
        while (maker := self.places.maker(name)) is not None and maker.op_type == "Clip":
            low, high = (self.places.number(limit) for limit in (*maker.input[1:], "", "")[:2])
            if low is None or high is None or not low < 0 <= high:
                break
            name = maker.input[0]
        return name

    def _absorb_constant(self, one: _Fused, kind: str, place: int) -> None:
        """A factor or a term with one entry a channel, where the next node is one."""
        node = self.places.only_reader(one.floats)
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
        array = np.full(self.places.held[one.node.input[1]].dims[0], value, np.float32)
        return self.places.hold(f"{one.node.output[0]}/{name}", array)

    def _absorb(self, one: _Fused, node: onnx.NodeProto) -> None:
        place = self.places.makers[node.output[0]]
        one.last, self.places.nodes[place] = max(one.last, place), None

    def _is_one_each(self, names: list[str] | tuple[str, ...], one: _Fused) -> bool:
        """Whether each is a constant with one entry a channel, along the channels."""
        outputs = self.places.held[one.node.input[1]].dims[0] if one.node.input[1] in self.places.held else -1
        axes = len(attributes(one.node)["kernel_shape"]) if one.conv else 0
        wanted = [outputs] + [1] * axes
        rank = len(self.places.shapes.get(one.node.output[0]) or wanted)
        return all(
            name in self.places.held
            and len(self.places.held[name].dims) <= rank
            and same_but_for_ones(self.places.held[name].dims, wanted)
            for name in names
        )

    def _gives_bits(self, one: _Fused) -> bool:
        groups = groups_of(one.node)
        return groups == 1 or self.places.held[one.node.input[1]].dims[0] // groups % 32 == 0

    def _pack(self, packs: dict[int, list[onnx.NodeProto]], place: int, source: str, name: str, one: _Fused) -> None:
        """Bits of a value that several products read."""
        there = packs.setdefault(place, [])
        if not any(name in node.output for node in there):
            there.append(helper.make_node("Pack", [source], [name], name, domain=DOMAIN, rows=int(not one.conv)))

    def _write(self, products: dict[int, _Fused], packs: dict[int, list[onnx.NodeProto]]) -> None:
        written = {one.last: one.written() for one in products.values()}
        for place in products:
            self.places.nodes[place] = None
        found: list[onnx.NodeProto] = []
        for place, node in enumerate(self.places.nodes):
            found += [*packs.get(place, []), *([node] if node is not None else [])]
            found += [written[place]] if place in written else []
        graph = self.places.model.graph
        del graph.node[:]
        graph.node.extend(_read(found, self.places.outputs))
        there = {name for node in graph.node for name in node.output}
        infos = [value for value in graph.value_info if value.name in there]
        bits = {one.bits for one in products.values()} | self.pooling.given
        del graph.value_info[:]
        graph.value_info.extend(value for value in infos if value.name not in bits)


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
