from __future__ import annotations

import random
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from frostline.randomness import epoch_batches, random_state, set_random_state
from tests.faults.training import STEPS, Images, loader, unseeded


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.randn()), float(torch.randn(()))  # noqa: S311


def images(batches: Any) -> list[Tensor]:
    return [x for x, _ in batches]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_a_state_is_put_back_through_a_checkpoint(tmp_path: Any) -> None:
    import frostline as fl

    np.random.randn()  # numpy keeps the second of two
    fl.save_checkpoint(tmp_path / "c.pt", random_state())
    expected = drawn()
    unseeded()
    set_random_state(fl.load_checkpoint(tmp_path / "c.pt"))
    assert drawn() == expected


LOADERS = {
    "plain": loader,
    "own generator": lambda: loader(generator=torch.Generator()),
    "workers": lambda: loader(workers=2),
    "workers that persist": lambda: loader(workers=2, persistent_workers=True),
    "sampler": lambda: DataLoader(Images(), 8, sampler=RandomSampler(Images(), generator=torch.Generator())),
    "batch sampler": lambda: DataLoader(
        Images(), batch_sampler=BatchSampler(RandomSampler(Images(), generator=torch.Generator()), 8, False)
    ),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_the_rest_of_an_epoch_is_what_it_would_have_been(kind: str) -> None:
    """In another process, that is: in a new loader, and from another random state."""
    unseeded()
    whole = LOADERS[kind]()
    epochs = [images(epoch_batches(whole, 5, epoch, 0, None)) for epoch in (0, 1)]
    assert not torch.equal(epochs[0][0], epochs[1][0])

    unseeded()
    torch.rand(3)
    batches = epoch_batches(LOADERS[kind](), 5, 1, 0, None)
    begun = images(islice(batches, 3))
    state = random_state()
    unseeded()
    rest = images(epoch_batches(LOADERS[kind](), 5, 1, 3, state))
    assert same(begun + rest, epochs[1])
    assert len(rest) == STEPS - 3


def test_a_loader_that_was_used_before() -> None:
    one = loader(workers=2, persistent_workers=True)
    next(iter(one))
    first = images(epoch_batches(one, 5, 0, 0, None))
    assert same(first, images(epoch_batches(loader(workers=2, persistent_workers=True), 5, 0, 0, None)))


def test_a_sampler_learns_the_epoch() -> None:
    from torch.utils.data.distributed import DistributedSampler

    sampler: DistributedSampler[Any] = DistributedSampler(Images(), num_replicas=2, rank=0)
    batches = DataLoader(Images(), 8, sampler=sampler)
    list(epoch_batches(batches, 5, 3, 0, None))
    assert sampler.epoch == 3


def test_the_next_draw_is_that_of_the_state() -> None:
    """As dropout's in the step after a resume."""
    state = random_state()
    expected = drawn()
    batches = epoch_batches([1, 2, 3], 5, 0, 1, state)
    assert next(batches) == 2
    assert drawn() == expected
