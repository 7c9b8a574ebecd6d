"""A program and its data, and the plain loop that every adapter must equal to the bit."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from tests.models.small import chain, spec

TOTAL = 12
"""Optimizer steps: three epochs of eight batches, two batches a step."""
GATHERED = 2
BATCHES = 8
SIZE = 4


def program(seed: int = 0, total_steps: int = TOTAL, **edits: object) -> fl.Program:
    torch.manual_seed(seed)
    plan = spec(**{"gradient__frozen": "clipped", **edits})
    return fl.compile(chain(layers=2), plan, (torch.zeros(2, 3, 8, 8),), total_steps=total_steps)


def samples() -> list[tuple[Tensor, Tensor]]:
    """Images `[3, 8, 8]` with class numbers, in the order in which every loop takes them."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCHES * SIZE, 3, 8, 8, generator=generator)
    return list(zip(x, torch.randint(0, 5, (len(x),), generator=generator), strict=True))


def loader() -> torch.utils.data.DataLoader[tuple[Tensor, Tensor]]:
    return torch.utils.data.DataLoader(samples(), batch_size=SIZE)  # type: ignore[arg-type]


def sgd(net: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def trained(one: fl.Program) -> fl.Program:
    """The program after a plain loop over all of its steps."""
    optimizer = sgd(one.net.train())
    while one.step < TOTAL:
        for index, (x, y) in enumerate(loader()):
            (functional.cross_entropy(one.net(x), y) / GATHERED).backward()
            if index % GATHERED == GATHERED - 1:
                optimizer.step()
                optimizer.zero_grad()
                one.advance()
    return one


def assert_equal(one: fl.Program, other: fl.Program) -> None:
    """All parameters, all buffers, those of the masks among them, and the steps are equal to the bit."""
    assert one.step == other.step
    mine, others = ({**dict(p.net.named_parameters()), **dict(p.net.named_buffers())} for p in (one, other))
    torch.testing.assert_close(mine, others, rtol=0, atol=0, equal_nan=True)
