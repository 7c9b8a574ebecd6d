from __future__ import annotations

import signal
from pathlib import Path

import torch.multiprocessing as mp

from tests.distributed.dying import lose


def test_when_a_rank_dies_the_other_ends_with_an_error(tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    ranks = [context.Process(target=lose, args=(rank, tmp_path)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(200)
    assert [rank.exitcode for rank in ranks] == [3, -signal.SIGKILL]
    assert (tmp_path / "error.txt").read_text().startswith("step 7: ")
