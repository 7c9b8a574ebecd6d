from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import frostline as fl
from frostline.benching import Bench, Contestant, Node
from frostline.errors import CheckpointError, FileError
from frostline.pages import Story, write_report_page
from frostline.pages.heat import Heat, blockade, flips
from frostline.records import Record
from frostline.reporting import report
from frostline.runs import Recipe, begin_run, finished, images_of, optimizer_of, program_of
from frostline.training import fit

Open = Callable[..., Any]

RECIPE = Recipe("tests.models.factories:model", "tests.models.factories:data", 5, 0.05, 0.9, 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with all that a run can have."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("runs") / "first"
    spec = fl.load_spec("stompp")
    program, (training, test) = program_of(spec, RECIPE)
    begin_run(path, spec, RECIPE)
    fit(program, optimizer_of(program, RECIPE), training, test, RECIPE.epochs, path, probe_every=2)
    binary, test = finished(path)
    fl.export(binary, path / "model.onnx", inputs=images_of(test))
    return path


def test_the_page_of_a_run_shows_all_that_there_is(opened: Open, folder: Path, tmp_path: Path) -> None:
    page_file = tmp_path / "report.html"
    assert report(folder, page_file) == (("speed", "it was not measured: frostline report --bench"),)
    page = opened(page_file, "dark")
    assert page.locator("h1").first.inner_text() == "Run first"
    assert page.locator("#accuracy .point.masked").count() == 5
    page.locator("#accuracy .point.binary").nth(1).hover(force=True)
    assert page.locator("#tip").inner_text().startswith("epoch 2, step 8")
    assert page.locator("#accuracy .band").count() == 2
    assert page.locator("#blockade path[fill]").count() > 1
    assert page.locator("#flips").count() == 1
    assert "16 of 16 decisions agree" in page.locator("#certificate").inner_text()
    assert page.locator("#model .row").count() == 4


def test_what_is_not_there_is_said(opened: Open, folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    shutil.copy(folder / "history.csv", part)
    missing = dict(report(part, tmp_path / "report.html"))
    assert missing["plan"] == "there is no run.json"
    assert missing["certificate and speed"] == f"there is no model.onnx: frostline export {part}"
    page = opened(tmp_path / "report.html")
    assert "train with --probe-every" in page.locator("#missing").inner_text()
    assert page.locator("#accuracy .point.masked").count() == 5
    assert page.locator("#blockade, #model, #certificate").count() == 0


def test_a_model_that_cannot_be_made_is_said(folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(folder, part)
    content = json.loads((part / "run.json").read_text())
    content["recipe"]["model"] = "nowhere:model"
    (part / "run.json").write_text(json.dumps(content))
    missing = dict(report(part, tmp_path / "report.html"))
    assert missing["plan"].startswith("nowhere cannot be imported; ModuleNotFoundError")
    assert 'id="blockade"' in (tmp_path / "report.html").read_text()


def test_no_run_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not the folder of a run"):
        report(tmp_path, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_history_is_an_error_with_the_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text((folder / "history.csv").read_text().replace("\n2,8,", "\n2,x,"))
    with pytest.raises(FileError, match=r"history\.csv:3: step is 'x'"):
        report(tmp_path, tmp_path / "report.html")


def test_speed_is_shown_node_by_node(opened: Open, tmp_path: Path) -> None:
    nodes = Node("conv1", "PackedConv", 3e-4, 10**7), Node("gemm", "Gemm", 1e-4, 0)
    ways = Contestant("model.onnx", "kernels", (4e-4, 5e-4)), Contestant("standard", "CPU", (1e-3, 1e-3))
    timed = Bench(ways, nodes, 1, 1, 1e11, "avx2", "ONNX Runtime")
    write_report_page(Story("x", {}, None, [], [], None, timed, []), tmp_path / "report.html")
    text = opened(tmp_path / "report.html").locator("#speed").inner_text()
    assert "75 %" in text
    assert "33" in text.split("conv1")[1].split("gemm")[0]


def row(step: int, depth: int, gradient: float, flipped: float | None) -> Record:
    return Record(
        step=step, depth=depth, kind="weight", site=f"{depth}.weight", start=0, stop=10, fraction=0.5, frozen=0.5,
        gradient=gradient, flips=flipped, loss=1.0, masked=None, binary=None,
    )  # fmt: skip


def test_a_gradient_of_exactly_0_is_drawn_apart() -> None:
    records = [row(0, 1, 0.5, None), row(0, 2, 0.0, None), row(5, 1, 0.005, 0.1), row(5, 2, 0.5, 0.0)]
    drawn = blockade(records, 10)
    assert drawn.zeros.count("M") == 1
    assert sum(path.count("M") for _, path in drawn.paths) == 3
    assert (drawn.low, drawn.high) == ("0.005", "0.5")
    flipped = flips(records, 10)
    assert flipped is not None
    assert flipped.high == "10.00%"
    assert all(path.startswith("M52.0 ") for _, path in flipped.paths)  # from the record before to this one
    assert flips(records[:2], 10) is None


def right_edge(drawn: Heat | None) -> float:
    assert drawn is not None
    cells = re.findall(r"M([\d.]+) [\d.]+h([\d.]+)", "".join(path for _, path in drawn.paths))
    return max(float(x) + float(wide) for x, wide in cells)


def test_maps_end_with_the_run_and_not_beyond_what_was_recorded() -> None:
    whole = [row(step, 1, 0.5, 0.1 if step else None) for step in (0, 5, 10)]
    assert right_edge(blockade(whole, 10)) == right_edge(flips(whole, 10)) == blockade(whole, 10).right
    begun = whole[:2]
    assert right_edge(blockade(begun, 100)) == pytest.approx(143.6)
