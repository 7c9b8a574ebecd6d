"""The command line: every command is a few calls of the library.

Exit codes: 0 well, 1 failed, 2 usage, 3 spec, 4 capture, 5 plan, 6 pass, 7 checkpoint, 8 file, 9 lowering, 10 drift,
130 interrupted.
"""

from __future__ import annotations

import io
import json
import platform
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated

import typer

from frostline import __version__
from frostline.errors import CaptureError, FrostlineError, Offence, UsageError
from frostline.runs import (
    Recipe,
    begin_run,
    check_same_run,
    compile_factory,
    data_of,
    edit_run,
    example_of,
    finished,
    images_of,
    model_and_example,
    optimizer_of,
    program_of,
    shape_of,
)
from frostline.schedules import ScheduleSpec, load_spec
from frostline.terminal import busy, say, warn

app = typer.Typer(
    name="frostline",
    help="Turn a float PyTorch model into a binary network while it trains, and ship it to ONNX Runtime.",
    epilog="A first run:  frostline check schedule.yaml;  frostline plan schedule.yaml --model net:build "
    "--input 2x3x32x32 --steps 10000;  frostline train schedule.yaml --model net:build --data data:loaders "
    "--epochs 20 --run runs/first;  frostline export runs/first.  Exit codes: 0 well, 1 failed, 2 usage, 3 spec, "
    "4 capture, 5 plan, 6 pass, 7 checkpoint, 8 file, 9 lowering, 10 drift, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_INTERRUPTED = 130

SpecFile = Annotated[
    Path,
    typer.Argument(
        metavar="SPEC", help="A schedule spec: a file (YAML), or the name of a shipped one, as stompp or vanilla-ste."
    ),
]
ModelFile = Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX file that frostline exported.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run of `frostline train`.")]
Model = Annotated[str, typer.Option("--model", metavar="MODULE:FACTORY", help="A function that returns the model.")]
DataOption = typer.Option(
    "--data",
    metavar="MODULE:FACTORY",
    help="A function that returns (training, test), each a DataLoader or a list of (inputs, class labels).",
)


def _versions(asked: bool) -> None:
    """Print versions, as an option that goes before any command."""
    if asked:
        packages = ("torch", "onnxruntime", "onnxruntime-gpu")
        found = {one.metadata["Name"].lower(): one.version for name in packages for one in distributions(name=name)}
        told = ", ".join(f"{name} {version}" for name, version in found.items())
        say(f"frostline {__version__} ({told}, Python {platform.python_version()})")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_versions, is_eager=True, help="Print versions, and exit.")
    ] = False,
) -> None: ...


@app.command()
def check(spec: SpecFile) -> None:
    """Say "valid", or list every fault of a spec with its line."""
    load_spec(spec)
    say(f"{spec}: valid")


@app.command()
def schema() -> None:
    """Print the JSON schema of schedule specs, for editors."""
    say(json.dumps(ScheduleSpec.model_json_schema(), indent=2))


@app.command()
def doctor(
    model: Annotated[str, typer.Argument(metavar="MODULE:FACTORY", help="Returns a model, or (model, args, kwargs).")],
    input: Annotated[list[str] | None, typer.Option(metavar="2x3x32x32", help="An input's shape; repeat it.")] = None,
) -> None:
    """Say which front end captures a model and why others do not, and which weights cannot be reached, with lines."""
    with busy("capturing ..."):
        from frostline.doctor import diagnose

        diagnosis = diagnose(*model_and_example(model, input or []))
    say(diagnosis)
    if diagnosis.winner is None:
        raise typer.Exit(CaptureError.exit_code)


