"""One network on digits along one spec, from its first weights to the accuracy of the frozen graph."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

import frostline as fl
from examples.digits.data import BATCH, tensors


def accuracy(model: nn.Module, spec: fl.ScheduleSpec, epochs: int) -> float:
    """Train with SGD, and return the share of test digits that the fully binary network gets right.

    The spec's seed decides the masks; torch's own generator the batches.
    """
    (images, labels), (test_images, test_labels) = tensors()
    program = fl.compile(model, spec, (images[:8],), total_steps=epochs * -(-len(labels) // BATCH))
    net = program.net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(BATCH):
            functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
            optimizer.zero_grad()
            program.advance()
    binary = program.freeze().module.eval()
    with torch.no_grad():
        return float((binary(test_images).argmax(1) == test_labels).float().mean())
