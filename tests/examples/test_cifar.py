from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from examples.cifar import augment, main, results, rows
from examples.cifar.average import Average
from examples.cifar.data import load
from examples.cifar.recipe import Settings, optimizer_of, rate_at, settings_of
from examples.cifar.train import Training
from examples.cifar.trained import CHECKPOINT
from frostline.errors import CheckpointError, FrostlineError, UsageError

CPU = torch.device("cpu")
ROW = "cifar10-vgg7-stompp-ste"
TINY = {"width": 1 / 16, "epochs": 3, "batch": 16, "lr": 0.02}

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Exit code, output and error output of a command, run from an empty folder."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cifar", *map(str, words)])
        monkeypatch.chdir(tmp_path)
        try:
            main.main()
            code = 0
        except SystemExit as exit:
            code = int(exit.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def training(mosaics: Path, folder: Path, row: str = ROW, **changes: Any) -> Training:
    settings = settings_of(row, {**TINY, **changes}).on(CPU)
    return Training(settings, load("cifar10", mosaics), folder, mosaics, CPU)


# Augmentation


def test_a_shift_is_a_crop_of_the_padded_image_mirrored_or_not() -> None:
    images = torch.randint(0, 256, (40, 3, 7, 9), dtype=torch.uint8)
    padded = functional.pad(images.float(), (2, 2, 2, 2), mode="reflect")
    shifted = augment.shift(images, 2).float()
    seen = set()
    for one, given in zip(padded, shifted, strict=True):
        crops = {(y, x): one[:, y : y + 7, x : x + 9] for y in range(5) for x in range(5)}
        found = [
            (place, flipped)
            for place, crop in crops.items()
            for flipped in (False, True)
            if torch.equal(crop.flip(2) if flipped else crop, given)
        ]
        assert found
        seen.update(found)
    assert len(seen) > 20
    assert {flipped for _, flipped in seen} == {False, True}


def test_a_hole_has_the_mean_colour_and_leaves_the_rest() -> None:
    images = torch.rand(50, 3, 12, 12)
    holed = augment.cutout(images, 4)
    changed = (holed != images).any(1).sum((1, 2))
    assert changed.min() >= 4  # around a corner a quarter is left
    assert changed.max() == 16
    colour = holed[(holed != images).any(1)[:, None].expand_as(images)].reshape(-1)
    assert torch.isin(colour, images.mean((0, 2, 3))).all()


def test_a_zoom_keeps_the_shape_and_the_range_and_the_whole_at_most() -> None:
    ramp = torch.linspace(0, 1, 32).expand(64, 3, 32, 32)
    zoomed = augment.zoom(ramp)
    assert zoomed.shape == ramp.shape
    assert zoomed.min() >= 0
    assert zoomed.max() <= 1
    spans = (zoomed[:, 0, 0, -1] - zoomed[:, 0, 0, 0]).abs()
    assert spans.min() > 0.35 * 0.5
    assert len(spans.unique()) > 30


# Recipe


def test_rates() -> None:
    curves = {kind: [rate_at(kind, step / 100) for step in range(101)] for kind in ("constant", "cosine", "one-cycle")}
    assert set(curves["constant"]) == {1.0}
    assert curves["cosine"] == sorted(curves["cosine"], reverse=True)
    assert (curves["cosine"][0], curves["cosine"][-1]) == (1, 0)
    assert curves["one-cycle"][0] == pytest.approx(1 / 25)
    assert max(curves["one-cycle"]) == curves["one-cycle"][30] == pytest.approx(1)
    assert curves["one-cycle"][-1] == 0


def test_weight_decay_spares_latent_weights_by_default(mosaics: Path, tmp_path: Path) -> None:
    made = training(mosaics, tmp_path / "run", weight_decay=0.1)
    names = {parameter: name for name, parameter in made.net.named_parameters()}
    latent = {"body.0.weight", "body.4.weight", "body.7.weight", "body.11.weight", "body.14.weight"}

    def decayed(optimizer: torch.optim.Optimizer) -> set[str]:
        return {names[one] for group in optimizer.param_groups if group["weight_decay"] for one in group["params"]}

    assert decayed(made.optimizer) == set(names.values()) - latent
    everything = settings_of(ROW, {"weight_decay": 0.1, "decay_latent": True})
    assert decayed(optimizer_of(made.net, latent, everything)) == set(names.values())


def test_adamw_and_nesterov_are_what_is_asked_for() -> None:
    net = nn.Linear(2, 2)
    adam = optimizer_of(net, (), settings_of(ROW, {"optimizer": "adamw", "lr": 0.01}))
    assert isinstance(adam, torch.optim.AdamW)
    assert optimizer_of(net, (), settings_of(ROW, {"nesterov": True})).param_groups[0]["nesterov"]


def test_the_average_follows_forgets_the_start_and_steps_aside() -> None:
    linear = nn.Linear(1, 1, bias=False)
    net, weight = nn.Sequential(linear, nn.BatchNorm1d(1)), linear.weight
    nn.init.zeros_(weight)
    average = Average(net, 0.9)
    values = []
    for value in (1.0, 1.0, 5.0):
        nn.init.constant_(weight, value)
        average.update()
        with average.applied():
            values.append(weight.item())
        assert weight.item() == value
    # decays 2/11, 3/12, 4/13
    expected = [9 / 11, 0.25 * 9 / 11 + 0.75]
    assert values == pytest.approx([*expected, 4 / 13 * expected[1] + 9 / 13 * 5])
    again = Average(net, 0.9)
    again.load_state_dict(average.state_dict())
    with again.applied():
        assert weight.item() == pytest.approx(values[-1])


def test_rows_are_every_data_set_network_and_method() -> None:
    for row in ("cifar100-resnet50-bwn", "cifar10-resnet18-bireal-clipped-ste", "imagenette-mobilenetv2-float"):
        assert settings_of(row, {}).row == row
    paper = Settings.model_validate({"dataset": "cifar10", "network": "resnet18", "method": "stompp"})
    assert settings_of("cifar10-resnet18-stompp", {}) == paper
    assert (paper.optimizer, paper.lr, paper.momentum, paper.rate, paper.weight_decay) == (
        "sgd",
        0.1,
        0.9,
        "constant",
        0,
    )
    assert settings_of("cifar10-resnet18-clipped-ste", {}).rate == "cosine"


def test_every_method_but_float_is_a_spec_that_ships_with_the_runs_seed() -> None:
    specs = {method: rows.spec_of(method, 7) for method in rows.METHODS if method != rows.FLOAT}
    assert specs.keys() >= {"vanilla-ste", "clipped-ste", "stompp", "stompp-ste", "bwn", "reverse", "global"}
    assert specs == {method: fl.edit_spec(fl.load_spec(method), {"seed": 7}) for method in specs}


# The loop


def weights(made: Training) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.net.state_dict().items()}


