"""Max poolings of signs, and of integers before they become signs, give in bits what the files give."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch import nn

from frostline.compiler import bits as packing
from frostline.compiler.exported import DOMAIN
from frostline.compiler.fusing import fuse
from frostline.passes.lowering.functions import functions
from tests.compiler.fused import computes_the_same, gives_what_the_file_gives, kinds, results
from tests.compiler.kernels.signs import signs
from tests.models.integers import Pooled, Residual, conv

NETWORKS: list[tuple[Callable[[], nn.Module], tuple[int, ...], list[str], list[str]]] = [
    (
        Residual,
        (8, 6, 6),
        [],
        ["Pack", "PackedConv", "PackedConv", "BinarizeAt", "FusedConv", "PoolBits", "PackedConv"],
    ),
    (lambda: conv(nn.BatchNorm2d(8), nn.MaxPool2d(2)), (4, 9, 9), [], ["FusedConv", "PoolBits", "PackedConv"]),
    (lambda: conv(nn.MaxPool2d(2), nn.BatchNorm2d(8)), (4, 9, 9), [], ["FusedConv", "PoolBits", "PackedConv"]),
    (Pooled, (4, 11, 9), [], ["FusedConv", "PoolBits", "PoolBits", "PackedConv", "PackedConv"]),
]


@pytest.mark.parametrize(("make", "shape", "keep", "fused"), NETWORKS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_pooled_in_bits_computes_the_same(
    make: Callable[[], nn.Module], shape: tuple[int, ...], keep: list[str], fused: list[str], tmp_path: Path
) -> None:
    computes_the_same(make, shape, keep, fused, tmp_path / "m.onnx")


BY_HAND: dict[str, tuple[str, str]] = {
    **{
        f"a pooling {what}": (
            f"(float[n, 8, h, w] x) => (float[n, 8, u, v] y{', float[n, 8, u, v] d' if kept else ''})",
            f"c = frostline.BinarizeAt(p, thresholds, high) d = MaxPool<{window}>(c) y = CONV(d, v)",
        )
        for what, window, kept in (
            ("of whole windows", "kernel_shape = [2, 2]", False),
            ("that pads", "kernel_shape = [3, 2], strides = [2, 1], pads = [2, 0, 1, 1]", False),
            ("that leaves room between what it takes", "kernel_shape = [2, 2], dilations = [2, 1]", False),
            ("that rounds its size up", "kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1", False),
            ("that pads by itself", 'kernel_shape = [2, 2], auto_pad = "SAME_LOWER"', False),
            ("that is given", "kernel_shape = [2, 2]", True),
        )
    },
    **{
        f"integers that are pooled{what}": (
            f"(float[n, 8, h, w] x) => (float[n, 8, u, v] y{', float[n, 8, h, w] p' if kept else ''})",
            f"d = MaxPool<{window}>(p) c = frostline.BinarizeAt(d, thresholds, high) y = CONV(c, v)",
        )
        for what, window, kept in (
            ("", "kernel_shape = [3, 2], strides = [2, 1], pads = [2, 0, 1, 1]", False),
            (" and rounded up in size", "kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1", False),
            (", and given", "kernel_shape = [2, 2]", True),
        )
    },
    "a pooling that says which": (
        "(float[n, 8, h, w] x) => (float[n, 8, u, v] y, int64[n, 8, u, v] e)",
        """c = frostline.BinarizeAt(p, thresholds, high) d, e = MaxPool<kernel_shape = [2, 2]>(c)
           y = CONV(d, v)""",
    ),
}


@pytest.mark.parametrize(("signature", "body"), BY_HAND.values(), ids=BY_HAND)
def test_nodes_that_look_as_if_they_could_be_pooled_in_bits(signature: str, body: str, tmp_path: Path) -> None:
    gives_what_the_file_gives(signature, body, tmp_path / "m.onnx")


@settings(max_examples=40, deadline=None)
@given(data=st.data(), axes=st.integers(1, 3))
def test_poolings_of_bits_over_any_window(
    data: st.DataObject, axes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kernel = data.draw(st.lists(st.integers(1, 3), min_size=axes, max_size=axes))
    strides = data.draw(st.lists(st.integers(1, 3), min_size=axes, max_size=axes))
    pads = [data.draw(st.integers(0, size - 1)) for size in (*kernel, *kernel)]
    sizes = [data.draw(st.integers(size, 5)) for size in kernel]
    batch, channels = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 31, 32, 33, 70]))
    ones: dict[str, Any] = {
        "kernel_shape": [1] * axes,
        "strides": [1] * axes,
        "pads": [0] * 2 * axes,
        "dilations": [1] * axes,
        "group": 1,
    }

    def product(*names: str) -> onnx.NodeProto:
        node = helper.make_node("BinaryConv", names[:2], names[2:], domain=DOMAIN, **ones)
        node.attribute.append(helper.make_attribute("inputs", [channels]))
        return node

    pool = partial(helper.make_node, "MaxPool", kernel_shape=kernel, strides=strides, pads=pads)
    at = partial(helper.make_node, "BinarizeAt", domain=DOMAIN)
    nodes = [helper.make_node("Binarize", ["x"], ["a"], domain=DOMAIN), product("a", "w", "p")]
    if data.draw(st.booleans(), "signs are pooled"):
        nodes += [at(["p", "thresholds", "high"], ["b"]), pool(["b"], ["c"])]
    else:
        nodes += [pool(["p"], ["b"]), at(["b", "thresholds", "high"], ["c"])]
    nodes.append(product("c", "v", "y"))
    each = (channels, *[1] * axes)
    high = signs(*each, seed=3).numpy()
    held = {
        "w": packing.pack(signs(channels, channels, *[1] * axes)).numpy(),
        "v": packing.pack(signs(channels, channels, *[1] * axes, seed=5)).numpy(),
        "thresholds": np.zeros(each, np.float32),
        "high": high,
    }
    value = partial(helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", shape=[batch, channels, *sizes])],
        [value("y", shape=[batch, channels, *"uvw"[:axes]])],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    made = [functions()[name] for name in ("BinarizeAt", "Binarize", "BinaryConv")]
    model = helper.make_model(graph, opset_imports=opsets, functions=made, ir_version=10)
    assert kinds(fuse(model)) == ["FusedConv", "PoolBits", "PackedConv"]
    path = tmp_path_factory.mktemp("pool") / "m.onnx"
    onnx.save(model, path)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(batch, channels, *sizes)).astype(np.float32))
    stock, own = (results(path, x, kernels=kernels) for kernels in (False, True))
    assert np.array_equal(own[0], stock[0])
