"""Which order, and which gradient? Sixteen binary convolutions on digits, plain and residual, in four ways.

Run it with `python -m examples.digits.order`; `--help` names the options. It prints the test accuracy of the fully
binary network, in per cent, one number a seed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

import frostline as fl
from examples.digits.data import BATCH, tensors
from examples.digits.network import plain, residual

NETWORKS = {"plain chain": plain, "residual blocks of two": residual}
"""The sixteen convolutions, as they are joined."""

METHODS: dict[str, Mapping[str, Any]] = {
    "STE (clipped)": {
        "progression.order": "global", "progression.curve": {"kind": "instant"}, "progression.tail": 0,
        "gradient.frozen": "clipped",
    },
    "forward": {"progression.order": "forward", "gradient.frozen": "none"},
    "reverse": {"progression.order": "reverse", "gradient.frozen": "none"},
    "forward + STE (clipped)": {"progression.order": "forward", "gradient.frozen": "clipped"},
}  # fmt: skip
"""What each way changes in `schedule.yaml`."""


def accuracy(network: str, method: str, seed: int, epochs: int = 24, width: int = 12) -> float:
    """Train one network in one way, and return the test accuracy of the fully binary network, in per cent."""
    (images, labels), (test_images, test_labels) = tensors()
    schedule = fl.load_spec(Path(__file__).with_name("schedule.yaml"))
    spec = fl.edit_spec(schedule, {**METHODS[method], "seed": seed})
    torch.manual_seed(seed)
    model = NETWORKS[network](width)
    per_epoch = -(-len(labels) // BATCH)
    program = fl.compile(model, spec, (images[:8],), total_steps=epochs * per_epoch)
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
        return float((binary(test_images).argmax(1) == test_labels).float().mean()) * 100


def table(seeds: int, epochs: int, width: int, workers: int) -> str:
    """All networks in all ways, as a Markdown table."""
    cells = list(product(NETWORKS, METHODS, range(seeds)))
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs = {cell: pool.submit(accuracy, cell[0], cell[1], cell[2], epochs, width) for cell in cells}
        results = {cell: job.result() for cell, job in jobs.items()}
    lines = [f"| 16 layers | {' | '.join(METHODS)} |", "|---" * (len(METHODS) + 1) + "|"]
    for network in NETWORKS:
        shown = [", ".join(f"{results[network, method, seed]:.1f}" for seed in range(seeds)) for method in METHODS]
        lines.append(f"| {network} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="runs for each cell of the table")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--width", type=int, default=12, help="channels of the first eight convolutions")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="runs at the same time")
    arguments = parser.parse_args()
    print(table(arguments.seeds, arguments.epochs, arguments.width, arguments.workers))


if __name__ == "__main__":
    main()
