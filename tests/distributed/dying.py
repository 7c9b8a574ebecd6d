"""A rank that is killed, as a machine that fails would be: in the middle of a step, without a word."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import frostline as fl
from tests.distributed.ranks import HALVES, optimizer_of, program, train

DIES_AT = 25


def lose(rank: int, folder: Path) -> None:
    """Of two connected processes the second is killed; what the first then meets is written down."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(minutes=4)
    )
    made = program()
    net = DistributedDataParallel(made.net)
    optimizer = optimizer_of(net)
    train(made, net, optimizer, HALVES[rank : rank + 1], 7)
    if rank:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        train(made, net, optimizer, HALVES[:1])
    except RuntimeError as error:
        (folder / "error.txt").write_text(f"step {made.step}: {error}")
        os._exit(3)


def main() -> None:
    """The example, for torchrun; its last rank is killed in step 25."""
    from examples import command_line
    from examples.distributed.main import app

    advance = fl.Program.advance

    def dies(made: fl.Program) -> None:
        if made.step == DIES_AT and dist.get_rank() == dist.get_world_size() - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        advance(made)

    with patch.object(fl.Program, "advance", dies):
        command_line.run(app)


if __name__ == "__main__":
    main()
