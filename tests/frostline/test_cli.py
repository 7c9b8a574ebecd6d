from __future__ import annotations

import json
import os
import platform
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from frostline import __version__, cli

Run = Callable[..., tuple[int, str, str]]

FACTORIES = ["--model", "tests.models.factories:model", "--data", "tests.models.factories:data"]
SPEC = "schedules/stompp.yaml"


def frostline(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object
) -> tuple[int, str, str]:
    """Exit code, output and error output of a command."""
    monkeypatch.setattr(sys, "argv", ["frostline", *map(str, words)])
    try:
        cli.main()
        code = 0
    except SystemExit as exit:
        code = int(exit.code or 0)
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return code, out, err


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return lambda *words: frostline(capfd, monkeypatch, *words)


def test_the_whole_path_by_commands(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, out, _ = run("train", SPEC, *FACTORIES, "--epochs", 5, "--lr", 0.05, "--run", folder)
    assert code == 0
    assert "plan: 4 sites turn binary in 2 windows of 20 steps, 4 an epoch" in out
    assert "epoch   5  step    20" in out
    assert f"now: frostline export {folder}" in out

    code, out, _ = run("export", folder)
    assert code == 0
    assert "16 of 16 decisions agree" in out
    assert out.endswith(f"written {folder}/model.onnx\n")

    code, out, _ = run("verify", folder / "model.onnx")
    assert (code, out.splitlines()[-1]) == (0, f"{folder}/model.onnx: unchanged since it was proven")
    code, out, _ = run("verify", folder / "model.onnx", "--run", folder)
    assert (code, out.splitlines()[-1]) == (0, f"{folder}/model.onnx: proven anew")

    code, out, _ = run("export", folder, "--target", "cpu-int8", "--out", tmp_path / "bytes.onnx")
    assert (code, out.split(",")[0]) == (0, "certificate: target cpu-int8")
    code, out, _ = run("verify", tmp_path / "bytes.onnx", "--run", folder)
    assert (code, out.splitlines()[-1]) == (0, f"{tmp_path}/bytes.onnx: proven anew")
    proven = (folder / "model.onnx").read_bytes()
    code, out, _ = run("export", folder, "--target", "cpu-int8")
    assert (code, out.splitlines()[-1]) == (0, f"written {folder}/model-cpu-int8.onnx")
    assert (folder / "model.onnx").read_bytes() == proven
    code, _, err = run("export", folder, "--target", "cpu-int16")
    assert (code, err.splitlines()[-1]) == (9, '    -> did you mean "cpu-int8" or "cuda-fp16"?')

    code, out, _ = run("report", folder)
    assert (code, out.splitlines()[-1]) == (0, f"written {folder}/report.html")
    assert "without gradients and flips: there is no probe.csv: train with --probe-every" in out

    code, out, _ = run("show", folder / "model.onnx")
    assert code == 0
    assert "BinaryConv" in out

    code, out, _ = run("train", SPEC, *FACTORIES, "--epochs", 5, "--lr", 0.05, "--run", folder)
    assert code == 0
    assert out.startswith(f"{folder} is trained already at step 20 of 20\n")

    code, _, err = run("train", SPEC, *FACTORIES, "--epochs", 6, "--lr", 0.05, "--run", folder)
    assert code == 7
    assert "epochs is 6 now and was 5" in err
    code, out, err = run(
        "train", "schedules/vanilla-ste.yaml", *FACTORIES, "--epochs", 5, "--lr", 0.05, "--run", folder
    )
    assert (code, out) == (7, "")
    assert "3.weight turns in [0, 20) here and in [1, 10) in the checkpoint" in err


def test_check(run: Run, tmp_path: Path) -> None:
    assert run("check", SPEC) == (0, f"{SPEC}: valid\n", "")
    (tmp_path / "bad.yaml").write_text("version: 3\n")
    code, out, err = run("check", tmp_path / "bad.yaml")
    assert (code, out) == (3, "")
    assert f'{tmp_path}/bad.yaml:1: "version": should be 1, got 3' in err


def test_schema(run: Run) -> None:
    code, out, _ = run("schema")
    assert code == 0
    assert json.loads(out)["title"] == "ScheduleSpec"


def test_plan_with_an_input_or_with_data(run: Run) -> None:
    code, out, _ = run("plan", SPEC, *FACTORIES[:2], "--input", "2x3x8x8", "--steps", 1000)
    assert code == 0
    assert "depth 2  [50, 475)" in out
    code, out, _ = run("plan", SPEC, *FACTORIES, "--epochs", 250)
    assert code == 0
    assert "depth 2  [50, 475)" in out


def test_a_plan_is_drawn_and_compared(run: Run, tmp_path: Path) -> None:
    words = ["plan", SPEC, *FACTORIES[:2], "--input", "2x3x8x8", "--steps", 1000]
    code, out, _ = run(*words, "--against", "reverse", "--html", tmp_path / "plan.html")
    assert code == 0
    assert "progression.order  forward" in out
    assert "of them on bits" in out
    assert out.endswith(f"written {tmp_path}/plan.html\n")
    assert 'id="comparison"' in (tmp_path / "plan.html").read_text()
    code, _, err = run(*words, "--draw", tmp_path / "plan.bmp")
    assert (code, err.splitlines()[-1]) == (2, "    -> end it in .html, .png, .svg, .pdf")


def planning(factory: str, shape: str = "2x4", steps: int = 9) -> list[object]:
    return ["plan", SPEC, "--model", factory, "--steps", steps, "--input", shape]


MODULE = "tests.models.factories"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["plan", SPEC, "--model", f"{MODULE}:model", "--steps", 9], 2, "give --input 2x3x32x32"),
        (["plan", SPEC, *FACTORIES], 2, "give --steps N"),
        (["plan", SPEC, *FACTORIES, "--steps", 9, "--epochs", 9], 2, "give --steps N"),
        (planning(f"{MODULE}:none"), 2, "tests.models.factories has no function none"),
        (planning(f"{MODULE}:mod"), 2, '-> did you mean "model"'),
        (planning(f"{MODULE}:loader"), 2, f"{MODULE} has no function loader\n"),
        (planning("nowhere:none"), 2, "No module named 'nowhere'\n    -> modules are found from the current folder"),
        (planning("nowhere.at_all:none"), 2, "'nowhere'\n    -> modules are found from the current folder"),
        (planning(f"{MODULE}:importing"), 2, "'missing'\n    -> install the package that brings missing; a module"),
        (planning("nowhere"), 2, "write it as module:function"),
        (planning(f"{MODULE}:number"), 2, "it should return a torch.nn.Module"),
        (planning(f"{MODULE}:broken"), 2, "tests/models/factories.py:22: ValueError: no such thing"),
        (planning(f"{MODULE}:model", "2xy"), 2, '"2xy" is not a shape'),
        (planning(f"{MODULE}:drawing", "2x3x8x8"), 4, "the forward draws random numbers from Python or numpy"),
        (planning(f"{MODULE}:model", "2x3x8x8", 1), 5, "of 1 steps for 2 windows"),
        (["check", "none.yaml"], 3, "cannot read the spec none.yaml"),
        (["verify", "none.onnx"], 8, "cannot read none.onnx"),
        (["show", SPEC], 8, "is not an ONNX model"),
        (["draw", "none.csv"], 8, "cannot read none.csv"),
        (["draw", SPEC], 8, "schedules/stompp.yaml:1: its first line is not step,depth,kind"),
        (["draw", "none.csv", "--out", "p.bmp"], 2, "end it in .png, .svg, .pdf"),
        (["export", "nowhere"], 7, "nowhere is not the folder of a run"),
        (["draw", "."], 8, "cannot read ."),
        (["show", "/dev/zero"], 8, "it is no file"),
        (["bench", "a" * 5000], 8, "File name too long"),
        (["check", "/dev/zero"], 3, "it has more than 100,000 characters"),
        (["train", SPEC, "--model", "a:b"], 2, "Missing option"),
        (["fly"], 2, "No such command"),
    ],
)
def test_bad_input_is_a_message_and_an_exit_code(run: Run, words: list[object], code: int, message: str) -> None:
    got, _, err = run(*words)
    assert message in err
    assert got == code


