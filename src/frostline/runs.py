"""What the commands share: the user's factories, and the folder of a run."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from frostline.errors import CheckpointError, FrostlineError, Offence, UsageError, nearest, offences_of
from frostline.schedules import ScheduleSpec
from frostline.terminal import warn

if TYPE_CHECKING:
    from frostline.compiler.graph import Graph
    from frostline.program import Program


@dataclass(frozen=True)
class Recipe:
    """What a run was started with, beside its spec; `run.json` in the run's folder."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    model: str
    data: str
    epochs: int
    learning_rate: float
    momentum: float
    weight_decay: float


@dataclass(frozen=True)
class _Noted:
    """What `run.json` holds."""

    recipe: Recipe
    spec: dict[str, Any]


def check_same_run(folder: Path, recipe: Recipe) -> None:
    """A folder that holds a checkpoint goes on with what it was started with, and nothing else."""
    if not _has_checkpoint(folder):
        return
    before = asdict(_read_run(folder)[0])
    differing = [
        Offence(f"{name} is {value} now and was {before[name]}", remedy="use another --run for a new run")
        for name, value in asdict(recipe).items()
        if value != before[name]
    ]
    if differing:
        raise CheckpointError(f"{folder} holds another run", differing)


def begin_run(folder: Path, spec: ScheduleSpec, recipe: Recipe) -> bool:
    """Note what a run is, once it is known that it can start. Returns whether it begins, and does not go on."""
    if _has_checkpoint(folder):
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}", [Offence(error.strerror or str(error))]) from error
    _note(folder, spec, recipe)
    return True


def edit_run(folder: Path, program: Program, recipe: Recipe) -> str:
    """Give a run the plan of a program that was made under an edited spec, note the spec, and return what differs."""
    from frostline.training import replan

    differences = replan(program, folder, warn)
    _note(folder, program.plan.spec, recipe)
    return differences


def _note(folder: Path, spec: ScheduleSpec, recipe: Recipe) -> None:
    from frostline.compiler.files import replacing

    with replacing(folder / "run.json") as part:
        part.write_text(json.dumps({"recipe": asdict(recipe), "spec": spec.as_data()}, indent=2) + "\n")


def _has_checkpoint(folder: Path) -> bool:
    from frostline.compiler.checkpoint import Checkpoints

    return bool(Checkpoints(folder).paths)


def _read_run(folder: Path) -> tuple[Recipe, ScheduleSpec]:
    from frostline.compiler.files import whole
    from frostline.schedules import spec_from_data

    path = folder / "run.json"
    try:
        noted = TypeAdapter(_Noted).validate_json(whole(path))
        return noted.recipe, spec_from_data(noted.spec, str(path))
    except OSError as error:
        what = Offence(f"it has no {path.name}")
        raise CheckpointError(f"{folder} is not the folder of a run", [what]) from error
    except ValidationError as error:
        raise CheckpointError(f"{path} cannot be read", offences_of(error)) from error


def planned(folder: Path) -> tuple[dict[str, Any], Program]:
    """What a run was started with, and its program before the first step."""
    recipe, spec = _read_run(folder)
    return asdict(recipe), program_of(spec, recipe)[0]


def finished(folder: Path, *, rounded: bool = False) -> tuple[Graph, Any]:
    """The binary graph of a run at its checkpoint, with 8 bits a float weight if `rounded`, and the test data."""
    from frostline.compiler.rewriting import run
    from frostline.passes import RoundWeights
    from frostline.training import restore

    recipe, spec = _read_run(folder)
    program, (training, test) = program_of(spec, recipe)
    restore(program, folder, warn)
    done, needed = program.step, program.plan.settled_at
    if done < needed:
        what = Offence(f"step {done} of {program.plan.total_steps}", remedy="run the same `frostline train` again")
        raise CheckpointError(f"the run in {folder} is not done", [what])
    binary = program.freeze(batches=_inputs(training, spec) if spec.batch_norm else None)
    return run(binary, [RoundWeights()] if rounded else []), test


def _inputs(batches: Any, spec: ScheduleSpec) -> Iterator[Any]:
    """The inputs of batches, epoch after epoch, in the same order each time that a run is frozen."""
    import torch

    torch.manual_seed(spec.seed)
    while True:
        for x, _ in batches:
            yield x.to("cuda") if torch.cuda.is_available() else x


def images_of(test: Any) -> tuple[Any, ...]:
    """The inputs of the whole test set, as the arguments of one call."""
    import torch

    return (torch.cat([x for x, _ in test]),)


