"""Turns max poolings of signs into poolings of bits, so that bits stay packed on their way from product to product.

The largest of some signs is +1 where one of them is: a bit that is set where one is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from frostline.compiler import bits as packing
from frostline.compiler.exported import DOMAIN, attributes
from frostline.compiler.places import Places


@dataclass
class BitPooling:
    """The max poolings of one model, and which of them give bits."""

    places: Places
    given: set[str] = field(default_factory=set)
    """The bits that poolings give."""

    def behind(self, name: str, kind: str) -> list[int] | None:
        """The places of the max poolings that signs go through on their way to products of one kind; None where
        anything else reads them."""
        readers = self.places.readers.get(name, [])
        if not readers or name in self.places.outputs:
            return None
        found: list[int] = []
        for place in readers:
            reader = self.places.nodes[place]
            if reader is not None and reader.op_type == "MaxPool" and kind == "BinaryConv" and pools_signs(reader):
                behind = self.behind(reader.output[0], kind)
                if behind is None:
                    return None
                found += [place, *behind]
            elif reader is None or (reader.domain, reader.op_type) != (DOMAIN, kind) or not takes_bits(reader):
                return None
        return found

    def binarize_before(self, pool: onnx.NodeProto, site: onnx.NodeProto, bits: str) -> None:
        """A site behind a pooling of integers. The largest integer reaches a threshold where one of them does, so bits
        are pooled as if they were high from there on; where they are low from there on, they are turned after it."""
        places, signs = self.places, site.output[0]
        high = numpy_helper.to_array(places.held[site.input[2]]).reshape(1, -1)
        flips = packing.pack(torch.from_numpy(np.where(high < 0, 1, -1).astype(np.float32))).numpy()[0]
        turned = places.hold(f"{signs}/flips", flips)
        places.nodes[places.makers[pool.output[0]]] = None
        self._write(pool, places.makers[signs], [bits, turned], signs)

    def pool_bits(self, place: int) -> None:
        """Let a pooling of signs be one of bits."""
        node = self.places.nodes[place]
        assert node is not None
        self._write(node, place, [node.input[0]], node.output[0])

    def _write(self, pool: onnx.NodeProto, place: int, inputs: list[str], output: str) -> None:
        given = attributes(pool)
        kernel = given["kernel_shape"]
        pads, strides = given.get("pads", [0] * 2 * len(kernel)), given.get("strides", [1] * len(kernel))
        window = {"kernel_shape": kernel, "strides": strides, "pads": pads}
        self.places.nodes[place] = helper.make_node("PoolBits", inputs, [output], pool.name, domain=DOMAIN, **window)
        self.given.add(output)


def pools_signs(node: onnx.NodeProto) -> bool:
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


def takes_bits(product: onnx.NodeProto) -> bool:
    """Whether a product can read bits: the channels of every group fill whole words."""
    return groups_of(product) == 1 or int(attributes(product)["inputs"][0]) % 32 == 0


def groups_of(product: onnx.NodeProto) -> int:
    """Into how many parts a product's channels fall, of which none reads another."""
    return int(attributes(product).get("group", 1))
