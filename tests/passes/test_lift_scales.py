from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from frostline.compiler.masks import binarize
from frostline.errors import PlanError
from frostline.passes import FREEZING, FreezeMasks, LiftScales
from tests.models.small import spec

SCALED = spec(binarize__keep_float=[], binarize__scale="channel")


class Mixed(nn.Module):
    """A convolution with a bias, one by channel without, of which no sum is 0, and a linear layer with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 5, 3, padding=1)
        self.b = nn.Conv2d(5, 5, 3, groups=5, bias=False)
        self.c = nn.Linear(5 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x)).flatten(1))


def settled(model: nn.Module, *shape: int, **edits: object) -> fl.Program:
    program = fl.compile(model, fl.edit_spec(SCALED, edits), (torch.randn(2, *shape),), total_steps=9)
    program.driver.resume(9)
    return program


def scaled(weight: Tensor) -> Tensor:
    return binarize(weight) * weight.abs().flatten(1).mean(1).reshape(-1, *(1 for _ in weight.shape[1:]))


def test_a_factor_becomes_one_of_the_result() -> None:
    model = Mixed()
    masked = settled(model, 4, 6, 6).graph
    lifted = fl.run(masked.snapshot(), (FreezeMasks(), LiftScales()))
    targets = [node.target for node in lifted.nodes if node.op == "call_function"]
    assert targets.count(torch.mul) == 3
    assert targets.count(torch.add) == 2
    x = torch.randn(5, 4, 6, 6)
    net = masked.module.eval()
    with torch.no_grad():
        y = functional.conv2d(binarize(x), scaled(model.a.weight), model.a.bias, padding=1)
        y = functional.conv2d(binarize(y), scaled(model.b.weight), groups=5)
        y = functional.linear(binarize(y.flatten(1)), scaled(model.c.weight), model.c.bias)
        torch.testing.assert_close(net(x), y)
        torch.testing.assert_close(lifted.module.eval()(x), y)


def test_the_products_of_scaled_weights_are_proven_integers(tmp_path) -> None:  # type: ignore[no-untyped-def]
    binary = settled(Mixed(), 4, 6, 6).freeze()
    certificate = fl.export(binary, tmp_path / "m.onnx", inputs=(torch.randn(20, 4, 6, 6),))
    assert "3 binary operations give the graph's integers" in str(certificate)
    assert certificate.agreeing == certificate.decisions


def test_without_a_scale_nothing_is_lifted() -> None:
    program = settled(Mixed(), 4, 6, 6, **{"binarize.scale": "none"})
    binary = fl.run(program.graph.snapshot(), FREEZING)
    assert torch.mul not in [node.target for node in binary.nodes]


def test_only_some_weights_may_be_scaled() -> None:
    overrides = [{"sites": "b.weight", "scale": "none"}]
    program = settled(Mixed(), 4, 6, 6, overrides=overrides)
    lifted = fl.run(program.graph.snapshot(), (FreezeMasks(), LiftScales()))
    assert [node.target for node in lifted.nodes].count(torch.mul) == 2
    assert 'override "b.weight": scale none' in str(program.plan)


class Transposed(nn.Module):
    """A weight that is transposed before it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.w.t())


@pytest.mark.parametrize(("model", "shape"), [(Transposed(), (6,)), (nn.ConvTranspose1d(6, 4, 3), (6, 9))])
def test_a_weight_that_is_not_read_as_it_is_cannot_be_scaled(model: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(PlanError, match="is not read as it is, by linear layers or convolutions alone"):
        settled(model, *shape)


def test_activations_have_no_scale() -> None:
    with pytest.raises(PlanError) as caught:
        settled(Mixed(), 4, 6, 6, overrides=[{"sites": "b.*", "scale": "channel"}])
    assert str(caught.value) == (
        "the plan cannot be made\n"
        "  b.activation is an activation, and has no scale\n"
        '    -> scales are for weights: narrow the pattern, as in "*.weight"'
    )
