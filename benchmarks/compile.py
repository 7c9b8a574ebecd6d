"""How long does `compile` take, and does it grow linearly? `python -m benchmarks.compile`

Prints seconds for ResNet-50 with its proof and on the meta device, and the ratio of a chain of 1,000 layers to one of
500, both in the same run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import frostline as fl
from tests.models.resnet import resnet50

SPEC = """
version: 1
binarize: {weights: true, activations: true, keep_float: [first, last, downsample]}
gradient: {frozen: none}
progression: {order: forward, curve: {kind: power, exponent: 3}, refresh: {rate: 100}, warmup: 5%, tail: 10%}
seed: 0
"""


def chain(layers: int) -> nn.Module:
    """Linear, BatchNorm, Hardtanh, as often as asked."""
    units = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Hardtanh()) for _ in range(layers)]
    return nn.Sequential(*units, nn.Linear(8, 4))


def seconds(make: Callable[[], nn.Module], shape: tuple[int, ...], repeats: int = 3) -> tuple[float, int]:
    """The median time of `compile`, and the number of windows that it planned."""
    spec, times, windows = fl.read_spec(SPEC), [], 0
    for _ in range(repeats):
        model = make()
        x = torch.randn(shape, device=next(model.parameters()).device)
        start = time.perf_counter()
        program = fl.compile(model, spec, (x,), total_steps=100_000)
        times.append(time.perf_counter() - start)
        windows = len(program.plan.windows)
    return statistics.median(times), windows


def main() -> None:
    for name, make in (("ResNet-50", resnet50), ("ResNet-50 on meta", lambda: resnet50().to("meta"))):
        taken, windows = seconds(make, (2, 3, 32, 32))
        print(f"{name:<24} {taken:6.2f} s  {windows} windows")
    short, _ = seconds(lambda: chain(500), (4, 8))
    long, _ = seconds(lambda: chain(1000), (4, 8))
    print(f"{'chain of 500 layers':<24} {short:6.2f} s")
    print(f"{'chain of 1,000 layers':<24} {long:6.2f} s  {long / short:.2f} x the half")


if __name__ == "__main__":
    main()
