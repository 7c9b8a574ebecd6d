"""Files in the library's operators compute what the files compute, to the bit."""

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
from onnx import helper, numpy_helper, parser
from torch import Tensor, nn

import frostline as fl
from frostline.compiler import bits as packing
from frostline.compiler.exported import DOMAIN
from frostline.compiler.fusing import fuse
from frostline.compiler.kernels import cpu
from frostline.passes.lowering.functions import functions
from tests.compiler.kernels.signs import signs
from tests.models.binary import lowered
from tests.models.integers import BiReal, Flattened, Residual, Shortcut, Tokens, conv
from tests.models.small import chain


class Clipped(nn.Module):
    """Shortcuts around convolutions that read a clipped sum, and a downsampling one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 40, 3, padding=1)
        self.one, self.two = nn.Conv2d(40, 40, 3, padding=1, bias=False), nn.Conv2d(40, 64, 3, 2, 1, bias=False)
        self.norm1, self.norm2, self.act = nn.BatchNorm2d(40), nn.BatchNorm2d(64), nn.Hardtanh()
        self.down = nn.Conv2d(40, 64, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.act(self.norm1(self.one(self.act(x))) + x)
        return self.act(self.norm2(self.two(x)) + self.down(x)).mean((2, 3))


class Twice(nn.Module):
    """Two sites that read one value, which a product gives."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(8, 8, 1, bias=False) for _ in range(3))
        self.norm, self.acts = nn.BatchNorm2d(8), nn.ModuleList([nn.Hardtanh(), nn.Hardtanh(-2, 3)])

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.a(x)) + x
        return self.b(self.acts[0](y)) - self.c(self.acts[1](y))


