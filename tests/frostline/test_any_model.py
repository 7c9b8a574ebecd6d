"""Models that take another front end than fx, through the whole path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import frostline as fl
from frostline.compiler.invariants import mask_nodes
from frostline.compiler.net import modes_of
from frostline.errors import CaptureError, LoweringError, UsageError
from tests.models.bert import Bert
from tests.models.small import LayerDrop, Recurrent, spec


def trained(model: nn.Module, *inputs: Tensor, steps: int = 4, **edits: Any) -> fl.Program:
    """A program after all its steps, of SGD on the sum of what the net returns."""
    edits = {"progression__order": "global", "binarize__keep_float": []} | edits
    program = fl.compile(model, spec(**edits), inputs, total_steps=steps)
    optimizer = torch.optim.SGD(program.net.parameters(), lr=0.01)
    program.net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        program.net(*inputs).sum().backward()
        optimizer.step()
        program.advance()
    return program


def exported(binary: fl.Graph, path: Path) -> fl.Certificate:
    certificate = fl.export(binary, path)
    assert path.exists()
    assert all(proof.products == "equal" for proof in certificate.operations)
    return certificate


def test_attention_of_torch_s_own_with_dropout(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    program = trained(model, torch.randn(4, 5, 8))
    assert "recorder" in program.graph.captured
    certificate = exported(program.freeze(), tmp_path / "model.onnx")
    assert len(certificate.operations) == 8


def test_bert_with_tokens_and_a_mask(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokens, mask = torch.randint(0, 50, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    mask[1, 4:] = 0
    program = trained(Bert(layers=1, width=16, heads=2, words=50), tokens, mask)
    certificate = exported(program.freeze(), tmp_path / "model.onnx")
    assert [proof.operation for proof in certificate.operations] == [
        "layers.0.attention.query", "layers.0.attention.key", "layers.0.attention.value", "layers.0.attention.output",
        "layers.0.up", "layers.0.down", "pooler", "classifier",
    ]  # fmt: skip


def test_both_modes_are_masked_by_the_same_masks() -> None:
    program = fl.compile(
        Recurrent(), spec(binarize__keep_float=[]), (torch.randn(2, 5, 4), torch.ones(1)), total_steps=8
    )
    training = modes_of(program.net).training
    assert training is not None
    masks = {str(node.target) for node, _ in mask_nodes(program.graph)}
    assert masks == {str(node.target) for node in training.nodes if "frostline_masks" in str(node.target)}
    assert len(masks) == 4
    x = torch.randn(64, 5, 4)
    net = program.net
    assert not torch.equal(net.train()(x, torch.ones(1)), net.eval()(x, torch.ones(1)))


def test_what_differs_between_the_modes_is_trained_and_frozen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = trained(Recurrent(), torch.randn(4, 5, 4), torch.ones(1))
    assert [one.name for one in program.plan.unreached] == ["lstm"]
    binary = program.freeze()
    assert modes_of(binary.module).training is None
    exported(binary, tmp_path / "model.onnx")


class Halving(nn.Module):
    """Halves an image as long as its values are large: a loop on values, which calls one block at many sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardtanh())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        while x.shape[-1] > 2 and float(x.detach().abs().mean()) < 1e6:
            x = self.block(x)[..., ::2, ::2]
        return self.head(x.mean((2, 3)))


def test_regions_are_masked_trained_frozen_and_exported_one_by_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16)
    program = trained(Halving(), x, progression__per="channel", progression__order="forward")
    assert program.graph.captured.startswith("regions (stem, block, head)")
    assert [window.label for window in program.plan.windows] == ["depth 1", "depth 2", "depth 3"]
    binary = program.freeze()
    assert binary.module.eval()(x).shape == (4, 5)
    with program.binarized() as net:
        torch.testing.assert_close(net.eval()(x), binary.module(x))
    with pytest.raises(LoweringError, match="captured in regions is no one file"):
        fl.export(binary, tmp_path / "model.onnx")
    for part in binary.parts():
        exported(part, tmp_path / f"{part.region}.onnx")


def test_what_trains_in_regions_ships_whole_where_eval_mode_is_one_graph(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 4)
    program = trained(LayerDrop(), x)
    assert program.graph.captured.startswith("regions (blocks.0, blocks.1, blocks.2, head)")
    binary = program.freeze()
    assert not binary.regions
    with program.binarized() as net:
        torch.testing.assert_close(net.eval()(x), binary.module(x))
    assert len(exported(binary, tmp_path / "model.onnx").operations) == 4