def test_a_resumed_run_equals_an_uninterrupted_one(mosaics: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"ema": 0.5, "cutout": 4, "clip": 1.0, "smoothing": 0.1}
    whole = training(mosaics, tmp_path / "whole", **changes)
    epochs = list(whole.run())
    next(training(mosaics, tmp_path / "parts", **changes).run())
    resumed = training(mosaics, tmp_path / "parts", **changes)
    assert resumed.step == 5
    list(resumed.run())
    assert resumed.step == whole.step == 15
    assert [(one.loss, one.masked, one.binary) for one in resumed.history] == [
        (one.loss, one.masked, one.binary) for one in epochs
    ]
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(CheckpointError, match=r"ema is 0.0 here and 0.5 there"):
        training(mosaics, tmp_path / "parts", **{**changes, "ema": 0.0})


def test_what_is_measured_is_what_freeze_gives(mosaics: Path, tmp_path: Path) -> None:
    made = training(mosaics, tmp_path / "run", ema=0.5)
    *_, last = made.run()
    assert last.masked == last.binary
    assert made.program is not None
    with made.averaged():
        binary = made.program.freeze().module.eval()
    with torch.no_grad():
        right = binary(augment.pixels(made.test.images)).argmax(1) == made.test.labels
    assert float(right.float().mean()) == pytest.approx(last.binary)


def test_batch_norm_is_estimated_anew_where_the_spec_asks_for_it(mosaics: Path, tmp_path: Path) -> None:
    made = training(mosaics, tmp_path / "run", "cifar10-vgg7-stompp-fine-tuned", batch=8)
    *_, last = made.run()
    assert made.program is not None
    binary = made.frozen().module.eval()
    statistics = [dict(net.named_buffers()) for net in (binary, made.net)]
    means = [[value for name, value in one.items() if "running_mean" in name] for one in statistics]
    assert len(means[0]) == 6
    assert not any(torch.equal(one, other) for one, other in zip(*means, strict=True))
    with torch.no_grad():
        right = binary(augment.pixels(made.test.images)).argmax(1) == made.test.labels
    assert float(right.float().mean()) == last.binary