class Heads(nn.Module):
    """Three linear layers that read one activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 40)
        self.heads = nn.ModuleList(nn.Linear(40, 24) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        a, b, c = (head(x) for head in self.heads)
        return a * b + c


class Grouped(nn.Module):
    """Convolutions in groups: of whole words of channels, and of less."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 64, 1, bias=False), nn.Conv2d(64, 64, 3, padding=1, groups=2, bias=False)
        self.c = nn.Conv2d(64, 64, 3, groups=4, bias=False)
        self.d = nn.Conv2d(64, 7, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(64) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip((self.a, self.b, self.c), self.norms, strict=True):
            x = norm(layer(x))
        return self.d(x)


class Pooled(nn.Module):
    """Max poolings after one another, and two convolutions that read what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 40, 3, padding=1, bias=False)
        self.norm, self.act = nn.BatchNorm2d(40), nn.Hardtanh()
        self.pools = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.MaxPool2d((1, 2), 1))
        self.b, self.c = nn.Conv2d(40, 3, 1, bias=False), nn.Conv2d(40, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pools(self.act(self.norm(self.a(x))))
        return self.b(x) - self.c(x)


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.domain == DOMAIN]


def results(path: Path, x: Tensor, **options: Any) -> list[np.ndarray[Any, Any]]:
    opened = fl.session(path, "cpu", **options)
    found: list[np.ndarray[Any, Any]] = opened.run(None, {opened.get_inputs()[0].name: x.numpy()})
    return found


NETWORKS: list[tuple[Callable[[], nn.Module], tuple[int, ...], list[str], list[str]]] = [
    (chain, (3, 8, 8), [], ["FusedConv", *["PackedConv"] * 4, "FusedLinear"]),
    (BiReal, (4, 8, 8), [], ["FusedConv", "PackedConv", "PackedConv", "FusedLinear"]),
    (Clipped, (3, 9, 9), ["stem.*", "down.*"], ["FusedConv", "PackedConv"]),
    (Twice, (8, 5, 5), [], ["FusedConv", "PackedConv", "PackedConv"]),
    (Heads, (8,), ["first.*"], ["Pack", *["PackedLinear"] * 3]),
    (Grouped, (4, 6, 6), [], ["FusedConv", "PackedConv", "BinarizeAt", "FusedConv", "BinarizeAt", "FusedConv"]),
    (
        Residual,
        (8, 6, 6),
        [],
        ["Pack", "PackedConv", "PackedConv", "BinarizeAt", "FusedConv", "PoolBits", "PackedConv"],
    ),
    (Shortcut, (4, 6, 6), [], ["FusedConv", "BinarizeAt", "FusedConv", "PackedConv"]),
    (Flattened, (4, 6, 6), [], ["FusedConv", "BinarizeAt", "FusedLinear"]),
    (Tokens, (7, 5), [], ["FusedLinear", "PackedLinear"]),
    (lambda: conv(nn.BatchNorm2d(8), nn.MaxPool2d(2)), (4, 9, 9), [], ["FusedConv", "PoolBits", "PackedConv"]),
    (lambda: conv(nn.MaxPool2d(2), nn.BatchNorm2d(8)), (4, 9, 9), [], ["FusedConv", "PoolBits", "PackedConv"]),
    (Pooled, (4, 11, 9), [], ["FusedConv", "PoolBits", "PoolBits", "PackedConv", "PackedConv"]),
]


@pytest.mark.parametrize(("make", "shape", "keep", "fused"), NETWORKS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_fused_computes_the_same(
    make: Callable[[], nn.Module], shape: tuple[int, ...], keep: list[str], fused: list[str], tmp_path: Path
) -> None:
    model = lowered(make(), shape, keep)
    assert kinds(fuse(model)) == fused
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    for batch in (1, 7):
        x = torch.randn(batch, *shape)
        stock = results(path, x, kernels=False)
        for engine in cpu.engines():
            cpu.choose(engine)
            for own, expected in zip(results(path, x, kernels=True, threads=2), stock, strict=True):
                assert np.array_equal(own, expected)
        cpu.choose(None)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (chain, (3, 8, 8)),
        (Flattened, (4, 6, 6)),
        (lambda: conv(nn.BatchNorm2d(8), nn.MaxPool2d(2)), (4, 9, 9)),
        (Pooled, (4, 11, 9)),
    ],
)
def test_convolutions_that_compare_their_sums_are_taken_apart(
    make: Callable[[], nn.Module], shape: tuple[int, ...], tmp_path: Path
) -> None:
    portable = lowered(make(), shape, [])
    model = lowered(make(), shape, [], "cpu-int8")
    assert "BinaryConvBinarizeAt" in kinds(model)
    assert kinds(fuse(model)) == kinds(fuse(portable))
    onnx.save(model, tmp_path / "m.onnx")
    x = torch.randn(7, *shape)
    apart, whole = (results(tmp_path / "m.onnx", x, kernels=kernels) for kernels in (True, False))
    for own, expected in zip(apart, whole, strict=True):
        assert np.array_equal(own, expected)


def test_the_given_model_stays_as_it_is() -> None:
    model = lowered(chain(), (3, 8, 8), [])
    before = model.SerializeToString(deterministic=True)
    fuse(model)
    assert model.SerializeToString(deterministic=True) == before


def test_an_integer_that_is_an_output_is_still_one() -> None:
    class Integers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm = (
                nn.Conv2d(4, 8, 1, bias=False),
                nn.Conv2d(8, 8, 1, bias=False),
                nn.BatchNorm2d(8),
            )

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            dot = self.a(x)
            return dot, self.b(self.norm(dot))

    fused = fuse(lowered(Integers(), (4, 5, 5), []))
    assert [output.name for output in fused.graph.output] == [
        name for node in fused.graph.node for name in node.output if node.op_type == "FusedConv"
    ]


HEAD = '<ir_version: 10, opset_import: ["": 21, "frostline": 1]> g'
CONV = """frostline.BinaryConv<inputs = [8], kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
          dilations = [1, 1], group = 1>"""
CONSTANTS: dict[str, np.ndarray[Any, Any]] = {
    "w": packing.pack(signs(8, 8, 1, 1)).numpy(),
    "v": packing.pack(signs(8, 8, 1, 1, seed=5)).numpy(),
    "matrix": packing.pack(signs(8, 8, seed=7)).numpy(),
    "factor": np.linspace(-1, 1, 8, dtype=np.float32).reshape(8, 1, 1),
    "deep": np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 1, 8, 1, 1),
    "wide": np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 1, 8),
    "along": np.linspace(-1, 1, 8, dtype=np.float32).reshape(8, 1),
    "thresholds": np.array([np.nan, np.inf, -np.inf, 0.5, -0.5, 0, 8, -8], np.float32).reshape(8, 1, 1),
    "high": np.array([1, 1, 1, -1, -1, 1, 1, 1], np.float32).reshape(8, 1, 1),
    **{
        name: np.array(value, np.float32)
        for name, value in (("minus", -1), ("zero", 0), ("tenth", 0.1), ("one", 1), ("six", 6))
    },
}


def by_hand(signature: str, body: str) -> onnx.ModelProto:
    """A model of these nodes, in which `x` is binary as `b`, and goes through a convolution to `p`."""
    nodes = f"b = frostline.Binarize(x) p = CONV(b, w) {body}".replace("CONV", CONV)
    model = parser.parse_model(f"{HEAD} {signature} {{ {nodes} }}")
    given = {value.name for value in model.graph.input}
    read = {name for node in model.graph.node for name in node.input} - given
    model.graph.initializer.extend(
        numpy_helper.from_array(CONSTANTS[name], name) for name in sorted(read & {*CONSTANTS})
    )
    used = sorted({node.op_type for node in model.graph.node if node.domain == DOMAIN})
    model.functions.extend(functions()[name] for name in used)
    return model


IMAGE, RESULT = "float[n, 8, h, w] x", "float[n, 8, h, w] y"
BY_HAND: dict[str, tuple[str, str]] = {
    "a value and what it is clipped to, both made binary": (
        f"({IMAGE}) => ({RESULT})",
        """q = Clip(p, minus, one) c = frostline.Binarize(q) d = frostline.Binarize(p)
           r = CONV(c, v) s = CONV(d, w) y = Add(r, s)""",
    ),
    "a sum that makes the product larger": (
        f"(float[n, 8, 1, 1] x, float[n, 8, h, w] z) => ({RESULT}) <float[n, 8, 1, 1] q>",
        "q = Mul(p, factor) y = Add(q, z)",
    ),
    "nodes without names that have limits of their own": (
        f"({IMAGE}) => ({RESULT})",
        "q = Clip(p, minus, one) r = CONV(b, v) s = Clip(r, zero, six) y = Add(q, s)",
    ),
    "a factor of more axes than the product": (f"({IMAGE}) => (float[1, n, 8, h, w] y)", "y = Mul(p, deep)"),
    "a factor of a linear layer, of more axes": (
        "(float[n, 8, 1, 1] x, float[n, 8] z) => (float[1, n, 8] y, float[n, 8, 1, 1] p)",
        "c = frostline.Binarize(z) q = frostline.BinaryLinear<inputs = [8]>(c, matrix) y = Mul(q, wide)",
    ),
    "a factor of a linear layer along another axis": (
        "(float[n, 8, 1, 1] x, float[n, 8, 8] z) => (float[n, 8, 8] y, float[n, 8, 1, 1] p)",
        "c = frostline.Binarize(z) q = frostline.BinaryLinear<inputs = [8]>(c, matrix) y = Mul(q, along)",
    ),
    "a linear layer of one row": (
        "(float[n, 8, 1, 1] x, float[8] z) => (float[8] y, float[n, 8, 1, 1] p)",
        "c = frostline.Binarize(z) y = frostline.BinaryLinear<inputs = [8]>(c, matrix)",
    ),
    "limits of numbers that were rounded": (
        f"({IMAGE}) => ({RESULT})",
        """half = Cast<to = 10>(tenth) top = Cast<to = 1>(half) q = Mul(p, factor) y = Clip(q, minus, top)""",
    ),
    "limits that keep a zero's sign": (f"({IMAGE}) => ({RESULT})", "q = Mul(p, factor) y = Clip(q, zero, six)"),
    "limits that cross": (f"({IMAGE}) => ({RESULT})", "q = Mul(p, factor) y = Clip(q, one, minus)"),
    "limits of a sum that is no number": (
        f"(float[n, 8, h, w] x, float[n, 8, h, w] nan) => ({RESULT}) <float[n, 8, h, w] p, float[n, 8, h, w] q>",
        "q = Add(p, nan) y = Clip(q, minus, one)",
    ),
    "signs of what is no number": (
        f"(float[n, 8, h, w] x, float[n, 8, h, w] nan) => ({RESULT})",
        "q = Clip(nan, minus, one) c = frostline.Binarize(q) r = CONV(c, v) y = Add(p, r)",
    ),
    "a product added to itself": (f"({IMAGE}) => ({RESULT}) <float[n, 8, h, w] p>", "y = Add(p, p)"),
    "a product added to what comes from it": (
        f"({IMAGE}) => ({RESULT}) <float[n, 8, h, w] p, float[n, 8, h, w] q>",
        "q = Neg(p) y = Add(p, q)",
    ),
    "a product added to a later one": (
        f"({IMAGE}) => ({RESULT}) <float[n, 8, h, w] p, float[n, 8, h, w] q>",
        "r = CONV(b, v) q = Mul(r, factor) y = Add(p, q)",
    ),
    "thresholds that are no integers": (
        f"({IMAGE}) => ({RESULT})",
        "c = frostline.BinarizeAt(p, thresholds, high) y = CONV(c, v)",
    ),
    "levels that are given": (
        f"({IMAGE}) => ({RESULT}, float[n, 8, h, w] c)",
        "c = frostline.BinarizeAt(p, thresholds, high) y = CONV(c, v)",
    ),
    "branches that read a product": (
        f"({IMAGE}, bool z) => ({RESULT})",
        """q = Mul(p, factor)
           y = If(z)<then_branch = t () => (float[n, 8, h, w] a) { a = Neg(p) },
                     else_branch = e () => (float[n, 8, h, w] d) { d = Neg(q) }>""",
    ),
    "a factor that a caller may give": (f"({IMAGE}, float[8, 1, 1] factor) => ({RESULT})", "y = Mul(p, factor)"),
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
    "no images": ("(float[0, 8, h, w] x) => (float[0, 8, h, w] y)", "y = Mul(p, factor)"),
}


@pytest.mark.parametrize(("signature", "body"), BY_HAND.values(), ids=BY_HAND)
def test_nodes_that_look_as_if_they_could_be_put_together(signature: str, body: str, tmp_path: Path) -> None:
    onnx.save(by_hand(signature, body), tmp_path / "m.onnx")
    stock, own = (fl.session(tmp_path / "m.onnx", "cpu", kernels=kernels) for kernels in (False, True))
    generator, given = np.random.default_rng(0), {}
    free = {"n": 8, "h": 5, "w": 4}
    for value in stock.get_inputs():
        shape = [free[size] if isinstance(size, str) else size for size in value.shape]
        given[value.name] = generator.normal(size=shape).astype(np.float32)
        if value.name == "nan":
            given[value.name][0, :, 0] = np.nan
        if value.type == "tensor(bool)":
            given[value.name] = np.array(True)
    for expected, found in zip(stock.run(None, given), own.run(None, given), strict=True):
        assert np.array_equal(found, expected, equal_nan=True)
        assert np.array_equal(np.signbit(found), np.signbit(expected))


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
