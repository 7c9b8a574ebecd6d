"""Files in the library's operators compute what the files compute, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import frostline as fl
from frostline.compiler.exported import DOMAIN
from frostline.compiler.fusing import fuse
from frostline.compiler.kernels import cpu
from tests.models.integers import BiReal, Flattened, Residual, Shortcut, Tokens, conv
from tests.models.small import chain, spec


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
        self.c = nn.Conv2d(64, 64, 3, groups=64, bias=False)
        self.d = nn.Conv2d(64, 7, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(64) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip((self.a, self.b, self.c), self.norms, strict=True):
            x = norm(layer(x))
        return self.d(x)


def lowered(model: nn.Module, shape: tuple[int, ...], keep: list[str]) -> onnx.ModelProto:
    torch.manual_seed(0)
    program = fl.compile(model, spec(binarize__keep_float=keep), (torch.randn(2, *shape),), 9)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    program.net.train()
    program.net(torch.randn(16, *shape))
    program.driver.resume(9)
    return fl.lower(program.freeze())


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
        ["Pack", "PackedConv", "PackedConv", "BinarizeAt", "FusedConv", "BinarizeAt", "FusedConv"],
    ),
    (Shortcut, (4, 6, 6), [], ["FusedConv", "BinarizeAt", "FusedConv", "PackedConv"]),
    (Flattened, (4, 6, 6), [], ["FusedConv", "BinarizeAt", "FusedLinear"]),
    (Tokens, (7, 5), [], ["FusedLinear", "PackedLinear"]),
    (lambda: conv(nn.BatchNorm2d(8), nn.MaxPool2d(2)), (4, 9, 9), [], ["FusedConv", "BinarizeAt", "FusedConv"]),
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
