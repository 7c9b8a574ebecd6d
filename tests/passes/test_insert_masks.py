from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import frostline as fl
from frostline.compiler.graph import facts
from frostline.compiler.invariants import mask_nodes
from frostline.compiler.operations import operation_of
from frostline.compiler.rearrangements import called
from frostline.errors import PassError, PlanError, UsageError
from frostline.passes import FreezeMasks, InsertMasks
from tests.models.operations import Computed, Products
from tests.models.small import ZERO_ONE, Attention, InPlace, Positive, Spare, Tied, chain, spec


def masked(model: torch.nn.Module, *shape: int, **edits: object) -> tuple[fl.Graph, fl.Graph]:
    graph = fl.capture(model, (torch.randn(shape),))
    return graph, fl.run(graph, [InsertMasks(fl.plan(spec(**edits), fl.sites(graph), 100))])


def test_a_mask_for_every_site_and_one_for_shared_ones() -> None:
    _, after = masked(Attention(), 2, 3, 8)
    masks = {str(node.target): mask for node, mask in mask_nodes(after)}
    assert sorted(masks) == [
        "frostline_masks.k.weight", "frostline_masks.out.activation", "frostline_masks.out.weight",
        "frostline_masks.q.activation", "frostline_masks.q.weight", "frostline_masks.v.weight",
    ]  # fmt: skip
    shared = next(node for node, _ in mask_nodes(after) if node.target == "frostline_masks.q.activation")
    assert len(shared.users) == 3


def test_masks_are_as_the_plan_says() -> None:
    overrides = [*ZERO_ONE, {"sites": "down.*", "per": "element"}]
    _, after = masked(Positive(), 2, 3, 8, progression__per="channel", overrides=overrides)
    masks = {str(facts(node).name): mask for node, mask in mask_nodes(after)}
    assert {name: tuple(mask.noise.shape) for name, mask in masks.items()} == {
        "up.activation": (8,), "up.weight": (16, 1), "short.weight": (8, 1), "mix.activation": (3,),
        "mix.weight": (3, 1), "down.activation": (3, 16), "down.weight": (8, 16),
    }  # fmt: skip
    assert {name for name, mask in masks.items() if mask.levels == (0, 1)} == {
        "up.activation", "mix.activation", "down.activation",
    }  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(4, 14), st.integers(4, 14))
def test_masks_of_channels_take_every_height_and_width(batch: int, height: int, width: int) -> None:
    _, after = masked(chain(), 2, 3, 8, 8, progression__per="channel")
    for _, mask in mask_nodes(after):
        mask.freeze(True)
    after.module.eval()
    x = torch.randn(batch, 3, height, width)
    binary = fl.run(after, [FreezeMasks()]).module
    assert torch.equal(after.module(x), binary(x))


def test_masks_of_channels_take_every_number_of_tokens() -> None:
    _, after = masked(Attention(), 2, 3, 8, progression__per="channel")
    for tokens in (1, 3, 11):
        assert after.module(torch.randn(2, tokens, 8)).shape == (2, tokens, 8)


@pytest.mark.parametrize(
    ("make", "shape", "other", "what"),
    [
        (chain, (2, 3, 8, 8), (2, 3, 8, 12), "3.activation has another shape than in the example"),
        (Attention, (2, 3, 8), (2, 4, 8), "q.activation has another shape than in the example"),
    ],
)
def test_masks_of_elements_name_the_site_that_has_another_shape(
    make: Callable[[], torch.nn.Module], shape: tuple[int, ...], other: tuple[int, ...], what: str
) -> None:
    _, after = masked(make(), *shape)
    with pytest.raises(UsageError) as caught:
        after.module(torch.randn(other))
    text = str(caught.value)
    assert text.startswith(what)
    assert "`per: channel` in the spec" in text
    assert "a value of 2x6x8x12 does not fit a mask of 6x8x8" in text or "2x4x8 does not fit a mask of 3x8" in text


def test_a_tied_weight_has_one_mask() -> None:
    _, after = masked(Tied(), 2, 4)
    names = [str(node.target) for node, _ in mask_nodes(after)]
    assert names.count("frostline_masks.a.weight") == 1
    assert "frostline_masks.b.weight" not in names


