"""Binary image classifiers on CIFAR-10, CIFAR-100, Imagenette, and folders of images: one command a row of the table.

```bash
python -m examples.cifar.main rows
python -m examples.cifar.main run cifar10-resnet18-stompp --data DATA --epochs 20 --fraction 0.1 --seed 0
python -m examples.cifar.main run cifar10-resnet18-stompp --data DATA --float     # the upper bound, and a teacher
python -m examples.cifar.main table results/cifar.jsonl --into docs/results.md
```

`DATA` is described in `data.py`; FROSTLINE_DATA may name it. A run writes a checkpoint after each epoch, and the same
command goes on where it was. What a run was, and what it reached, becomes one line of `results/cifar.jsonl`.
"""

from __future__ import annotations

from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer

import frostline as fl
from examples import command_line
from examples.cifar import results, rows
from examples.cifar.augment import pixels
from examples.cifar.data import load
from examples.cifar.networks.build import NETWORKS
from examples.cifar.recipe import Settings, settings_of
from examples.cifar.train import Training
from examples.results import append, insert
from frostline.errors import Offence, UsageError

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

RESULTS = Path("results/cifar.jsonl")
ROW = ("dataset", "network", "method")
PROOF = 200
"""Test images that an exported file is proven on."""


def run(
    row: Annotated[str, typer.Argument(metavar="DATASET-NETWORK-METHOD", help="A row; `rows` lists them.")],
    data: Annotated[Path, typer.Option(envvar="FROSTLINE_DATA", help="The folder of the data.")],
    float_: Annotated[bool, typer.Option("--float", help="Train the row's network as a float one.")] = False,
    run_folder: Annotated[
        Path | None, typer.Option("--run", help="The folder of checkpoint and exported file.")
    ] = None,
    results_file: Annotated[Path, typer.Option("--results", help="The file that gets the result.")] = RESULTS,
    export: Annotated[bool, typer.Option(help="Freeze, write RUN/model.onnx and prove it.")] = False,
    device: Annotated[str | None, typer.Option(help="cuda or cpu; by default a GPU where there is one.")] = None,
    **changes: Any,
) -> None:
    """Train one row, or go on with it, and append its result."""
    place = _device(device)
    given = {name: value for name, value in changes.items() if value is not None}
    settings = settings_of(rows.as_float(row) if float_ else row, given).on(place)
    if export and settings.method == rows.FLOAT:
        raise UsageError(f"{settings.row} has no binary network", [Offence("--export exports one; leave it out")])
    folder = run_folder or Path("runs/cifar") / f"{settings.row}-{settings.digest}"
    training = Training(settings, load(settings.dataset, data, settings.size), folder, data, place)
    if training.program:
        typer.echo(f"{training.program.plan}\n")
    for epoch in training.run():
        typer.echo(epoch)
    append(results_file, results.line_of(training))
    typer.echo(f"{settings.row}: appended to {results_file}")
    if export:
        with training.averaged():
            binary = training.frozen()
        images = pixels(training.test.images[:PROOF].cpu())
        typer.echo(fl.export(binary, folder / "model.onnx", inputs=(images,)))


def _device(name: str | None) -> torch.device:
    there = ("cpu", *(("cuda",) if torch.cuda.is_available() else ()))
    if name not in (None, *there):
        raise UsageError(
            f"there is no device {name}", [Offence("not on this machine", remedy=f"give {' or '.join(there)}")]
        )
    return torch.device(name or there[-1])


def _flags() -> list[Parameter]:
    """A flag for every setting that a row does not fix; one that is not given leaves the row's value."""
    flags = []
    for name, field in Settings.model_fields.items():
        types = (field.annotation, *get_args(field.annotation))
        kind = next((one for one in (bool, int, float) if one in types), str)
        annotation = Annotated[kind | None, typer.Option(help=field.description, show_default=False)]  # type: ignore[valid-type]
        flags.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return [flag for flag in flags if flag.name not in ROW]


own = [parameter for parameter in signature(run, eval_str=True).parameters.values() if parameter.name != "changes"]
run.__signature__ = signature(run).replace(parameters=[*own, *_flags()])  # type: ignore[attr-defined]
app.command()(run)


@app.command("rows")
def list_rows() -> None:
    """List the parts of a row's name: any data set, with any network, with any method."""
    for part, names in zip(ROW, (rows.DATASETS, NETWORKS, rows.METHODS), strict=True):
        typer.echo(f"{part}: {', '.join(names)}")


@app.command()
def table(
    file: Annotated[Path, typer.Argument(help="The results of `run`.")] = RESULTS,
    into: Annotated[Path | None, typer.Option(help="A Markdown file whose table is replaced.")] = None,
) -> None:
    """Print the table of all results, or put it into a document."""
    text = results.table(results.read(file))
    if into is None:
        typer.echo(text)
    else:
        insert(text, into, "cifar")


def main() -> None:
    command_line.run(app)


if __name__ == "__main__":
    main()
