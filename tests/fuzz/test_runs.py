"""What others wrote into the folder of a run: its checkpoint, resumed, and its tables, reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import frostline as fl
from frostline.compiler.checkpoint import Checkpoints
from frostline.errors import CheckpointError
from frostline.reporting import report
from frostline.training import Interrupted, fit
from tests.frostline.test_training import EPOCHS, QUIET, InterruptedAfter
from tests.fuzz.borders import only_our_errors
from tests.fuzz.test_tables import CELLS, HEAD, ROW
from tests.models.factories import data, model
from tests.models.small import spec

PLAIN = st.recursive(
    st.sampled_from([None, True, 0, -1, 2**70, 0.5, float("nan"), "", "a", torch.zeros(3), torch.zeros(0, 2)]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["", "state", "param_groups", "cpu", "cuda", "python", "numpy", "params", 3]), inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)  # fmt: skip


def start(folder: Path, train: Any) -> None:
    torch.manual_seed(0)
    program = fl.compile(model(), spec(), (data()[0][0][0][:4],), total_steps=EPOCHS * 4)
    optimizer = torch.optim.SGD(program.net.parameters(), lr=0.1, momentum=0.9)
    fit(program, optimizer, train, data()[1], EPOCHS, folder, QUIET)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The checkpoint of a run that was stopped in the middle of an epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Interrupted):
        start(folder, InterruptedAfter(data()[0], 6))
    return Checkpoints(folder).latest()


@settings(max_examples=30, deadline=None)
@given(part=st.sampled_from(["program", "net", "optimizer", "history", "random", "probe"]), value=PLAIN)
@example("random", {"cpu": torch.zeros(3), "cuda": [], "python": [3, [0], None], "numpy": ["MT19937", None]})
@example("net", {3: 4})
@example("net", None)
@example("optimizer", {"state": {}, "param_groups": [{}]})
def test_a_run_that_holds_something_else(
    stopped: Any, tmp_path_factory: pytest.TempPathFactory, part: str, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("run")
    Checkpoints(folder).save(6, {**stopped, part: value})
    with only_our_errors():
        start(folder, data()[0])


def test_weights_of_another_type_are_not_cast(stopped: Any, tmp_path: Path) -> None:
    wider = {name: weight.double() if weight.is_floating_point() else weight for name, weight in stopped["net"].items()}
    Checkpoints(tmp_path).save(6, {**stopped, "net": wider})
    with pytest.raises(CheckpointError, match=r"weight is float32 \[.*\] here and float64 \[.*\] in the checkpoint"):
        start(tmp_path, data()[0])


@settings(max_examples=30, deadline=None)
@given(
    history=st.lists(st.tuples(st.integers(0, 5), CELLS), max_size=3),
    probe=st.lists(st.tuples(st.integers(0, 12), CELLS), max_size=3),
)
@example(history=[(1, "9" * 400)], probe=[])
@example(history=[(3, "nan")], probe=[(4, "9" * 19)])
def test_a_report_of_almost_tables(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[int, str]], probe: list[tuple[int, str]]
) -> None:
    folder = tmp_path_factory.mktemp("report")
    row = ["1", "21", "depth 2", "1.25", "0.9", "0.5"]
    told = [[*row[:place], cell, *row[place + 1 :]] for place, cell in history]
    seen = [[*ROW[:place], cell, *ROW[place + 1 :]] for place, cell in probe]
    (folder / "history.csv").write_text("epoch,step,window,loss,masked,binary\n" + _lines(told))
    (folder / "probe.csv").write_text(HEAD + _lines(seen))
    with only_our_errors():
        report(folder, folder / "page.html")
        assert "nan" not in (folder / "page.html").read_text().partition("<svg")[2].partition("</svg>")[0]


def _lines(rows: list[list[str]]) -> str:
    return "".join(",".join(row) + "\n" for row in rows)
