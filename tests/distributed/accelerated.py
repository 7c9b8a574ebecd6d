"""A loop with accelerate, for torchrun: `tests.distributed.accelerated FILE` saves what rank 0 has in the end."""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from tests.distributed.ranks import STEPS, digest, optimizer_of, program


def data(batch: int) -> DataLoader[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8 * STEPS, 6, generator=generator)
    return DataLoader(TensorDataset(x, torch.randint(5, (8 * STEPS,), generator=generator)), batch)


def main(path: str) -> None:
    accelerator = Accelerator(cpu=True)
    made = program(dtype=torch.float32)
    torch.manual_seed(accelerator.process_index)
    net, optimizer, loader = accelerator.prepare(made.net, optimizer_of(made.net), data(4))
    masks = []
    for x, y in loader:
        accelerator.backward(functional.cross_entropy(net(x), y))
        masks.append(digest(made))
        optimizer.step()
        optimizer.zero_grad()
        made.advance()
    everywhere = gather_object([masks])
    if accelerator.is_main_process:
        state = accelerator.unwrap_model(net).state_dict()
        torch.save({"masks": everywhere, "net": state, "kind": type(net).__name__}, path)
        made.freeze()
    # A rank that leaves while another still works, or whose net outlives the group, can abort in gloo's threads.
    accelerator.wait_for_everyone()
    del net, optimizer, loader
    accelerator.free_memory()
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1])
