"""How small and how fast is a whole network beside its float original? `python -m benchmarks.networks [NAME ...]`

Networks of `examples/cifar` with random weights, as if they were trained: neither size nor speed asks what the weights
are. With `--keep first,last` the downsampling convolutions are binary as well; with `--round-weights` the weights that
stay float have 8 bits.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Annotated

import torch
import typer

import frostline as fl
from examples.cifar.networks.build import Images, build
from frostline.passes import RoundWeights


def files(name: str, keep: list[str], folder: Path, round_weights: bool = False) -> tuple[Path, Path]:
    """The binary file of a network, and its float original."""
    net = build(name, Images(10, 32, (0.5,) * 3, (0.25,) * 3))
    x = torch.rand(2, 3, 32, 32)
    spec = fl.edit_spec(fl.load_spec("stompp"), {"binarize.keep_float": keep})
    program = fl.compile(net, spec, (x,), total_steps=100)
    program.driver.resume(100)
    own, original = folder / f"{name}.onnx", folder / f"{name}-float.onnx"
    binary = fl.run(program.freeze(), [RoundWeights()] if round_weights else [])
    own.write_bytes(fl.lower(binary).SerializeToString())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (x,), original, dynamo=True, verbose=False, external_data=False,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )  # fmt: skip
    return own, original


def main(
    names: Annotated[list[str] | None, typer.Argument()] = None,
    keep: str = "first,last,downsample",
    round_weights: Annotated[bool, typer.Option("--round-weights")] = False,
    threads: int = 1,
    batch: int = 1,
    seconds: float = 10.0,
) -> None:
    """Print what each network takes, and `fl.bench` of it."""
    torch.manual_seed(0)
    for name in names or ["resnet18-bireal", "resnet18", "vgg16"]:
        with tempfile.TemporaryDirectory() as folder:
            own, original = files(name, keep.split(","), Path(folder), round_weights)
            sizes = own.stat().st_size, original.stat().st_size
            print(f"{name}: {sizes[0]:,} bytes for {sizes[1]:,} in float32, 1/{sizes[1] / sizes[0]:.1f}")
            print(f"{fl.bench(own, original, threads=threads, batch=batch, seconds=seconds)}\n", flush=True)


if __name__ == "__main__":
    typer.run(main)
