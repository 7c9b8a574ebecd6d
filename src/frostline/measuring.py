"""How right a classifier is: on all batches of a test set, or on samples from all over it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from frostline.program import Program


class Batches(Protocol):
    """What can be iterated over again and again for batches of inputs and labels, and knows how many there are."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


def accuracy(net: nn.Module, batches: Batches, device: torch.device) -> float:
    """The share of samples whose largest output is their label, in eval mode."""
    training = net.training
    net.eval()
    right = total = 0
    with torch.no_grad():
        for x, y in batches:
            right += int((net(x.to(device)).argmax(-1) == y.to(device)).sum())
            total += len(y)
    net.train(training)
    return right / max(total, 1)


def accuracies(program: Program, test: Batches, device: torch.device) -> tuple[float, float]:
    """The accuracy of the network as it is, masked, and as if every site were binary already."""
    masked = accuracy(program.net, test, device)
    with program.binarized() as net:
        return masked, accuracy(net, test, device)


def samples(batches: Batches, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """About so many samples from all over some batches, all of one shape, with their labels."""
    share = -(-count // len(batches))
    with torch.random.fork_rng([]):  # loaders draw a seed for each pass
        picked = [evenly(batch, share) for batch in batches]
    alike = [(x, y) for x, y in picked if x.shape[1:] == picked[0][0].shape[1:]]
    return torch.cat([x for x, _ in alike]).to(device), torch.cat([y for _, y in alike]).to(device)


def evenly(batch: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    """So many samples of a batch, if it has them, at even distances."""
    x, y = batch
    chosen = torch.linspace(0, len(y) - 1, min(count, len(y))).long()
    return x[chosen], y[chosen]
