"""Digits on any number of processes, on CPUs or GPUs. Start it again, with as many or fewer or more, and it goes on.

`torchrun --nproc-per-node 2 -m examples.distributed.main`
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import torch
import torch.distributed as dist
import typer
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import frostline as fl
from examples import command_line
from examples.digits.data import BATCH, tensors
from examples.digits.network import residual
from frostline.errors import Offence, UsageError

SPEC = Path("examples/digits/schedule.yaml")
CHECKPOINT = "checkpoint.pt"

app = typer.Typer(help=__doc__, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    epochs: Annotated[int, typer.Option(min=1)] = 24,
    folder: Annotated[Path, typer.Option(help="Where the checkpoint and the file go.")] = Path("runs/distributed"),
) -> None:
    """Train, freeze, export and prove."""
    device = join()
    try:
        program = train(device, epochs, folder)
        if dist.get_rank() == 0:
            ship(program, folder / "model.onnx")
        dist.barrier()  # a rank that ends while gloo's threads still hold its last gradients can abort
    finally:
        dist.destroy_process_group()


def join() -> torch.device:
    """Meet the other ranks, and take one of the GPUs where there are some."""
    if not torch.cuda.is_available():
        dist.init_process_group("gloo")
        return torch.device("cpu")
    dist.init_process_group("nccl")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def train(device: torch.device, epochs: int, folder: Path) -> fl.Program:
    """Train to the end of the plan, or on from the checkpoint in `folder`. Rank 0 writes one after every epoch."""
    sampler, loader = batches()
    spec = fl.load_spec(SPEC)
    torch.manual_seed(spec.seed)
    example = torch.zeros(2, 1, 8, 8, device=device)
    program = fl.compile(residual().to(device), spec, (example,), total_steps=epochs * len(loader))
    net = DistributedDataParallel(program.net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    if (folder / CHECKPOINT).exists():
        resume(program, optimizer, folder)

    for epoch in range(program.step // len(loader), epochs):
        sampler.set_epoch(epoch)
        loss = torch.zeros(())
        for x, y in loader:
            loss = functional.cross_entropy(net(x.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            program.advance()
        if dist.get_rank() == 0:
            save(program, optimizer, folder)
            print(f"epoch {epoch + 1:3d}  loss {loss:.3f}  {accuracy(program, device):6.1%} of test digits", flush=True)
    return program


def batches() -> tuple[DistributedSampler[tuple[torch.Tensor, ...]], DataLoader[tuple[torch.Tensor, ...]]]:
    """This rank's part of the batches. A batch holds the same digits, however many ranks share it."""
    ranks = dist.get_world_size()
    if BATCH % ranks:
        remedy = f"start as many as divide {BATCH}"
        raise UsageError("the batches cannot be shared", [Offence(f"{BATCH} digits and {ranks} ranks", remedy=remedy)])
    data = TensorDataset(*tensors()[0])
    sampler: DistributedSampler[tuple[torch.Tensor, ...]] = DistributedSampler(data, drop_last=True)
    return sampler, DataLoader(data, BATCH // ranks, sampler=sampler, drop_last=True)


def save(program: fl.Program, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """What one rank writes is good for any number of them: a program's state knows nothing of ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {"program": program.state_dict(), "net": program.net.state_dict(), "optimizer": optimizer.state_dict()}
    fl.save_checkpoint(folder / CHECKPOINT, state)


def resume(program: fl.Program, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Go on at the step of a checkpoint, which every rank reads."""
    state = fl.load_checkpoint(folder / CHECKPOINT)
    program.load_state_dict(state["program"])
    program.net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    if dist.get_rank() == 0:
        print(f"{folder} continues at step {program.step} of {program.plan.total_steps}", flush=True)


def accuracy(program: fl.Program, device: torch.device) -> float:
    """The share of test digits that the network, as if it were fully binary, gets right. One rank is enough."""
    images, labels = tensors()[1]
    with torch.no_grad(), program.binarized() as net:
        logits = net.eval()(images.to(device)).cpu()
        net.train()
    return float((logits.argmax(1) == labels).float().mean())


def ship(program: fl.Program, path: Path) -> None:
    """Freeze, export and prove."""
    certificate = fl.export(program.freeze(), path, inputs=(tensors()[1][0],))
    print(f"\n{certificate}", flush=True)


if __name__ == "__main__":
    command_line.run(app)
