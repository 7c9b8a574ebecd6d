"""What does it cost to round the weights that stay float to 8 bits? `python -m benchmarks.rounding`

Trains the networks of `examples/digits` with several seeds, and counts the test digits that each file gets right in
ONNX Runtime, with float32 weights in stem, shortcut and head, and with rounded ones.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import typer
from torch import Tensor

import frostline as fl
from examples.digits.data import tensors
from examples.digits.network import plain, residual
from examples.digits.training import trained
from frostline.passes import RoundWeights


def decisions(graph: fl.Graph, path: Path, images: Tensor) -> tuple[Tensor, int]:
    """What a graph's file decides, and its size, once it is proven."""
    certificate = fl.export(graph, path, inputs=(images,))
    session = fl.session(path, threads=1)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return torch.from_numpy(logits).argmax(1), certificate.file_bytes


def main(seeds: int = 5, epochs: int = 24) -> None:
    """Print a line for each network and seed."""
    _, (images, labels) = tensors()
    spec = fl.load_spec("examples/digits/schedule.yaml")
    for make in (plain, residual):
        for seed in range(seeds):
            torch.manual_seed(seed)
            binary = trained(make(), fl.edit_spec(spec, {"seed": seed}), epochs)
            with tempfile.TemporaryDirectory() as folder:
                one, before = decisions(binary, Path(folder) / "float.onnx", images)
                two, after = decisions(fl.run(binary, [RoundWeights()]), Path(folder) / "m.onnx", images)
            shares = [f"{float((decided == labels).float().mean()):.1%}" for decided in (one, two)]
            agreeing = int((one == two).sum())
            print(
                f"{make.__name__}-16, seed {seed}: {shares[0]} of {len(labels)}, rounded {shares[1]}; "
                f"{agreeing} decisions agree; {before:,} bytes, rounded {after:,}",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