def test_a_loss_that_is_not_finite_names_the_window_and_the_step(mosaics: Path, tmp_path: Path) -> None:
    made = training(mosaics, tmp_path / "run")
    run = made.run()
    next(run)
    with torch.no_grad():
        next(made.net.parameters()).fill_(float("nan"))
    with pytest.raises(FrostlineError, match=r"loss nan at step 5, while .+ was turning(.|\n)*is of before"):
        next(run)
    assert fl.load_checkpoint(made.folder / CHECKPOINT)["step"] == 5


def test_a_float_run_teaches_and_is_started_from(mosaics: Path, tmp_path: Path) -> None:
    teacher = training(mosaics, tmp_path / "teacher", "cifar10-vgg7-float", epochs=1, ema=0.5)
    (epoch,) = teacher.run()
    assert epoch.binary is None
    pupil = training(mosaics, tmp_path / "pupil", start=str(teacher.folder), teacher=str(teacher.folder))
    with teacher.averaged():
        assert torch.equal(pupil.net.state_dict()["body.0.weight"], teacher.net.state_dict()["body.0.weight"])
    assert pupil.teacher is not None
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    images = augment.pixels(pupil.test.images[:1])
    with torch.no_grad():
        taught = pupil.teacher(images).softmax(1)
    expected = -(taught * logits.log_softmax(1)).sum()
    assert pupil._loss(logits, images, torch.tensor([0])) == pytest.approx(float(expected))
    list(pupil.run())
    with pytest.raises(UsageError, match="is the run of a binary network"):
        training(mosaics, tmp_path / "other", teacher=str(pupil.folder))
    with pytest.raises(UsageError, match="is no trained network"):
        training(mosaics, tmp_path / "other", teacher="nowhere")
    with pytest.raises(UsageError, match="is another network than the one to train"):
        training(mosaics, tmp_path / "other", "cifar10-resnet18-stompp", start=str(teacher.folder))


def test_with_relu_activations_become_zero_and_one(mosaics: Path, tmp_path: Path) -> None:
    made = training(mosaics, tmp_path / "run", "cifar10-resnet20-stompp", epochs=8)
    assert made.program is not None
    assert not made.program.plan.constant
    assert {turn.levels for turn in made.program.plan.turns if turn.site.kind == "activation"} == {(0, 1)}


def test_a_spec_takes_the_place_of_the_methods(mosaics: Path, tmp_path: Path) -> None:
    settings = settings_of(ROW, TINY).on(CPU)
    made = Training(settings, load("cifar10", mosaics), tmp_path / "run", mosaics, CPU, spec=fl.load_spec("bwn"))
    assert made.program is not None
    assert {turn.site.kind for turn in made.program.plan.turns} == {"weight"}


# Results and the command line


def test_runs_become_a_table_in_a_document(mosaics: Path, tmp_path: Path, command: Command) -> None:
    flags = ["--data", mosaics, "--width", 0.0625, "--epochs", 2, "--batch", 16, "--lr", 0.02]
    for seed in (0, 1):
        code, out, err = command("run", ROW, *flags, "--seed", seed)
        assert code == 0, err
        assert out.count("fully binary") == 2
    assert command("run", ROW, *flags, "--float", "--measure-every", 2)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "results/cifar.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == [ROW, ROW, "cifar10-vgg7-float"]
    assert lines[0]["binary"]["best"] >= lines[0]["binary"]["last"]
    assert lines[2]["binary"] is None
    assert {"seconds", "steps", "device", "torch", "date", "settings", "spec"} <= lines[0].keys()

    document = tmp_path / "results.md"
    document.write_text("before\n\n<!-- cifar -->\nold\n<!-- /cifar -->\nafter\n")
    assert command("table", "results/cifar.jsonl", "--into", document) == (0, "", "")
    code, out, _ = command("table")
    assert document.read_text() == f"before\n\n<!-- cifar -->\n{out}<!-- /cifar -->\nafter\n"
    assert out.count("\n") == 4
    both = "| cifar10-vgg7-stompp-ste | reduced: 2 of 200 epochs, width 0.0625 | batch 16, lr 0.02 | 0, 1 |"
    assert re.search(re.escape(both) + r" \d+\.\d\d ± \d+\.\d\d \| \d+\.\d\d ± ", out)
    assert re.search(r"\| cifar10-vgg7-float \|.*\| 0 \| \d+\.\d\d \| - \|", out)


