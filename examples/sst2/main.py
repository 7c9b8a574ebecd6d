"""BERT with binary weights and activations on SST-2: train, freeze, export, prove. Start a run again, and it goes on.

First `python -m examples.sst2.main train --float --run runs/sst2/float`, then the same with
`--teacher runs/sst2/float` in place of `--float`; `python -m examples.sst2.main table` shows all runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml
from torch import nn

import frostline as fl
from examples import command_line
from examples.results import append, insert
from examples.sst2 import data as sst2
from examples.sst2 import results
from examples.sst2.model import MINILM, add_scales, folder_of, load
from examples.sst2.train import Job, Settings, fit, steps_per_epoch
from frostline.errors import FileError, Offence, UsageError, first_line

HERE = Path(__file__).parent
RESULTS = Path("results/sst2.jsonl")
PROVEN = 32
"""Dev sentences that the exported file is proven on."""

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Results = Annotated[Path, typer.Option("--results", help="One line of JSON a run.")]


@app.command()
def train(
    checkpoint: Annotated[str, typer.Option(help='A folder of pretrained BERT, or "minilm".')] = MINILM,
    data: Annotated[Path | None, typer.Option(envvar="FROSTLINE_DATA", help=f"The folder of {sst2.FILE}.")] = None,
    spec: Annotated[Path, typer.Option(help="A spec, or the name of one that ships.")] = HERE / "schedule.yaml",
    change: Annotated[list[str] | None, typer.Option("--set", help="Of the spec: progression.order=global")] = None,
    float_only: Annotated[bool, typer.Option("--float", help="No schedule: a teacher, or the float result.")] = False,
    teacher: Annotated[str | None, typer.Option(help="A float run to distil from.")] = None,
    hidden: Annotated[float, typer.Option(min=0, help="The weight of the teacher's hidden states.")] = 0.0,
    scale: Annotated[bool, typer.Option(help="A learned scale for each output of binary products.")] = True,
    epochs: Annotated[int, typer.Option(min=1)] = results.FULL_EPOCHS,
    fraction: Annotated[float, typer.Option(min=0, max=1, help="The share of the phrases to train on.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    batch: Annotated[int, typer.Option(min=1)] = 32,
    length: Annotated[int, typer.Option(min=3, help="Tokens: sentences are padded and cut to it.")] = 64,
    rate: Annotated[float, typer.Option("--lr", min=0, help="The peak, for float parameters.")] = 5e-5,
    warmup: Annotated[float, typer.Option(min=0, max=0.99, help="The share of steps in which the rate rises.")] = 0.05,
    decay: Annotated[float, typer.Option(min=0, help="Of matrices that stay float.")] = 0.01,
    compiled: Annotated[bool, typer.Option("--compile", help="Train through torch.compile.")] = False,
    run: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    into: Results = RESULTS,
) -> None:
    """Fine-tune, measure, export and prove; append the result."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if hidden and not teacher:
        raise UsageError("hidden states need a teacher", [Offence("--hidden without --teacher")])
    schedule = None if float_only else _spec(spec, change or (), seed)
    label = None if float_only else " ".join([spec.stem, *(change or ())])
    settings = Settings(
        Path(checkpoint).name, label, Path(teacher).name if teacher else None, epochs, fraction, batch, length, rate,
        warmup, decay, hidden, scale,
    )  # fmt: skip
    training, dev = sst2.read(data)
    training = sst2.share(training, fraction)
    per_epoch = steps_per_epoch(len(training), batch)
    torch.manual_seed(seed)
    model, tokenizer = load(folder_of(checkpoint))
    _check_length(model, length)
    encoded, measured = (sst2.encode(split, tokenizer, length, device) for split in (training, dev))

    program = None
    if schedule:
        if scale:
            add_scales(model)
        model.config.output_hidden_states = hidden > 0
        program = fl.compile(
            model.to(device), schedule, (), epochs * per_epoch,
            steps_per_epoch=per_epoch, example_kwargs=encoded.inputs(slice(0, 4)),
        )  # fmt: skip
        typer.echo(f"{program.plan}\n")
    module = program.net if program else model.to(device)
    guide = _teacher(teacher, model, device, hidden) if teacher else None
    folder = _created(run or Path("runs/sst2") / f"{spec.stem if label else 'float'}-{seed}")
    job = Job(settings, seed, module, program, guide, encoded, measured, folder, compiled)
    progress = fit(job, typer.echo)

    if program:
        _ship(program, measured, folder / "model.onnx")
    else:
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
    line = results.line_of(job, progress)
    append(into, line)
    typer.echo(json.dumps(line))


@app.command()
def table(
    source: Results = RESULTS,
    into: Annotated[Path | None, typer.Option(help="A document with a place for the table.")] = None,
) -> None:
    """Print the results as Markdown, or put them into a document."""
    text = results.table(results.read(source))
    if into:
        insert(text, into, "sst2")
    typer.echo(f"{into} is up to date" if into else text)


def _spec(path: Path, changes: Sequence[str], seed: int) -> fl.ScheduleSpec:
    edits: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.partition("=")
        try:
            edits[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError("--set is FIELD=VALUE", [Offence(f"{change!r}: {first_line(error)}")]) from error
    spec = fl.edit_spec(fl.load_spec(path), {**edits, "seed": seed})
    if spec.batch_norm:
        offence = Offence("the spec has it estimated anew", remedy="--set batch_norm=null")
        raise UsageError("BERT has no BatchNorm", [offence])
    return spec


def _teacher(checkpoint: str, student: Any, device: torch.device, hidden: float) -> nn.Module:
    teacher, _ = load(folder_of(checkpoint), classifier=True)
    alike = ["vocab_size", *(["num_hidden_layers", "hidden_size"] if hidden else [])]
    pairs = {name: (getattr(teacher.config, name), getattr(student.config, name)) for name in alike}
    faults = [Offence(f"{name}: {one} and {two}") for name, (one, two) in pairs.items() if one != two]
    if faults:
        raise UsageError(f"{checkpoint} cannot teach this model", faults)
    return teacher.to(device).eval().requires_grad_(False)


def _ship(program: fl.Program, dev: sst2.Encoded, path: Path) -> None:
    """Freeze, export, prove on real sentences, and print the certificate."""
    sentences = {name: tensor.cpu() for name, tensor in dev.inputs(slice(0, PROVEN)).items()}
    config: Any = program.model.config
    if config.output_hidden_states:  # what was for the teacher is not for the file
        config.output_hidden_states = False
        binary = program.freeze((), {name: tensor[:4] for name, tensor in sentences.items()})
    else:
        binary = program.freeze()
    certificate = fl.export(binary, path, kwargs=sentences)
    typer.echo(f"\n{certificate}\nwritten {path}")


def _created(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot create {folder}", [Offence(error.strerror or str(error))]) from error
    return folder


def _check_length(model: Any, length: int) -> None:
    longest = model.config.max_position_embeddings
    if length > longest:
        raise UsageError("the sentences are too long", [Offence(f"{length} tokens; this BERT takes {longest}")])


def main() -> None:
    command_line.run(app)


if __name__ == "__main__":
    main()
