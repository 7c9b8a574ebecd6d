"""One network on digits along one spec, from its first weights to the accuracy of the frozen graph."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

import frostline as fl
from examples.digits.data import BATCH, tensors


def accuracy(model: nn.Module, spec: fl.ScheduleSpec, epochs: int) -> float:
    """Train with SGD, and return the share of test digits that the fully binary network gets right."""
    _, (images, labels) = tensors()
    binary = trained(model, spec, epochs).module.eval()
    with torch.no_grad():
        return float((binary(images).argmax(1) == labels).float().mean())


def trained(model: nn.Module, spec: fl.ScheduleSpec, epochs: int) -> fl.Graph:
    """Train with SGD, and return the frozen graph.

    The spec's seed decides the masks; torch's own generator the batches.
    """
    (images, labels), _ = tensors()
    program = fl.compile(model, spec, (images[:8],), total_steps=epochs * -(-len(labels) // BATCH))
    net = program.net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(BATCH):
            functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
            optimizer.zero_grad()
            program.advance()
    return program.freeze()
