"""Files in the library's operators compute what the files compute, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from frostline.compiler.fusing import fuse
from tests.compiler.fused import IMAGE, RESULT, computes_the_same, gives_what_the_file_gives, kinds, results
from tests.models.binary import lowered
from tests.models.integers import BiReal, Flattened, Pooled, Shortcut, Tokens, conv
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


NETWORKS: list[tuple[Callable[[], nn.Module], tuple[int, ...], list[str], list[str]]] = [
    (chain, (3, 8, 8), [], ["FusedConv", *["PackedConv"] * 4, "FusedLinear"]),
    (BiReal, (4, 8, 8), [], ["FusedConv", "PackedConv", "PackedConv", "FusedLinear"]),
    (Clipped, (3, 9, 9), ["stem.*", "down.*"], ["FusedConv", "PackedConv"]),
    (Twice, (8, 5, 5), [], ["FusedConv", "PackedConv", "PackedConv"]),
    (Heads, (8,), ["first.*"], ["Pack", *["PackedLinear"] * 3]),
    (Grouped, (4, 6, 6), [], ["FusedConv", "PackedConv", "BinarizeAt", "FusedConv", "BinarizeAt", "FusedConv"]),
    (Shortcut, (4, 6, 6), [], ["FusedConv", "BinarizeAt", "FusedConv", "PackedConv"]),
    (Flattened, (4, 6, 6), [], ["FusedConv", "BinarizeAt", "FusedLinear"]),
    (Tokens, (7, 5), [], ["FusedLinear", "PackedLinear"]),
]


@pytest.mark.parametrize(("make", "shape", "keep", "fused"), NETWORKS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_fused_computes_the_same(
    make: Callable[[], nn.Module], shape: tuple[int, ...], keep: list[str], fused: list[str], tmp_path: Path
) -> None:
    computes_the_same(make, shape, keep, fused, tmp_path / "m.onnx")


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
    "no images": ("(float[0, 8, h, w] x) => (float[0, 8, h, w] y)", "y = Mul(p, factor)"),
}


@pytest.mark.parametrize(("signature", "body"), BY_HAND.values(), ids=BY_HAND)
def test_nodes_that_look_as_if_they_could_be_put_together(signature: str, body: str, tmp_path: Path) -> None:
    gives_what_the_file_gives(signature, body, tmp_path / "m.onnx")