def program_of(spec: ScheduleSpec, recipe: Recipe) -> tuple[Program, tuple[Any, Any]]:
    """The program of a run before its first step, with training and test data."""
    training, test = data_of(recipe.data)
    per_epoch = len(training)
    program = compile_factory(spec, recipe.model, example_of(test), recipe.epochs * per_epoch, per_epoch)
    return program, (training, test)


def compile_factory(spec: ScheduleSpec, model: str, example: Any, total_steps: int, per_epoch: int | None) -> Program:
    """Compile a factory's model on the GPU where there is one; the spec's seed decides its initial weights."""
    import torch

    from frostline.program import compile

    torch.manual_seed(spec.seed)
    made = _made(model)
    if not isinstance(made, torch.nn.Module):
        raise UsageError(f"{model} returns a {type(made).__name__}", [Offence("it should return a torch.nn.Module")])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return compile(made.to(device), spec, (example.to(device),), total_steps, steps_per_epoch=per_epoch)


def optimizer_of(program: Program, recipe: Recipe) -> Any:
    """SGD over the net's parameters. Raises UsageError for numbers that it does not take."""
    import torch

    numbers = (recipe.learning_rate, recipe.momentum, recipe.weight_decay)
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise UsageError("the optimizer cannot be made", [Offence("--lr, --momentum and --weight-decay are from 0 on")])
    return torch.optim.SGD(program.net.parameters(), *numbers[:2], weight_decay=recipe.weight_decay)


def data_of(factory: str) -> tuple[Any, Any]:
    """Training and test batches, as a factory returns them. Raises UsageError for anything else."""
    made = _made(factory)
    if not isinstance(made, tuple) or len(made) != 2 or not all(hasattr(part, "__len__") for part in made):
        remedy = "return (training, test), each a DataLoader or list of (inputs, labels), with a length"
        raise UsageError(f"{factory} does not return two sets of batches", [Offence("not a pair", remedy=remedy)])
    if not len(made[0]) or not len(made[1]):
        raise UsageError(f"{factory} returns no batches", [Offence("training or test set is empty")])
    return made


def example_of(batches: Any) -> Any:
    """The first few inputs of some batches. Raises UsageError where a batch is no pair of tensors."""
    import torch

    batch = next(iter(batches))
    if not isinstance(batch, tuple | list) or len(batch) != 2 or not all(isinstance(t, torch.Tensor) for t in batch):
        raise UsageError(
            "a batch is a pair of tensors, inputs and labels", [Offence(f"it is a {type(batch).__name__}")]
        )
    return batch[0][:8]


def model_and_example(factory: str, shapes: Sequence[str]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A factory's model with an example: its own, where it returns `(model, args)` or `(model, args, kwargs)`, or
    random tensors of these shapes."""
    import torch

    made = _made(factory)
    given: list[Any] = list(made) if isinstance(made, tuple) and len(made) in (2, 3) else [made, None]
    model, args = given[:2]
    kwargs = given[2] if len(given) > 2 else {}
    if not isinstance(model, torch.nn.Module):
        remedy = "return a torch.nn.Module, or (module, args) or (module, args, kwargs)"
        raise UsageError(f"{factory} returns a {type(model).__name__}", [Offence("not a module", remedy=remedy)])
    if shapes:
        generator = torch.Generator().manual_seed(0)
        args = tuple(torch.randn(shape_of(shape), generator=generator) for shape in shapes)
    if args is None:
        remedy = "give --input 2x3x32x32, once for each input, or return (module, args) from the factory"
        raise UsageError("an example input is needed", [Offence("the factory returns a model alone", remedy=remedy)])
    return model, args, kwargs


def shape_of(text: str) -> tuple[int, ...]:
    """A shape written as `2x3x32x32`. Raises UsageError for anything else."""
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
        holder = importlib.import_module(module)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        remedy = _missing(error, module) or "modules are found from the current folder, and named without .py"
        raise UsageError(f"{module} cannot be imported", [Offence(what, user_line(error), remedy)]) from error
    if not callable(getattr(holder, name, None)):
        near = nearest(name, [key for key, value in vars(holder).items() if callable(value) and key[0] != "_"])
        raise UsageError(f"{factory} names no factory", [Offence(f"{module} has no function {name}", None, near)])
    try:
        return getattr(holder, name)()
    except FrostlineError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise UsageError(f"{factory} failed", [Offence(what, user_line(error), _missing(error, module))]) from error


def _missing(error: Exception, module: str) -> str | None:
    """What to do where an import fails for want of another module than the one that was named."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None or f"{module}.".startswith(f"{error.name}."):
        return None
    return f"install the package that brings {error.name}; a module of yours is found from the current folder"
