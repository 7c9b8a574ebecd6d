from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import frostline as fl
from examples.digits.network import plain, residual
from frostline.amounts import Amounts, amounts
from tests.models.factories import branching_with_example

STEPS = 1000


def planned(model: nn.Module, *shape: int, spec: str = "stompp", **edits: object) -> fl.Program:
    edited = fl.edit_spec(fl.load_spec(spec), {name.replace("__", "."): value for name, value in edits.items()})
    return fl.compile(model, edited, (torch.randn(2, *shape),), total_steps=STEPS)


class Block(nn.Module):
    """Attention and a feed-forward part, each with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.down(nn.functional.hardtanh(self.up(self.norm2(x))))


def transformer(width: int = 64) -> nn.Module:
    return nn.Sequential(nn.Linear(16, width), Block(width), Block(width), nn.Linear(width, 5))


def chain() -> nn.Module:
    linear = [nn.Linear(64, 128), *(nn.Linear(128, 128) for _ in range(2)), nn.Linear(128, 10)]
    return nn.Sequential(*(layer for one in linear for layer in (one, nn.Hardtanh())))


class Spelled(nn.Module):
    """Products in other spellings."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 8, 3, stride=2, groups=1)
        self.grouped = nn.Conv2d(8, 8, 3, groups=4)
        self.mixed = nn.Parameter(torch.randn(8, 6))
        self.summed = nn.Parameter(torch.randn(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.grouped(torch.tanh(self.up(x)))).flatten(2).transpose(1, 2)
        return torch.einsum("bti,io->bto", torch.tanh(x @ self.mixed), self.summed)


@pytest.mark.parametrize(
    ("model", "shape"),
    [(plain(), (1, 8, 8)), (residual(), (1, 8, 8)), (chain(), (64,)), (Spelled(), (3, 5, 5))],
    ids=["chain of convolutions", "residual", "linear", "other spellings"],
)
def test_multiply_adds_are_those_that_torch_counts(model: nn.Module, shape: tuple[int, ...]) -> None:
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.randn(1, *shape))
    found = amounts(planned(model, *shape))
    assert 2 * found.multiply_adds == counter.get_total_flops()


def test_what_is_kept_float_is_not_on_bits() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Hardtanh(), nn.Linear(6, 5), nn.Hardtanh(), nn.Linear(5, 3))
    found = amounts(planned(model, 4, binarize__keep_float=["first", "last"]))
    assert [(work.name, work.depth, work.multiply_adds, work.binary) for work in found.works] == [
        ("0", 1, 24, False),
        ("2", 2, 30, True),
        ("4", 3, 15, False),
    ]
    assert (found.multiply_adds, found.binary_multiply_adds, found.added) == (69, 30, 0)
    assert (found.binary_weights, found.parameters) == (30, 69 + 14)
    assert found.plan.mask_bytes == 30 + 6
    assert found.works[0].weight.why == "keep_float: first"
    weights = amounts(planned(model, 4, binarize__keep_float=[], binarize__activations=False))
    assert (weights.binary_multiply_adds, weights.added) == (0, 69)


FILES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "chain of convolutions": (plain, (1, 8, 8), "stompp"),
    "wide": (lambda: residual(48, 8), (1, 8, 8), "stompp"),
    "scaled": (lambda: residual(depth=8), (1, 8, 8), "scaled"),
    "weights alone": (chain, (64,), "bwn"),
    "transformer": (transformer, (7, 16), "stompp"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_expected_size_is_that_of_the_file_to_10_percent(name: str, tmp_path: Path) -> None:
    build, shape, spec = FILES[name]
    program = planned(build(), *shape, spec=spec)
    found = amounts(program)
    program.driver.resume(STEPS)
    certificate = fl.export(program.freeze(), tmp_path / "model.onnx")
    assert certificate.file_bytes == pytest.approx(found.file_bytes, rel=0.10)
    assert certificate.float_bytes == pytest.approx(found.float_bytes, rel=0.05)


def test_a_tied_weight_is_counted_once() -> None:
    layer = nn.Linear(16, 16)
    model = nn.Sequential(
        nn.Linear(16, 16), nn.Hardtanh(), layer, nn.Hardtanh(), layer, nn.Hardtanh(), nn.Linear(16, 2)
    )
    found = amounts(planned(model, 16))
    assert found.binary_weights == 256
    assert found.binary_multiply_adds == 2 * 256


def test_the_text_form() -> None:
    text = str(Amounts((), planned(chain(), 64).plan, 33_769, 220_393, 42_634))
    assert text.splitlines()[-1] == "file           about 33.8 kB; with float32 weights 220 kB"
    assert text.splitlines()[1] == "parameters     42,634, 76.9 % of them one bit each"


def test_a_model_that_branches_on_values_is_told_before_it_is_trained() -> None:
    model, args = branching_with_example()
    program = fl.compile(model, fl.edit_spec(fl.load_spec("stompp"), {"binarize.keep_float": []}), args, STEPS)
    found = amounts(program)
    assert found.regions == tuple(program.graph.regions)
    *_, files, why = str(found).splitlines()
    assert files.strip() == f"in {len(found.regions)} files, one for each region: {', '.join(found.regions)}"
    assert why.strip() == "the model branches on values, and cannot be one (`frostline doctor` says where)"


def test_depthwise_weights_fill_one_row(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 256, 1), nn.Hardtanh(), nn.Conv2d(256, 256, 5, groups=256), nn.Hardtanh(),
        nn.Conv2d(256, 256, 1),
        nn.Hardtanh(), nn.Conv2d(256, 4, 1),
    )  # fmt: skip
    program = planned(model, 3, 8, 8)
    expected = amounts(program).file_bytes
    program.driver.resume(STEPS)
    written = fl.export(program.freeze(), tmp_path / "model.onnx").file_bytes
    assert abs(expected - written) < 0.1 * written