def test_regions_resume_where_they_were() -> None:
    x = torch.randn(2, 3, 16, 16)
    one, other = (
        fl.compile(Halving(), spec(progression__per="channel", binarize__keep_float=[]), (x,), total_steps=9)
        for _ in range(2)
    )
    for _ in range(5):
        one.advance()
    other.net.load_state_dict(one.net.state_dict())
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(other.net.eval()(x), one.net.eval()(x))


def test_masks_of_elements_do_not_fit_a_block_that_is_called_at_two_sizes() -> None:
    program = fl.compile(Halving(), spec(binarize__keep_float=[]), (torch.randn(2, 3, 16, 16),), total_steps=9)
    with pytest.raises(fl.FrostlineError) as caught:
        program.net(torch.randn(2, 3, 16, 16))
    assert str(caught.value).startswith("block.0.activation has another shape than in the example")
    assert "`per: channel`" in str(caught.value)


def test_torch_compile_takes_a_net_of_two_graphs_without_a_break() -> None:
    x = torch.randn(2, 5, 4)
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    net = fl.compile(layer, spec(binarize__keep_float=[]), (x,), total_steps=8).net
    assert modes_of(net).training is not None
    compiled: Any = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled.eval()(x), net.eval()(x))
    compiled.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


class Matching(nn.Module):
    """Returns a loss where it is given labels, which it matches with its answers outside of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.teacher = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        answers = self.head(torch.tanh(self.body(x)))
        if labels is None:
            return answers
        order = sorted(range(3), key=lambda place: float(answers[0, place]))
        return (answers[:, order] - self.teacher(labels)).square().mean()


def test_a_model_that_is_trained_with_labels_ships_without_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = trained(Matching(), torch.randn(4, 6), torch.randn(4, 3), binarize__keep_float=["teacher.*"])
    assert "regions" in program.graph.captured
    with pytest.raises(LoweringError, match="no one file"):
        fl.export(program.freeze(), tmp_path / "model.onnx")
    x = torch.randn(4, 6)
    binary = program.freeze((x,))
    assert exported(binary, tmp_path / "model.onnx").sites == 4
    assert torch.equal(binary.module(x), program.net.eval()(x))


def test_another_call_must_have_every_site_that_was_trained() -> None:
    program = trained(Matching(), torch.randn(4, 6), torch.randn(4, 3))
    with pytest.raises(UsageError, match=r"\n  teacher.activation of teacher is not in it\n  teacher.weight of"):
        program.freeze((torch.randn(4, 6),))


class Twice(Matching):
    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        y = self.teacher(self.head(self.body(x)))
        return self.teacher(y) if labels is None else (y - labels).square().mean()


def test_another_call_must_have_no_site_that_was_not_trained() -> None:
    program = trained(Twice(), torch.randn(4, 6), torch.randn(4, 3))
    with pytest.raises(UsageError, match=r"\n  teacher.weight of teacher@2 is new in it\n  teacher@2.activation"):
        program.freeze((torch.randn(4, 6),))
    with pytest.raises(CaptureError, match="example_inputs is not a tuple"):
        program.freeze(torch.randn(4, 6))  # type: ignore[arg-type]


class Averaging(Matching):
    """Keeps a mean that is not saved."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8), persistent=False)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        h = self.body(x)
        if self.training:
            self.mean.mul_(0.5).add_(h.detach().mean(0))
        y = self.head(h + self.mean)
        return y if labels is None else (y - labels).square().mean()


def test_another_call_has_the_values_of_the_net_wherever_it_was_moved() -> None:
    inputs = torch.randn(4, 6), torch.ones(4, 3)
    program = fl.compile(Averaging(), spec(binarize__keep_float=[]), inputs, total_steps=8)
    net = program.net.double().float().train()  # its buffers are other tensors than the model's now
    for _ in range(8):
        net(torch.randn(4, 6), torch.ones(4, 3))
        program.advance()
    binary = program.freeze((torch.randn(5, 6),))
    kept, given = net.get_buffer("mean"), binary.module.get_buffer("mean")
    assert kept.abs().sum() > 0
    assert torch.equal(given, kept)
    with pytest.raises(UsageError, match="labels is None, and was a tensor"):
        net.eval()(inputs[0])
