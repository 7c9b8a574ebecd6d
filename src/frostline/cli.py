"""The command line: every command is a few calls of the library.

Exit codes: 0 well, 1 failed, 2 usage, 3 spec, 4 capture, 5 plan, 6 pass, 7 checkpoint, 8 file, 9 lowering, 10 drift,
130 interrupted.
"""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frostline.errors import CheckpointError, FrostlineError, Offence, UsageError
from frostline.schedules import ScheduleSpec, load_spec

if TYPE_CHECKING:
    from frostline.program import Program

app = typer.Typer(
    name="frostline",
    help="Turn a float PyTorch model into a binary network while it trains, and ship it to ONNX Runtime.",
    epilog="A first run:  frostline check schedule.yaml;  frostline plan schedule.yaml --model net:build "
    "--input 2x3x32x32 --steps 10000;  frostline train schedule.yaml --model net:build --data data:loaders "
    "--epochs 20 --run runs/first;  frostline export runs/first.  Exit codes: 0 well, 2 usage, 3 spec, 4 capture, "
    "5 plan, 6 pass, 7 checkpoint, 8 file, 9 lowering, 10 drift, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="A schedule spec file (YAML).")]
ModelFile = Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX file that frostline exported.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run of `frostline train`.")]
Model = Annotated[str, typer.Option("--model", metavar="MODULE:FACTORY", help="A function that returns the model.")]
DataOption = typer.Option(
    "--data", metavar="MODULE:FACTORY", help="A function that returns training and test batches, such as DataLoaders."
)


@dataclass(frozen=True)
class Recipe:
    """What a run was started with, beside its spec; `run.json` in the run's folder."""

    model: str
    data: str
    epochs: int
    learning_rate: float
    momentum: float
    weight_decay: float


@app.command()
def check(spec: SpecFile) -> None:
    """Say "valid", or list every fault of a spec with its line."""
    load_spec(spec)
    typer.echo(f"{spec}: valid")


@app.command()
def schema() -> None:
    """Print the JSON schema of schedule specs, for editors."""
    typer.echo(json.dumps(ScheduleSpec.model_json_schema(), indent=2))


@app.command()
def plan(
    spec: SpecFile,
    model: Model,
    steps: Annotated[int | None, typer.Option(help="The budget in optimizer steps.", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="The budget in epochs of --data.", min=1)] = None,
    input: Annotated[str | None, typer.Option(metavar="2x3x32x32", help="The shape of an example input.")] = None,
    data: Annotated[str | None, DataOption] = None,
) -> None:
    """Show what a spec will do to a model: a table of windows, and what stays float and why."""
    import torch

    schedule = load_spec(spec)
    batches = _data(data) if data else None
    if batches is not None:
        example = _example(batches[1])
    elif input is not None:
        example = torch.randn(_shape(input), generator=torch.Generator().manual_seed(0))
    else:
        raise UsageError("an example input is needed", [Offence("give --input 2x3x32x32, or --data MODULE:FACTORY")])
    if steps is None and (epochs is None or batches is None):
        raise UsageError("a budget is needed", [Offence("give --steps N, or --epochs N with --data")])
    per_epoch = len(batches[0]) if batches else None
    total = steps if steps is not None else (epochs or 0) * (per_epoch or 0)
    typer.echo(_compile(schedule, model, example, total, per_epoch).plan)


@app.command()
def train(
    spec: SpecFile,
    model: Model,
    data: Annotated[str, DataOption],
    epochs: Annotated[int, typer.Option(help="The budget in epochs of --data.", min=1)],
    run: Annotated[Path, typer.Option(help="A folder for checkpoint and history; an existing run goes on.")],
    learning_rate: Annotated[float, typer.Option("--lr", help="The constant learning rate of SGD.")] = 0.1,
    momentum: Annotated[float, typer.Option(help="The momentum of SGD.")] = 0.9,
    weight_decay: Annotated[float, typer.Option(help="The weight decay of SGD.")] = 0.0,
) -> None:
    """Train a classifier along a plan. Ctrl-C saves; the same command goes on where it was."""
    from frostline.training import fit

    schedule = load_spec(spec)
    recipe = Recipe(model, data, epochs, learning_rate, momentum, weight_decay)
    _begin(run, schedule, recipe)
    program, (training, test) = _program(schedule, recipe)
    typer.echo(program.plan)
    history = fit(program, _optimizer(program, recipe), training, test, epochs, run)
    typer.echo(f"fully binary accuracy {history[-1].binary:.1%}; now: frostline export {run}")


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="The file to write; RUN/model.onnx by default.")] = None,
    target: Annotated[str, typer.Option(help="What to lower for.")] = "portable",
) -> None:
    """Freeze a finished run, write it as ONNX, prove the file on the test data, and print the certificate."""
    from frostline.exporting import export as export_graph

    program, test = _finished(run)
    path = out or run / "model.onnx"
    typer.echo(export_graph(program.freeze(), path, target, inputs=(next(iter(test))[0],)))
    typer.echo(f"written {path}")