@app.command()
def plan(
    spec: SpecFile,
    model: Model,
    steps: Annotated[int | None, typer.Option(help="The budget in optimizer steps.", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="The budget in epochs of --data.", min=1)] = None,
    input: Annotated[str | None, typer.Option(metavar="2x3x32x32", help="The shape of an example input.")] = None,
    data: Annotated[str | None, DataOption] = None,
    draw: Annotated[
        Path | None,
        typer.Option("--draw", "--html", metavar="FILE", help="A page (.html), or the chart (.png, .svg, .pdf)."),
    ] = None,
    against: Annotated[Path | None, typer.Option(metavar="SPEC", help="Another spec: show what it does else.")] = None,
) -> None:
    """Show what a spec will do to a model: a table of windows, what stays float and why, and what it amounts to."""
    with busy("loading torch ..."):
        import torch

        from frostline.amounts import amounts
        from frostline.comparing import compare

    schedules = [load_spec(one) for one in (spec, against) if one is not None]
    batches = data_of(data) if data else None
    if batches is not None:
        example = example_of(batches[1])
    elif input is not None:
        example = torch.randn(shape_of(input), generator=torch.Generator().manual_seed(0))
    else:
        raise UsageError("an example input is needed", [Offence("give --input 2x3x32x32, or --data MODULE:FACTORY")])
    if (steps is None) == (epochs is None) or (epochs is not None and batches is None):
        raise UsageError("one budget is needed", [Offence("give --steps N, or --epochs N with --data")])
    per_epoch = len(batches[0]) if batches else None
    total = steps if steps is not None else (epochs or 0) * (per_epoch or 0)
    with busy("capturing and planning ..."):
        program, *others = (compile_factory(one, model, example, total, per_epoch) for one in schedules)
    say(f"{program.plan}\n\n{amounts(program)}")
    if others:
        say(f"\n{compare(program.plan, others[0].plan)}")
    if draw:
        from frostline.drawing import draw as draw_plan

        draw_plan(program, draw, *others)
        say(f"written {draw}")


@app.command()
def train(
    spec: SpecFile,
    model: Model,
    data: Annotated[str, DataOption],
    epochs: Annotated[int, typer.Option(help="The budget in epochs of --data.", min=1)],
    run: Annotated[Path, typer.Option(help="A folder for checkpoints and history; an existing run goes on.")],
    learning_rate: Annotated[float, typer.Option("--lr", help="The constant learning rate of SGD.")] = 0.1,
    momentum: Annotated[float, typer.Option(help="The momentum of SGD.")] = 0.9,
    weight_decay: Annotated[float, typer.Option(help="The weight decay of SGD.")] = 0.0,
    probe_every: Annotated[
        int | None, typer.Option(metavar="STEPS", help="Record what arrives at each depth in RUN/probe.csv.", min=1)
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(metavar="STEPS", help="Save so often, beside after each epoch.", min=1)
    ] = None,
    edited_spec: Annotated[
        bool, typer.Option("--edited-spec", help="Go on under an edited SPEC: says what differs, notes it in RUN.")
    ] = False,
) -> None:
    """Train a classifier along a plan: SGD with a constant rate, cross-entropy, on the GPU where there is one.

    The history shows the test accuracy of the network as it is, masked, and as if every site were binary already.
    Ctrl-C saves; the same command goes on where it was, also after `kill -9`.
    """
    from frostline.training import fit

    schedule = load_spec(spec)
    recipe = Recipe(model, data, epochs, learning_rate, momentum, weight_decay)
    check_same_run(run, recipe)
    program, (training, test) = program_of(schedule, recipe)
    optimizer = optimizer_of(program, recipe)
    if begin_run(run, schedule, recipe):
        say(program.plan)
        if regions := program.graph.separate_regions:
            warn(f"the model branches on values: it becomes a file for each region ({', '.join(regions)}), never one")
    elif edited_spec and (differences := edit_run(run, program, recipe)):
        say(f"the run goes on under another plan:\n{differences}\n")
    history = fit(
        program, optimizer, training, test, epochs, run, probe_every=probe_every, checkpoint_every=checkpoint_every
    )
    say(f"fully binary accuracy {history[-1].binary:.1%}; now: frostline export {run}")


