from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import frostline as fl
from tests.distributed.ranks import HALVES, STEPS, Blocks, Trained, alone, optimizer_of, program, together, train
from tests.models.small import LayerDrop, spec

KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "surrogate": ({"gradient": {"frozen": "clipped"}}, {"static_graph": True}),
    "held": ({"progression__hold": True}, {"find_unused_parameters": True}),
    "sharpened": (
        {"progression__transition": "sharpen", "progression__refresh": {"rate": "none"}},
        {"gradient_as_bucket_view": True},
    ),
}
"""Edits of the spec, with options of DistributedDataParallel that should not matter."""


def _work(rank: int) -> dict[str, Trained]:
    return {name: _trained(rank, edits, options) for name, (edits, options) in KINDS.items()} | {"own": _own(rank)}


def _trained(rank: int, edits: dict[str, Any], options: dict[str, Any]) -> Trained:
    made = program(**edits)
    torch.manual_seed(100 + rank)  # masks ask nothing of torch's own generator
    net = DistributedDataParallel(made.net, **options)
    masks = train(made, net, optimizer_of(net), HALVES[rank : rank + 1])
    return Trained(masks, made.net.state_dict())


def _own(rank: int) -> Trained:
    """A mask that only rank 1 has changed, and a buffer of a model's own, after a forward."""
    made = program()
    made.net.register_buffer("kept", torch.full((), float(rank)))
    made.net.register_buffer("sent", torch.full((), float(rank)))
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(made.net, ["kept"])
    net = DistributedDataParallel(made.net)
    mask = next(iter(made.driver.masks.values()))
    buffer = next(mask.buffers())
    before = buffer.clone()
    if rank:
        buffer.fill_(1)
    net(torch.randn(2, 6, dtype=torch.float64))
    held = {name: float(made.net.get_buffer(name)) for name in ("kept", "sent")}
    return Trained([], {}, held | {"changed": not torch.equal(buffer, before)})


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Trained]]:
    return together(_work, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_are_one_process_to_the_bit(ranks: list[dict[str, Trained]], kind: str) -> None:
    first, second, single = ranks[0][kind], ranks[1][kind], alone(**KINDS[kind][0])
    assert first.masks == second.masks == single.masks
    assert len(set(single.masks[:20])) > 10
    for name, value in single.net.items():
        assert torch.equal(first.net[name], value), name
        assert torch.equal(second.net[name], value), name


def test_a_whole_batch_gives_the_same_up_to_the_order_of_sums(ranks: list[dict[str, Trained]]) -> None:
    single = alone([slice(0, 8)])
    assert single.masks == ranks[0]["plain"].masks
    for name, value in single.net.items():
        torch.testing.assert_close(ranks[0]["plain"].net[name], value, rtol=0, atol=1e-14)
        assert torch.equal(ranks[0]["plain"].net[name].sign(), value.sign())


def test_masks_and_what_a_user_names_are_not_broadcast(ranks: list[dict[str, Trained]]) -> None:
    assert [rank["own"].more for rank in ranks] == [
        {"kept": 0.0, "sent": 0.0, "changed": False}, {"kept": 1.0, "sent": 0.0, "changed": True},
    ]  # fmt: skip


def ignored(net: nn.Module) -> set[str]:
    return set(net._ddp_params_and_buffers_to_ignore)  # type: ignore[arg-type]


@pytest.mark.parametrize("closed", [(), ("body.*",)])
def test_copies_know_what_is_not_broadcast(closed: tuple[str, ...]) -> None:
    model = Blocks()
    model._ddp_params_and_buffers_to_ignore = ["stem.bias"]  # type: ignore[assignment]
    made = fl.compile(model, spec(), (torch.randn(2, 6),), total_steps=20, closed=closed)
    buffers = {name for name, _ in made.net.named_buffers()}
    assert ignored(made.net) == {"stem.bias", *buffers}
    assert ignored(copy.deepcopy(made.net)) == ignored(made.net)


def test_a_model_in_regions_keeps_its_masks_from_being_broadcast() -> None:
    made = fl.compile(LayerDrop(), spec(binarize__keep_float=["last"]), (torch.randn(2, 4),), total_steps=20)
    assert made.graph.regions
    assert ignored(made.net) == {name for name, _ in made.net.named_buffers()}
    assert ignored(copy.deepcopy(made.net)) == ignored(made.net)


@pytest.mark.gpu
def test_one_rank_of_nccl_is_one_process(tmp_path: Path) -> None:
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        results = []
        for wrap in (DistributedDataParallel, nn.Identity):
            made = program()
            made.net.to("cuda")
            net = DistributedDataParallel(made.net) if wrap is DistributedDataParallel else made.net
            optimizer = optimizer_of(made.net)
            while made.step < STEPS:
                x = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(made.step))
                net(x.cuda()).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
                made.advance()
            results.append(made.net.state_dict())
    finally:
        dist.destroy_process_group()
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