def test_the_mask_of_a_weight_stands_on_the_parameter_and_its_views_behind_it() -> None:
    before, after = masked(Products(), 2, 4, 6)
    (mask,) = (node for node, _ in mask_nodes(after) if node.target == "frostline_masks.w")
    assert [str(source.target) for source in mask.all_input_nodes] == ["w"]
    views = [user for user in mask.users if operation_of(user) is None]
    assert sorted(called(view) for view in views) == ["expand", "expand", "flip", "getattr"]
    (weight,) = (node for node in after.nodes if node.op == "get_attr" and node.target == "w")
    assert list(weight.users) == [mask]
    with torch.no_grad():
        for parameter in after.module.parameters():
            parameter.clamp_(-1, 1)
    x = torch.randn(3, 4, 6)
    assert torch.allclose(after.module(x), before.module(x), atol=1e-6)


def test_a_computed_weight_is_masked_wherever_it_is_computed() -> None:
    _, after = masked(Computed(), 2, 3, 6, 6)
    masks = [node for node, _ in mask_nodes(after) if node.target == "frostline_masks.norm.weight"]
    assert [called(mask.all_input_nodes[0]) for mask in masks] == ["_weight_norm"] * 2


def test_parameters_and_state_keep_their_names() -> None:
    for model, shape in ((chain(), (2, 3, 8, 8)), (Tied(), (2, 4)), (Spare(), (2, 4))):
        _, after = masked(model, *shape)
        assert list(after.module.state_dict()) == list(model.state_dict())
        assert [n for n, _ in after.module.named_parameters()] == [n for n, _ in model.named_parameters()]


def test_a_float_checkpoint_loads_into_the_masked_graph_and_back() -> None:
    _, after = masked(chain(), 2, 3, 8, 8)
    trained = chain()
    after.module.load_state_dict(trained.state_dict())
    back = chain()
    back.load_state_dict(after.module.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(back.eval()(x), trained.eval()(x))


def test_before_the_plan_begins_the_masked_graph_is_the_clipped_model() -> None:
    before, after = masked(Tied(), 2, 4)  # its activations lie within [-1, 1], and so do its weights
    x = torch.randn(5, 4)
    assert torch.equal(before.module(x), after.module(x))


def test_masks_twice_are_refused() -> None:
    graph, after = masked(chain(), 2, 3, 8, 8)
    with pytest.raises(PassError, match="InsertMasks cannot run: the graph is not captured"):
        fl.run(after, [InsertMasks(fl.plan(spec(), fl.sites(graph), 100))])


def test_a_plan_for_another_graph_is_refused() -> None:
    graph, _ = masked(chain(), 2, 3, 8, 8)
    other = fl.capture(Attention(), (torch.randn(2, 3, 8),))
    with pytest.raises(PassError, match="the plan was made for another graph"):
        fl.run(other, [InsertMasks(fl.plan(spec(), fl.sites(graph), 100))])


def test_a_mask_reads_what_its_operation_read() -> None:
    before, after = masked(InPlace(), 2, 4)  # all its values lie within [-1, 1]
    x = torch.randn(5, 4)
    assert torch.allclose(before.module(x), after.module(x), atol=1e-6)


class OtherInTraining(torch.nn.Module):
    """A weight that is computed in train mode, or an operation that is called once more in it."""

    def __init__(self, noisy: bool) -> None:
        super().__init__()
        self.first, self.a, self.last = (torch.nn.Linear(6, 6) for _ in range(3))
        self.norm, self.noisy = torch.nn.BatchNorm1d(6), noisy

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x))
        if self.noisy:
            weight = self.a.weight * 1.5 if self.training else self.a.weight
            return self.last(torch.nn.functional.linear(x, weight))
        if self.training:
            x = self.norm(self.a(x))
        return self.last(self.a(x))


@pytest.mark.parametrize("edits", [{"progression__hold": True}, {"binarize__scale": "channel"}])
def test_what_a_weight_cannot_do_in_train_mode_it_cannot_do(edits: dict[str, object]) -> None:
    with pytest.raises(PlanError, match=r"a\.weight is (computed|not read as it is)"):
        masked(OtherInTraining(noisy=True), 4, 6, **edits)


def test_a_weight_that_train_mode_reads_once_more_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        masked(OtherInTraining(noisy=False), 4, 6)
    assert "reads a.weight in train mode only, where no mask would be" in str(caught.value)
    assert 'keep it float: "a.weight" in keep_float' in str(caught.value)
