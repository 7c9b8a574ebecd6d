"""Two processes on one machine that train together, and the single process that they are compared with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional

import frostline as fl
from tests.models.small import spec

RANKS = 2
HALVES = (slice(0, 4), slice(4, 8))
"""What each rank takes of a batch."""
TURNING = 20
"""The steps in which sites turn; a few more follow, with all of them settled."""
STEPS = 23


class Blocks(nn.Module):
    """Residual blocks, `[n, 6]` to `[n, 5]`. BatchNorm would see a rank's own samples only; here is none."""

    def __init__(self, width: int = 15) -> None:  # no multiple of two: shards of different sizes
        super().__init__()
        self.stem = nn.Linear(6, width)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.Hardtanh()) for _ in range(3)
        )
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        for block in self.body:
            x = x + block(x)
        return self.head(x)


@dataclass
class Trained:
    """What a run leaves: the masks in every step as a digest, the parameters, and what else a test asks for."""

    masks: list[str]
    net: dict[str, Tensor]
    more: dict[str, Any] = field(default_factory=dict)


def program(closed: tuple[str, ...] = (), dtype: torch.dtype = torch.float64, **edits: Any) -> fl.Program:
    """The same program in every process. (In float64, rounding is far from turning a sign.)"""
    torch.manual_seed(0)
    made = fl.compile(Blocks(), spec(**edits), (torch.randn(2, 6),), total_steps=TURNING, closed=closed)
    made.net.to(dtype)
    return made


def train(
    made: fl.Program, net: Callable[[Tensor], Tensor], optimizer: Any, parts: Sequence[slice], until: int = STEPS
) -> list[str]:
    """Train on these parts of each batch, one after the other. Returns a digest of the masks in every step.

    A sum over two ranks is one of two terms, whose order does not matter: both halves alone are two ranks to the bit.
    """
    seen = []
    while made.step < until:
        generator = torch.Generator().manual_seed(made.step)
        x = torch.randn(8, 6, generator=generator, dtype=next(made.net.parameters()).dtype)
        y = torch.randint(5, (8,), generator=generator)
        for part in parts:
            (functional.cross_entropy(net(x[part]), y[part]) / len(parts)).backward()
        seen.append(digest(made))
        optimizer.step()
        optimizer.zero_grad()
        made.advance()
    return seen


def digest(made: fl.Program) -> str:
    """All that the masks hold."""
    held = blake2b(digest_size=8)
    for name, mask in sorted(made.driver.masks.items()):
        for buffer in mask.buffers():
            held.update(name.encode() + buffer.numpy().tobytes())
    return held.hexdigest()


def optimizer_of(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)


def alone(parts: Sequence[slice] = HALVES, **edits: Any) -> Trained:
    """One process on the same batches."""
    made = program(**edits)
    masks = train(made, made.net, optimizer_of(made.net), parts)
    return Trained(masks, made.net.state_dict())


def together(work: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """What `work(rank, *args)` returns in each of two processes that are connected by gloo."""
    spawn(_rank, (work, folder, args), nprocs=RANKS)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(RANKS)]


def _rank(rank: int, work: Callable[..., Any], folder: Path, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS, timeout=timedelta(minutes=4)
    )
    torch.save(work(rank, *args), folder / f"rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def torchrun(module: str, *arguments: str, ranks: int = RANKS, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a module by torchrun, on a port that is free."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m", module]
    known = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=known, timeout=500, check=False)  # noqa: S603
