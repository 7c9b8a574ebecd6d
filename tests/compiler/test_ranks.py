from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

import frostline as fl
from frostline.compiler.ranks import beside, is_sharded
from frostline.errors import PassError, UsageError
from tests.models.small import Tied, chain, spec


def settled(model: nn.Module, *shape: int) -> fl.Program:
    program = fl.compile(model, spec(), (torch.randn(2, *shape),), total_steps=20)
    program.driver.resume(20)
    return program


@pytest.mark.parametrize(("make", "shape"), [(chain, (3, 8, 8)), (Tied, (4,))])
def test_values_are_frozen_in_place_of_the_nets(make: type[nn.Module], shape: tuple[int, ...]) -> None:
    program, other = settled(make(), *shape), settled(make(), *shape)
    x = torch.randn(5, *shape)
    before = program.freeze().module.eval()(x)
    frozen = program.freeze(values=other.net.state_dict()).module.eval()
    assert torch.equal(frozen(x), other.freeze().module.eval()(x))
    assert not torch.equal(frozen(x), before)
    assert torch.equal(program.freeze().module.eval()(x), before)


def test_values_do_without_those_of_the_model() -> None:
    program = settled(chain(), 3, 8, 8)
    values, x = {name: value.clone() for name, value in program.net.state_dict().items()}, torch.randn(5, 3, 8, 8)
    frozen = program.freeze().module.eval()
    program.net.load_state_dict(values, assign=True)  # tensors of its own, as `fully_shard` gives it
    for parameter in program.model.parameters():
        parameter.data = torch.empty(0)
    assert torch.equal(program.freeze(values=values).module.eval()(x), frozen(x))


def test_values_of_another_net_are_refused() -> None:
    program = settled(Tied(), 4)
    values = {**program.net.state_dict(), "extra": torch.zeros(1), "first.weight": torch.zeros(4, 8)}
    del values["last.bias"]
    with pytest.raises(UsageError) as refused:
        program.freeze(values=values)
    assert str(refused.value).splitlines() == [
        "the values are not a whole state dict of the net",
        "  last.bias is missing",
        "  the net has no extra",
        "  first.weight has shape [4, 8], and [8, 4] in the net",
    ]
    program.driver.resume(0)
    with pytest.raises(PassError, match="cannot be frozen at step 0"):
        program.freeze(values=values)


def test_sharded_values_are_refused_and_plain_tensors_stand_beside_them(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        program = settled(Tied(), 4)
        mesh = init_device_mesh("cpu", (1,))
        sharded = distribute_tensor(torch.ones(8, 4), mesh, [Replicate()])
        assert is_sharded(sharded)
        with beside(sharded):
            total = sharded + torch.ones(8, 4)
        assert isinstance(total, DTensor)
        assert torch.equal(total.full_tensor(), torch.full((8, 4), 2.0))
        with pytest.raises(UsageError, match=r"first.weight is spread over ranks\n.*program.freeze\(values=state\)"):
            program.freeze(values={**program.net.state_dict(), "first.weight": sharded})
    finally:
        dist.destroy_process_group()