@app.command()
def verify(
    file: ModelFile,
    run: Annotated[Path | None, typer.Option(help="The run that it came from: then it is proven anew.")] = None,
) -> None:
    """Check that a file is what its certificate says, and prove it anew against its run if one is given."""
    from frostline.compiler.exported import read_certificate
    from frostline.compiler.session import session
    from frostline.compiler.verify import verify as verify_file

    certificate = read_certificate(file)
    session(file, provider="cpu")
    if run is not None:
        program, test = _finished(run)
        certificate = verify_file(file, program.freeze(), (next(iter(test))[0],), certificate.target)
    typer.echo(certificate)
    typer.echo(f"{file}: {'proven anew' if run else 'unchanged since it was proven'}")


@app.command()
def show(file: ModelFile) -> None:
    """Explain an exported file: its certificate, what is binary in it, and what takes how much room."""
    from frostline.compiler.contents import contents
    from frostline.compiler.exported import read_certificate

    typer.echo(read_certificate(file))
    typer.echo(f"\n{contents(file)}")


def main() -> None:
    """Run the command line: errors are messages, not tracebacks, and every kind has its exit code."""
    try:
        app(standalone_mode=True)
    except FrostlineError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; the same command goes on where it was", err=True)
        sys.exit(130)


def _begin(folder: Path, spec: ScheduleSpec, recipe: Recipe) -> None:
    """Note what a run is, or check that it is what it was."""
    from frostline.compiler.files import replacing

    content = {"recipe": asdict(recipe), "spec": spec.as_data()}
    path = folder / "run.json"
    if path.exists():
        before, _ = _read_run(folder)
        differing = [
            Offence(f"{name} is {value} now and was {asdict(before)[name]}", remedy="use another --run for a new run")
            for name, value in asdict(recipe).items()
            if value != asdict(before)[name]
        ]
        if differing:
            raise CheckpointError(f"{folder} holds another run", differing)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}", [Offence(error.strerror or str(error))]) from error
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


def _read_run(folder: Path) -> tuple[Recipe, ScheduleSpec]:
    from frostline.schedules import spec_from_data

    path = folder / "run.json"
    try:
        content = json.loads(path.read_text())
        return Recipe(**content["recipe"]), spec_from_data(content["spec"], str(path))
    except OSError as error:
        raise CheckpointError(f"{folder} is not the folder of a run", [Offence(str(error))]) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read", [Offence(str(error))]) from error


def _finished(folder: Path) -> tuple[Program, Any]:
    """The program of a run at its checkpoint, and the test data."""
    from frostline.training import restore

    recipe, spec = _read_run(folder)
    program, (_, test) = _program(spec, recipe)
    restore(program, folder)
    return program, test


def _program(spec: ScheduleSpec, recipe: Recipe) -> tuple[Program, tuple[Any, Any]]:
    training, test = _data(recipe.data)
    per_epoch = len(training)
    program = _compile(spec, recipe.model, _example(test), recipe.epochs * per_epoch, per_epoch)
    return program, (training, test)


def _compile(spec: ScheduleSpec, model: str, example: Any, total_steps: int, per_epoch: int | None) -> Program:
    """Compile a factory's model on the GPU where there is one; the spec's seed decides its initial weights."""
    import torch

    from frostline.program import compile

    torch.manual_seed(spec.seed)
    made = _made(model)
    if not isinstance(made, torch.nn.Module):
        raise UsageError(f"{model} returns a {type(made).__name__}", [Offence("it should return a torch.nn.Module")])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return compile(made.to(device), spec, (example.to(device),), total_steps, steps_per_epoch=per_epoch)


def _optimizer(program: Program, recipe: Recipe) -> Any:
    import torch

    return torch.optim.SGD(
        program.net.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay
    )


def _data(factory: str) -> tuple[Any, Any]:
    made = _made(factory)
    if not isinstance(made, tuple) or len(made) != 2 or not all(hasattr(part, "__len__") for part in made):
        remedy = "return (training, test), two DataLoaders or lists of (inputs, labels)"
        raise UsageError(f"{factory} does not return two sets of batches", [Offence("not a pair", remedy=remedy)])
    if not len(made[0]) or not len(made[1]):
        raise UsageError(f"{factory} returns no batches", [Offence("training or test set is empty")])
    return made


def _example(batches: Any) -> Any:
    import torch

    batch = next(iter(batches))
    if not isinstance(batch, tuple | list) or len(batch) != 2 or not all(isinstance(t, torch.Tensor) for t in batch):
        raise UsageError(
            "a batch is a pair of tensors, inputs and labels", [Offence(f"it is a {type(batch).__name__}")]
        )
    return batch[0][:8]


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split("x"))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(f'"{text}" is not a shape', [Offence("write it as 2x3x32x32, batch first")])
    return sizes


def _made(factory: str) -> Any:
    """What a function of the user's returns; `module:function`, found from the current folder."""
    from frostline.compiler.capture.user_line import user_line

    module, colon, name = factory.partition(":")
    if not (module and colon and name):
        raise UsageError(f'"{factory}" names no factory', [Offence("write it as module:function")])
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)()
    except FrostlineError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise UsageError(f"{factory} cannot be called", [Offence(what, user_line(error))]) from error
