"""Which part of the method does what? Order, depth, regime, curve, refresh, weights alone: tables and a picture.

```bash
python -m examples.ablations.main run order bwn --seeds 5
python -m examples.ablations.main run depth --epochs 48 --network residual-8 --network residual-16
python -m examples.ablations.main run depth --data cifar10 --folder DATA --epochs 20
python -m examples.ablations.main table --into docs/results.md
python -m examples.ablations.main draw docs/ablations.png
```

Every finished run is one line of `results/ablations.jsonl`; what is there already is not run again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from examples import command_line, results
from examples.ablations.cells import Cell, cells_of, check
from examples.ablations.reports import current, tables
from examples.ablations.studies import STUDIES
from frostline.errors import Offence, UsageError, nearest

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

RESULTS = Path("results/ablations.jsonl")
BUDGETS = {"digits": (24, 12.0), "cifar10": (200, 1.0), "cifar100": (200, 1.0)}
"""The epochs and the width that are used where none are given."""

ResultsFile = Annotated[Path, typer.Option("--results", help="The file of results.")]


@app.command()
def run(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help=f"Of {', '.join(STUDIES)}.")],
    data: Annotated[str, typer.Option(help=f"One of {', '.join(BUDGETS)}.")] = "digits",
    folder: Annotated[Path | None, typer.Option(envvar="FROSTLINE_DATA", help="The folder of CIFAR.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs for each cell of a table.", min=1)] = 5,
    epochs: Annotated[int | None, typer.Option(help="The budget of a run.", min=1)] = None,
    width: Annotated[float | None, typer.Option(help="Channels on digits; else a factor.", min=0.1)] = None,
    network: Annotated[list[str] | None, typer.Option(help="Of a study's networks these alone.")] = None,
    workers: Annotated[int, typer.Option(help="Runs at the same time, on digits.", min=1)] = os.cpu_count() or 1,
    file: ResultsFile = RESULTS,
) -> None:
    """Run what is missing of some studies, and append each result as it comes."""
    unknown = [name for name in studies if name not in STUDIES]
    faults = [Offence(f'there is no study "{name}"', None, nearest(name, STUDIES)) for name in unknown]
    if data not in BUDGETS:
        faults.append(Offence(f'there is no data "{data}"', None, f"one of {', '.join(BUDGETS)}"))
    if data != "digits" and folder is None:
        faults.append(Offence(f"{data} is read from a folder", None, "give --folder, or set FROSTLINE_DATA"))
    tried = {name for study in studies if study in STUDIES for name in STUDIES[study].networks(data)}
    faults += [
        Offence(f'no study of these tries the network "{name}"', None, nearest(name, tried))
        for name in network or ()
        if name not in tried and not unknown
    ]
    if faults:
        raise UsageError("nothing can be run", faults)
    epochs, width = epochs or BUDGETS[data][0], width or BUDGETS[data][1]
    known = {Cell.of(line) for line in current(results.read(file, check))} if file.exists() else set()
    every = cells_of(studies, data, range(seeds), epochs, width)
    wanted = [cell for cell in every if not network or cell.network in network]
    missing = [cell for cell in wanted if cell not in known]
    typer.echo(f"{len(wanted)} cells, {len(missing)} to run")
    lines = _on_digits(missing, workers) if folder is None or data == "digits" else _on_cifar(missing, folder)
    for done, line in enumerate(lines, 1):
        results.append(file, line)
        told = "{data} {network} {method}, seed {seed}".format(**line)
        typer.echo(f"{done}/{len(missing)} {told}: {line['binary']:.1%} in {line['seconds']:.0f} s")


def _on_digits(cells: Sequence[Cell], workers: int) -> Iterator[dict[str, Any]]:
    """Several at a time, each on a core of its own."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for job in as_completed([pool.submit(cell.run_on_digits) for cell in cells]):
            yield job.result()


def _on_cifar(cells: Sequence[Cell], folder: Path) -> Iterator[dict[str, Any]]:
    from examples.ablations.on_cifar import run as run_on_cifar

    for cell in cells:
        yield run_on_cifar(cell, folder)


@app.command()
def table(
    file: ResultsFile = RESULTS,
    into: Annotated[Path | None, typer.Option(help="A Markdown file whose tables are replaced.")] = None,
) -> None:
    """Print a table for each study that has results, or put them into a document."""
    text = tables(results.read(file, check))
    if into is None:
        typer.echo(text)
    else:
        results.insert(text, into, "ablations")


@app.command()
def draw(
    picture: Annotated[Path, typer.Argument(help="The picture to write.")],
    file: ResultsFile = RESULTS,
) -> None:
    """Draw every study that has results on digits, gain against depth among them."""
    from examples.ablations.drawing import draw as draw_studies

    draw_studies(results.read(file, check), picture)
    typer.echo(f"written {picture}")


def main() -> None:
    command_line.run(app)


if __name__ == "__main__":
    main()
