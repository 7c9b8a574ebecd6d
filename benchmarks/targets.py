"""How fast is a file of `cpu-int8` beside the same network in float32? `python -m benchmarks.targets`

Prints the time of one inference on one thread, for `portable` and `cpu-int8` in turns in one run, and their ratio: of
the medians, and of the best, which a busy machine disturbs less. `portable` is float32 at run time.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import frostline as fl
from frostline.benching import in_turns
from tests.models.resnet import BasicBlock, ResNet
from tests.models.small import chain, spec

TARGETS = ("portable", "cpu-int8")
SECONDS = 3.0


class FeedForward(nn.Module):
    """The linear half of a transformer: `[n, tokens, width]` to `[n, tokens, 10]`."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Hardtanh(), nn.Linear(4 * width, width))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions 128, 28x28": (lambda: chain(4, 128), (3, 28, 28)),
    "convolutions 256, 14x14": (lambda: chain(4, 256), (3, 14, 14)),
    "ResNet-18, 32x32": (lambda: ResNet(BasicBlock, (2, 2, 2, 2)), (3, 32, 32)),
    "feed-forward 512, 128 tokens": (lambda: FeedForward(512, 4), (128, 512)),
    "feed-forward 512, 1 token": (lambda: FeedForward(512, 4), (1, 512)),
}


def times(model: nn.Module, shape: tuple[int, ...]) -> list[list[float]]:
    """Seconds of single inferences, for each target; the targets take turns."""
    program = fl.compile(model, spec(), (torch.randn(2, *shape),), total_steps=100)
    program.driver.resume(100)
    binary, x = program.freeze(), torch.randn(1, *shape).numpy()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{target}.onnx" for target in TARGETS]
        for target, path in zip(TARGETS, paths, strict=True):
            path.write_bytes(fl.lower(binary, target).SerializeToString())
        sessions = [fl.session(path, provider="cpu", threads=1, kernels=False) for path in paths]
    return in_turns([partial(one.run, None, {one.get_inputs()[0].name: x}) for one in sessions], SECONDS)


def main() -> None:
    torch.manual_seed(0)
    print(f"{'':<30} {TARGETS[0]:>10} {TARGETS[1]:>10}   medians   best")
    for name, (make, shape) in NETS.items():
        first, second = times(make(), shape)
        medians = statistics.median(first), statistics.median(second)
        ratios = f"{medians[0] / medians[1]:7.2f} x {min(first) / min(second):4.2f} x"
        print(f"{name:<30} {1000 * medians[0]:7.2f} ms {1000 * medians[1]:7.2f} ms {ratios}", flush=True)


if __name__ == "__main__":
    main()