@app.command()
def draw(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="The probe.csv of a run, or of fl.Probe.")],
    out: Annotated[Path | None, typer.Option(help="A png, svg or pdf; TABLE.png by default, beside the table.")] = None,
) -> None:
    """Draw the table of a probe: accuracy, the gradient that arrives at each depth, and progress, over the steps."""
    from frostline.drawing import draw as draw_table

    picture = out or (table.with_suffix(".png") if table.name else Path("probe.png"))
    draw_table(table, picture)
    say(f"written {picture}")


@app.command()
def report(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="The page to write; RUN/report.html by default.")] = None,
    bench: Annotated[bool, typer.Option("--bench", help="Time the exported file as well: ten seconds.")] = False,
) -> None:
    """Make one page of a run: plan, accuracies, gradients, flips, certificate, and the exported file's speed."""
    from frostline.reporting import report as report_run

    page = out or run / "report.html"
    with busy("reading the run ..."):
        missing = report_run(run, page, bench)
    for what, why in missing:
        say(f"without {what}: {why}")
    say(f"written {page}")


@app.command()
def export(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default RUN/model.onnx, or RUN/model-TARGET.onnx.")
    ] = None,
    target: Annotated[str, typer.Option(help="portable, cpu-int8, cuda-fp16 or tensorrt-int8.")] = "portable",
    round_weights: Annotated[
        bool, typer.Option("--round-weights", help="Round the weights that stay float to 8 bits: a smaller file.")
    ] = False,
) -> None:
    """Freeze a finished run, write it as ONNX, prove the file on the test data, and print the certificate.

    A model that branches on values becomes a file for each of its regions, proven on what the example gave it.
    """
    with busy("freezing ..."):
        from frostline.exporting import export as export_graph

        binary, test = finished(run, rounded=round_weights)
    path = out or run / ("model.onnx" if target == "portable" else f"model-{Path(target).name}.onnx")
    for part in binary.parts() if binary.regions else (binary,):
        name = path.with_name(f"{path.stem}.{part.region}{path.suffix}") if part.region else path
        with busy("writing and proving ..."):
            certificate = export_graph(part, name, target=target, inputs=None if part.region else images_of(test))
        say(certificate)
        say(f"written {name}")
    if binary.regions:
        say("the model's own Python runs between these files, as its forward does between its submodules")


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
        with busy("freezing, and proving anew ..."):
            binary, test = finished(run, rounded=certificate.rounded > 0)
            certificate = verify_file(file, binary, images_of(test), target=certificate.target)
    say(certificate)
    say(f"{file}: {'proven anew' if run else 'unchanged since it was proven'}")


@app.command()
def show(file: ModelFile) -> None:
    """Explain an exported file: its certificate, what is binary in it, and what takes how much room."""
    from frostline.compiler.contents import contents
    from frostline.compiler.exported import read_certificate

    say(read_certificate(file))
    say(f"\n{contents(file)}")


@app.command()
def bench(
    file: ModelFile,
    against: Annotated[Path | None, typer.Option(help="The float original; else FILE on standard operators.")] = None,
    provider: Annotated[str | None, typer.Option(help="cpu or cuda; CUDA by default where it is.")] = None,
    threads: Annotated[int, typer.Option(help="Threads within one operator.", min=1)] = 1,
    batch: Annotated[int, typer.Option(help="Samples of one run.", min=1)] = 1,
    seconds: Annotated[float, typer.Option(help="How long to measure, about.", min=0.1)] = 10.0,
) -> None:
    """Time a file against its float original, in turns; show its nodes, and what limits it."""
    from frostline.benching import bench as bench_file

    say(bench_file(file, against, provider=provider, threads=threads, batch=batch, seconds=seconds))


def main() -> None:
    """Run the command line: errors are messages, not tracebacks, and every kind has its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of a terminal that does not know a sign
    try:
        app(standalone_mode=True)
    except FrostlineError as error:
        prefix = "error: " if error.exit_code != _INTERRUPTED else ""
        say(f"{prefix}{error}", err=True)
        sys.exit(error.exit_code)
