from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from examples.ablations import drawing, reports
from examples.ablations.cells import Cell, cells_of, check
from examples.ablations.main import app
from examples.ablations.studies import METHODS, STUDIES
from examples.results import Line, append, read
from frostline.errors import FileError, UsageError


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", ["digits", "cifar10"])
def test_every_method_is_a_valid_spec(method: str, data: str) -> None:
    spec = Cell(data, "plain-16", method, seed=3, epochs=1, width=4).spec
    assert spec.seed == 3


def test_no_two_methods_are_the_same_on_digits() -> None:
    specs = {Cell("digits", "plain-16", method, 3, 1, 4).spec.model_dump_json() for method in METHODS}
    assert len(specs) == len(METHODS)


def test_every_study_names_known_methods() -> None:
    assert {method for study in STUDIES.values() for method in study.methods} == set(METHODS)


def test_studies_share_their_cells() -> None:
    cells = cells_of(["order", "regime"], "digits", range(2), 24, 12)
    assert len(cells) == len(set(cells)) == 2 * 2 * (6 + 4)


def result(network: str, method: str, seed: int, binary: float) -> Line:
    from torch import device

    return Cell("digits", network, method, seed, 24, 12.0).line(binary, 30.0, device("cpu"))


def test_a_run_is_one_line_and_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STUDIES, "tiny", STUDIES["bwn"].__class__("?", ("BWN, forward",), ("plain-4", "plain-2"), ()))
    file = tmp_path / "results.jsonl"
    command = ["run", "tiny", "--seeds", "1", "--epochs", "1", "--width", "4", "--workers", "1", "--results", str(file)]
    command += ["--network", "plain-4"]
    first = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "1 cells, 1 to run" in first.output
    (line,) = read(file, check)
    assert (line["network"], line["method"], line["epochs"], line["width"]) == ("plain-4", "BWN, forward", 1, 4.0)
    assert 0 < line["binary"] < 1
    assert "1 cells, 0 to run" in CliRunner().invoke(app, command, catch_exceptions=False).output
    assert read(file, check) == [line]


def test_a_table_has_a_row_a_network_and_mean_and_deviation_over_seeds() -> None:
    lines = [result("plain-16", "BWN, forward", seed, share) for seed, share in enumerate((0.9, 0.8, 0.7))]
    lines.append(result("plain-16", "BWN, forward", 2, 0.85))  # run again: the later counts
    assert reports.tables(lines) == ""  # one method compares nothing
    lines.append(result("plain-16", "BWN, reverse", 0, 0.6))
    text = reports.tables(lines)
    assert text.startswith(
        "**Does the order matter to weights alone?** `run bwn`: digits, 24 epochs, width 12, 1 to 3 seeds"
    )
    assert "| network | BWN, forward | BWN, reverse |" in text
    assert "| plain-16 | 85.0 ± 5.0 | 60.0 |" in text


def test_results_of_a_method_that_has_changed_do_not_count() -> None:
    line = dict(result("plain-16", "forward", 0, 0.5))
    line["spec"] = {**line["spec"], "seed": 99}
    assert reports.current([line]) == []


def test_the_picture_has_a_panel_for_each_study_with_results(tmp_path: Path) -> None:
    lines = [
        result(network, method, seed, 0.5 + 0.1 * seed)
        for network in STUDIES["depth"].digits
        for method in STUDIES["depth"].methods
        for seed in range(2)
    ]
    picture = tmp_path / "p.png"
    drawing.draw(lines, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileError, match="nothing to draw"):
        drawing.draw([], picture)


def test_bad_words_are_refused_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(app, ["run", "ordr", "--data", "mnist"], catch_exceptions=False)
    assert [fault.what for fault in caught.value.offences] == [
        'there is no study "ordr"',
        'there is no data "mnist"',
        "mnist is read from a folder",
    ]
    with pytest.raises(UsageError, match=r'no study of these tries the network "residual-9"\n.*residual-8'):
        CliRunner().invoke(app, ["run", "depth", "--network", "residual-9"], catch_exceptions=False)
    append(tmp_path / "r.jsonl", {"data": "digits"})
    with pytest.raises(FileError, match="is damaged"):
        CliRunner().invoke(app, ["table", "--results", str(tmp_path / "r.jsonl")], catch_exceptions=False)