def test_help_teaches(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for command in ("check", "schema", "plan", "train", "draw", "export", "report", "verify", "show"):
        assert command in out
    assert "A first run" in out
    assert "1 failed" in out


def test_versions(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith(f"frostline {__version__} (torch {torch.__version__}, onnxruntime")
    assert out.endswith(f"Python {platform.python_version()})\n")


def test_a_terminal_is_told_what_takes_its_time() -> None:
    ours, theirs = pty.openpty()
    words = ["doctor", f"{MODULE}:model", "--input", "2x3x8x8"]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "frostline", *words], stdout=subprocess.PIPE, stderr=theirs, text=True, check=True
    )
    os.close(theirs)
    assert "capturing ..." in os.read(ours, 1000).decode()
    os.close(ours)
    assert done.stdout.startswith("Sequential: captured by fx")


def test_python_m_frostline(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "frostline", "check", os.path.abspath(SPEC)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("stompp.yaml: valid\n")


def test_a_start_that_failed_leaves_no_run_behind(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["train", SPEC, "--epochs", 5, "--run", folder, "--data", f"{MODULE}:data"]
    assert run(*words, "--model", f"{MODULE}:modle")[0] == 2
    assert not folder.exists()
    assert run(*words, "--model", f"{MODULE}:model", "--lr", "nan")[0] == 2
    assert run(*words, "--model", f"{MODULE}:model")[0] == 0
    assert run("export", folder)[0] == 0


def test_weights_that_stay_float_are_rounded_where_that_is_asked_for(run: Run, tmp_path: Path) -> None:
    folder, other = tmp_path / "run", tmp_path / "bytes.onnx"
    assert run("train", SPEC, *FACTORIES, "--epochs", 5, "--lr", 0.05, "--run", folder)[0] == 0
    code, out, _ = run("export", folder)
    assert (code, "in 8 bits" in out) == (0, False)
    code, out, _ = run("export", folder, "--round-weights", "--out", other)
    assert (code, "\n  in 8 bits    128 weights of operations that stay float\n" in out) == (0, True)
    for file in (other, folder / "model.onnx"):
        code, out, _ = run("verify", file, "--run", folder)
        assert (code, out.splitlines()[-1]) == (0, f"{file}: proven anew")
    code, out, _ = run("show", other)
    assert code == 0
    assert "4 x 3 x 3 x 3, 8 bits" in out
    code, out, _ = run("export", folder, "--round-weights")
    assert (code, out.splitlines()[-1]) == (0, f"written {folder}/model.onnx")
    assert "in 8 bits" in out
    assert run("report", folder)[0] == 0


def test_a_run_is_probed_and_drawn(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["--epochs", 5, "--lr", 0.05, "--run", folder, "--probe-every", 10]
    assert run("train", SPEC, *FACTORIES, *words)[0] == 0
    assert run("draw", folder / "probe.csv") == (0, f"written {folder}/probe.png\n", "")
    assert run("draw", folder / "probe.csv", "--out", tmp_path / "p.svg") == (0, f"written {tmp_path}/p.svg\n", "")
    assert (folder / "probe.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "p.svg").read_text()


def test_a_run_that_is_not_done_is_not_exported(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    monkeypatch.setattr("frostline.measuring.accuracy", interrupt_at_once)
    words = ["train", SPEC, *FACTORIES, "--epochs", 5, "--run", folder]
    code, _, err = run(*words)
    assert code == 130
    assert f"interrupted at step 4 of 20, saved in {folder}; the same command goes on" in err
    code, _, err = run("export", folder)
    assert code == 7
    assert "step 4 of 20\n    -> run the same `frostline train` again" in err


def interrupt_at_once(*_: object) -> float:
    os.kill(os.getpid(), signal.SIGINT)
    return 0.0


def test_the_doctor_says_what_stands_in_the_way(run: Run) -> None:
    code, out, _ = run("doctor", "tests.models.factories:branching_with_example")
    assert code == 0
    assert out.startswith("Branching: captured by regions\n\nfx: fails\n  tests/models/small.py:")
    code, out, _ = run("doctor", "tests.models.factories:model", "--input", "2x3x8x8")
    assert code == 0
    assert "fx: taken" in out
    assert "4 weights and 4 activations can turn binary, in 4 levels of depth" in out
    code, out, _ = run("doctor", "tests.models.factories:drawing_with_example")
    assert code == 4
    assert "no front end captures it" in out
    assert run("doctor", "tests.models.factories:model")[0] == 2
    assert run("doctor", "tests.models.factories:number", "--input", "2")[0] == 2


def test_a_run_whose_batch_norm_is_estimated_anew(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run("train", "stompp-fine-tuned", *FACTORIES, "--epochs", 5, "--lr", 0.05, "--run", folder)[0] == 0
    code, out, _ = run("export", folder)
    assert code == 0
    assert "16 of 16 decisions agree" in out
    code, out, _ = run("verify", folder / "model.onnx", "--run", folder)
    assert (code, out.splitlines()[-1]) == (0, f"{folder}/model.onnx: proven anew")


def test_a_run_goes_on_under_an_edited_spec(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    words = [*FACTORIES, "--epochs", 5, "--lr", 0.05, "--run", folder, "--checkpoint-every", 3]
    with monkeypatch.context() as patched:
        patched.setattr("frostline.measuring.accuracy", interrupt_at_once)
        assert run("train", SPEC, *words)[0] == 130
    code, _, err = run("train", "stompp-ste", *words)
    assert code == 7
    assert "spec gradient.frozen is clipped here and none in the checkpoint" in err
    assert "-> to go on under this plan: edited=True, or `frostline train --edited-spec`" in err

    code, out, _ = run("train", "stompp-ste", *words, "--edited-spec")
    assert code == 0
    assert out.startswith("the run goes on under another plan:\nplan is ")
    assert "\nspec gradient.frozen is clipped here and none in the checkpoint\n" in out
    assert f"{folder} continues at step 4 of 20" in out
    assert json.loads((folder / "run.json").read_text())["spec"]["gradient"] == {"frozen": "clipped"}
    assert run("export", folder)[0] == 0

    code, out, _ = run("train", "stompp-ste", *words, "--edited-spec")
    assert code == 0
    assert "another plan" not in out


def test_an_edited_spec_for_a_new_run_is_the_spec(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run("train", SPEC, *FACTORIES, "--epochs", 5, "--run", folder, "--edited-spec")[0] == 0
    assert run("export", folder)[0] == 0


def test_a_damaged_checkpoint_is_told_and_passed_over(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["train", SPEC, *FACTORIES, "--epochs", 5, "--lr", 0.05, "--run", folder]
    assert run(*words)[0] == 0
    (folder / "checkpoint-000020.pt").write_bytes(b"")
    code, _, err = run("export", folder)
    assert code == 7
    assert err.startswith(f"warning: the checkpoint {folder}/checkpoint-000020.pt is damaged: truncated or altered; ")
    assert "step 16 of 20\n    -> run the same `frostline train` again" in err
    code, out, _ = run(*words)
    assert code == 0
    assert "checkpoint-000016.pt is used in its place" in " ".join(out.split())
    assert run("export", folder)[0] == 0


def test_names_that_are_no_text_are_shown_all_the_same(run: Run, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\x1b[2J.yaml")
    path.write_text(Path(SPEC).read_text())
    assert run("check", path) == (0, f"{tmp_path}/\\udcff\\x1b[2J.yaml: valid\n", "")
    path.write_text("seed: !!python/name:os.system\n")
    code, _, err = run("check", path)
    assert (code, err.splitlines()[1]) == (3, f"  {tmp_path}/\\udcff\\x1b[2J.yaml:1: tags are not part of a spec")


def test_a_model_that_branches_on_values_becomes_a_file_for_each_region(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    factories = ["--model", f"{MODULE}:choosing", "--data", f"{MODULE}:data"]
    code, out, _ = run("plan", SPEC, *factories, "--epochs", 5)
    assert code == 0
    assert "in 3 files, one for each region: stem, near, head" in out
    assert "far.weight outside of the regions: on a branch that the example did not take" in " ".join(out.split())
    code, out, err = run("train", SPEC, *factories, "--epochs", 5, "--lr", 0.05, "--run", folder)
    assert code == 0
    assert (
        "warning: the model branches on values: it becomes a file for each region (stem, near, head), never one" in err
    )
    code, out, _ = run("export", folder)
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("written")] == [
        f"written {folder}/model.{region}.onnx" for region in ("stem", "near", "head")
    ]
    assert run("show", folder / "model.near.onnx")[0] == 0
    code, out, _ = run("export", folder, "--round-weights", "--out", tmp_path / "bytes.onnx")
    assert (code, out.count("in 8 bits")) == (0, 2)


def test_what_a_factory_itself_cannot_import_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy.py").write_text("import absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    code, _, err = run(*planning("needy:none"))
    assert code == 2
    assert "needy.py:1: ModuleNotFoundError: No module named 'absent'\n    -> " in err
    assert "absent" in err.splitlines()[-1]


def test_a_message_fits_on_a_screen(run: Run, tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text("".join(f"k{index}: 1\n" for index in range(500)) + f"{'x' * 900}: 1\n")
    code, _, err = run("check", tmp_path / "long.yaml")
    assert code == 3
    assert err.endswith("  and 476 more\n")
    assert len(err.splitlines()) < 60


def test_inputs_that_no_memory_holds(run: Run, chain_file: Path) -> None:
    code, _, err = run("bench", chain_file, "--batch", 10**12, "--seconds", 0.1)
    assert code == 2
    assert "is larger than the memory" in err


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "5",
        '{"recipe": 5}',
        '{"recipe": {"model": 1, "epochs": "x"}, "spec": {}}',
        "\xff",
        '{"recipe": {}',
    ],
    ids=range(6),
)
def test_a_run_that_others_wrote(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    code, _, err = run("export", tmp_path)
    assert code == 7
    assert f"{tmp_path}/run.json cannot be read" in err


@pytest.mark.parametrize("out", ["folder", "folder/none/p.png", "a" * 300 + ".png"])
def test_what_cannot_be_written_is_a_message(run: Run, tmp_path: Path, out: str) -> None:
    (tmp_path / "folder").mkdir()
    words = ["--epochs", 5, "--lr", 0.05, "--run", tmp_path / "run", "--probe-every", 10]
    assert run("train", SPEC, *FACTORIES, *words)[0] == 0
    code, _, err = run("export", tmp_path / "run", "--out", tmp_path / out)
    assert code == 8
    assert "cannot write" in err


def test_a_link_is_replaced_and_not_followed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out.png").symlink_to(tmp_path / "precious")
    words = ["--epochs", 5, "--lr", 0.05, "--run", tmp_path / "run", "--probe-every", 10]
    assert run("train", SPEC, *FACTORIES, *words)[0] == 0
    assert run("draw", tmp_path / "run" / "probe.csv", "--out", tmp_path / "out.png")[0] == 0
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "out.png").is_symlink()
