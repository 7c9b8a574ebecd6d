from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from tests.distributed.accelerated import data
from tests.distributed.ranks import digest, optimizer_of, program, torchrun


def test_two_ranks_are_one_process_to_the_bit(tmp_path: Path) -> None:
    done = torchrun("tests.distributed.accelerated", str(tmp_path / "trained.pt"))
    assert done.returncode == 0, done.stderr
    trained = torch.load(tmp_path / "trained.pt")
    assert trained["kind"] == "DistributedDataParallel"

    made = program(dtype=torch.float32)
    optimizer, masks = optimizer_of(made.net), []
    for x, y in data(8):
        for half in (slice(0, 4), slice(4, 8)):
            (functional.cross_entropy(made.net(x[half]), y[half]) / 2).backward()
        masks.append(digest(made))
        optimizer.step()
        optimizer.zero_grad()
        made.advance()
    assert trained["masks"] == [masks, masks]
    assert all(torch.equal(trained["net"][name], value) for name, value in made.net.state_dict().items())