def test_the_last_result_of_a_seed_counts_and_full_runs_say_so() -> None:
    def line(seed: int, accuracy: float, **changes: Any) -> dict[str, Any]:
        settings = settings_of("cifar10-resnet18-stompp", {"seed": seed, **changes})
        reached = {"last": accuracy, "best": accuracy}
        fixed = {"seconds": 60, "device": "GPU", "torch": "2", "date": "2026-11-23", "spec": {"seed": seed}}
        return {"seed": seed, "masked": reached, "binary": reached, "settings": settings.model_dump(), **fixed}

    full = results.table([line(0, 0.1), line(1, 0.9), line(0, 0.7)]).splitlines()[2:]
    assert full == ["| cifar10-resnet18-stompp | full | - | 0, 1 | 80.00 ± 14.14 | 80.00 ± 14.14 | 80.00 ± 14.14 |"
                    " 1.0 | GPU | 2 | 2026-11-23 |"]  # fmt: skip
    assert "| reduced: 0.1 of the data, epochs 300 |" in results.table([line(0, 0.5, fraction=0.1, epochs=300)])
    assert len(results.table([line(0, 0.1), line(0, 0.1, lr=0.2)]).splitlines()) == 4


def test_what_is_no_result_or_has_no_place(tmp_path: Path, command: Command) -> None:
    code, _, err = command("table", "nowhere.jsonl")
    assert (code, "cannot read nowhere.jsonl" in err) == (8, True)
    settings = settings_of(ROW, {}).model_dump()
    lines: list[dict[str, Any]] = [{"settings": {}}, {"settings": settings, "spec": 3}]
    lines.append({**lines[1], "spec": None, "settings": {**settings, "method": "stomp"}, "seed": 0, "device": "CPU"})
    (tmp_path / "bad.jsonl").write_text("\n".join([*map(json.dumps, lines), "nonsense"]))
    code, _, err = command("table", "bad.jsonl")
    assert code == 8
    assert re.findall(r"bad\.jsonl:(\d)", err) == ["1", "2", "3", "4"]
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "plain.md").write_text("no marks")
    code, _, err = command("table", "empty.jsonl", "--into", "plain.md")
    assert (code, "<!-- cifar -->" in err) == (2, True)
    assert (tmp_path / "plain.md").read_text() == "no marks"


def test_bad_words_are_named_all_at_once(mosaics: Path, command: Command) -> None:
    code, _, err = command("run", "cifar10-resnet18-stomp", "--data", mosaics)
    assert code == 2
    assert 'did you mean "cifar10-resnet18-stompp"' in err
    impossible = ["--epochs", 0, "--fraction", 1.5, "--lr", "nan", "--rate", "linear", "--momentum", 1]
    code, _, err = command("run", ROW, "--data", mosaics, *impossible)
    assert code == 2
    assert all(f"--{name} " in err for name in ("epochs", "fraction", "lr", "rate", "momentum"))
    assert "'constant', 'cosine' or 'one-cycle'" in err
    code, _, err = command("run", ROW, "--data", mosaics, "--batch", 81)
    assert (code, "a batch of 81 is more than the 80 training images" in err) == (2, True)
    code, _, err = command("run", ROW, "--data", mosaics, "--float", "--export")
    assert (code, "cifar10-vgg7-float has no binary network" in err) == (2, True)
    code, _, err = command("run", ROW, "--data", mosaics, "--device", "tpu")
    assert (code, "there is no device tpu" in err) == (2, True)
    code, _, err = command("run", ROW, "--data", mosaics / "nowhere")
    assert (code, "there is no folder" in err) == (2, True)


def test_a_run_is_exported_and_proven(mosaics: Path, tmp_path: Path, command: Command) -> None:
    flags = ["--data", mosaics, "--width", 0.0625, "--epochs", 2, "--batch", 16, "--run", "here", "--export"]
    code, out, err = command("run", ROW, *flags)
    assert code == 0, err
    assert "5 binary operations" in out
    session = fl.session(tmp_path / "here" / "model.onnx")
    images = augment.pixels(load("cifar10", mosaics).test.images)
    assert session.run(None, {session.get_inputs()[0].name: images.numpy()})[0].shape == (16, 4)


def test_the_rows_are_listed(command: Command) -> None:
    code, out, _ = command("rows")
    assert code == 0
    assert "method: " in out
    assert "stompp-ste" in out
    assert "resnet50-bireal" in out
