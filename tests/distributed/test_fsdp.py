from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import frostline as fl
from frostline.errors import UsageError
from tests.distributed.ranks import HALVES, STEPS, Trained, alone, optimizer_of, program, together, train

LAYERS = ("body.*",)
KINDS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "root": ((), {}),
    "layers": (LAYERS, {"gradient": {"frozen": "clipped"}}),
    "every product": (("stem", "body.*.0", "head"), {}),
    "held": (LAYERS, {"progression__hold": True}),
}
"""The modules that are closed, and sharded one by one before the root; and edits of the spec."""


def _sharded(closed: tuple[str, ...], **edits: Any) -> fl.Program:
    made = program(closed, **edits)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for module in [part.module for part in made.graph.parts() if part.region]:
        fully_shard(module, mesh=mesh)
    fully_shard(made.net, mesh=mesh)
    return made


def _whole(made: fl.Program, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
    return get_state_dict(made.net, optimizer, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def _work(rank: int, folder: Path) -> dict[str, Trained]:
    found = {}
    for kind, (closed, edits) in KINDS.items():
        made = _sharded(closed, **edits)
        optimizer = optimizer_of(made.net)
        masks = train(made, made.net, optimizer, [HALVES[rank]])
        local = {name: parameter.to_local().numel() for name, parameter in made.net.named_parameters()}  # type: ignore[attr-defined]
        found[kind] = Trained(masks, _whole(made, optimizer)[0], {"local": local})
    found["saved"] = _saved(rank, folder)
    found["resumed"] = _resumed(rank, folder)
    return found


def _saved(rank: int, folder: Path) -> Trained:
    """Half of the run, then a checkpoint, and what `freeze` says; at the end of the plan, what rank 0 freezes."""
    made = _sharded(LAYERS)
    optimizer = optimizer_of(made.net)
    train(made, made.net, optimizer, [HALVES[rank]], STEPS // 2)
    net, state = _whole(made, optimizer)
    if rank == 0:
        fl.save_checkpoint(folder / "two.pt", {"program": made.state_dict(), "net": net, "optimizer": state})
    made.driver.resume(STEPS)
    with pytest.raises(UsageError) as refused:
        made.freeze()
    frozen = _logits(made.freeze(values=_floats(net))) if rank == 0 else torch.empty(0)
    return Trained([], {"frozen": frozen}, {"refused": str(refused.value)})


def _floats(net: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() for name, value in net.items()}


def _logits(frozen: fl.Graph) -> Tensor:
    return frozen.module.eval()(torch.randn(9, 6, generator=torch.Generator().manual_seed(1)))


def _resumed(rank: int, folder: Path) -> Trained:
    """The other half, from the checkpoint of a single process."""
    made = _sharded(LAYERS)
    optimizer = optimizer_of(made.net)
    _load(made, optimizer, fl.load_checkpoint(folder / "one.pt"))
    masks = train(made, made.net, optimizer, [HALVES[rank]])
    return Trained(masks, _whole(made, optimizer)[0])


def _load(made: fl.Program, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    made.load_state_dict(state["program"])
    options = StateDictOptions(full_state_dict=True)
    set_state_dict(
        made.net, optimizer, model_state_dict=state["net"], optim_state_dict=state["optimizer"], options=options
    )


def _half_alone(folder: Path) -> None:
    made = program()
    optimizer = optimizer_of(made.net)
    train(made, made.net, optimizer, HALVES, STEPS // 2)
    net, state = _whole(made, optimizer)
    fl.save_checkpoint(folder / "one.pt", {"program": made.state_dict(), "net": net, "optimizer": state})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def ranks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Trained]]:
    _half_alone(folder)
    return together(_work, tmp_path_factory.mktemp("ranks"), folder)


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_are_one_process_to_the_bit(ranks: list[dict[str, Trained]], kind: str) -> None:
    single = alone(**KINDS[kind][1])
    assert ranks[0][kind].masks == ranks[1][kind].masks == single.masks
    assert _equal(ranks[0][kind].net, single.net)
    assert ranks[1][kind].net == {}  # rank 0 has it
    sizes = {name: value.numel() for name, value in single.net.items()}
    assert {name: sum(rank[kind].more["local"][name] for rank in ranks) for name in sizes} == sizes


def test_a_checkpoint_goes_on_on_another_number_of_ranks(folder: Path, ranks: list[dict[str, Trained]]) -> None:
    made = program()
    optimizer = optimizer_of(made.net)
    _load(made, optimizer, fl.load_checkpoint(folder / "two.pt"))
    assert made.step == STEPS // 2
    assert train(made, made.net, optimizer, HALVES) == alone().masks[STEPS // 2 :] == ranks[0]["resumed"].masks
    assert _equal(made.net.state_dict(), alone().net)
    assert _equal(ranks[0]["resumed"].net, alone().net)


def test_one_rank_freezes_what_was_gathered(folder: Path, ranks: list[dict[str, Trained]]) -> None:
    made = program(dtype=torch.float32)
    made.net.load_state_dict(_floats(fl.load_checkpoint(folder / "two.pt")["net"]))
    made.driver.resume(STEPS)
    assert torch.equal(ranks[0]["saved"].net["frozen"], _logits(made.freeze()))


def test_freezing_what_is_sharded_says_what_to_do(ranks: list[dict[str, Trained]]) -> None:
    for rank in ranks:
        assert "the net is sharded\n  stem.weight and 15 more are spread over ranks" in rank["saved"].more["refused"]
        assert "`program.freeze(values=state)` on one rank" in rank["saved"].more["refused"]
