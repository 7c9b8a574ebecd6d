"""What does masked training cost? `python -m benchmarks.training [NETWORK] [--compiled]`

Steps of the float network, of the same network masked (waiting, turning, settled), of a straight-through estimator as
one writes it by hand, and of Brevitas and bitorch where they are installed (`pip install brevitas bitorch`). All take
turns in one run, each step being forward, backward, SGD and, for the masked, `advance()`. Everything lies channels
last, as convolutions are fastest. Also: what one `advance()` takes of the host's time, and how many bytes wait for
backward.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from examples.cifar.networks.build import Images, build

TOTAL = 1_000_000
"""Steps of the plan: so many that a window lasts longer than the benchmark."""


@dataclass
class Contestant:
    """A network, one step of its training, and the seconds of each step so far."""

    name: str
    net: nn.Module
    program: fl.Program | None = None
    seconds: list[float] = field(default_factory=list)


class Sign(torch.autograd.Function):
    """What binarizing by hand usually is."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(u)
        return torch.where(u >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad_outputs[0] * (u.abs() <= 1)


class HandMade(nn.Conv2d):
    """A binary convolution with the clipped straight-through estimator."""

    def forward(self, input: Tensor) -> Tensor:
        weight, u = Sign.apply(self.weight), Sign.apply(input)
        return functional.conv2d(u, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def by_hand(conv: nn.Conv2d) -> nn.Module:
    make: Any = HandMade
    return make(*_arguments(conv), bias=False)


def by_brevitas(conv: nn.Conv2d) -> nn.Module:
    brevitas, binary = importlib.import_module("brevitas.nn"), importlib.import_module("brevitas.quant.binary")
    kinds = {
        "weight_quant": binary.SignedBinaryWeightPerTensorConst,
        "input_quant": binary.SignedBinaryActPerTensorConst,
    }
    return brevitas.QuantConv2d(*_arguments(conv), bias=False, **kinds)


def by_bitorch(conv: nn.Conv2d) -> nn.Module:
    layers = importlib.import_module("bitorch.layers")
    return layers.QConv2d(*_arguments(conv), bias=False, input_quantization="sign", weight_quantization="sign")


PEERS: dict[str, Callable[[nn.Conv2d], nn.Module]] = {"bitorch": by_bitorch, "brevitas": by_brevitas}


def _arguments(conv: nn.Conv2d) -> tuple[Any, ...]:
    return conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding


def exchanged(net: nn.Module, kept: set[str], make: Callable[[nn.Conv2d], nn.Module]) -> nn.Module:
    """The network with other convolutions in place of those that turn binary."""
    net = copy.deepcopy(net)
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Conv2d) and name not in kept:
            owner, _, own = name.rpartition(".")
            setattr(net.get_submodule(owner), own, make(module))
    return net


def contestants(name: str, batch: int, peers: bool) -> Iterator[Contestant]:
    kind = Images(10, 32, (0.5,) * 3, (0.25,) * 3)
    torch.manual_seed(0)
    net = build(name, kind)
    yield Contestant("float", copy.deepcopy(net))
    program = fl.compile(copy.deepcopy(net), fl.load_spec("stompp"), (torch.rand(2, 3, 32, 32),), TOTAL)
    for state, step in (("waiting", 0), ("turning", TOTAL // 2), ("settled", TOTAL)):
        twin = copy.deepcopy(program)
        twin.driver.resume(step)
        yield Contestant(f"frostline, {state}", twin.net, twin)
    turning = {operand.operation for turn in program.plan.turns for operand in turn.site.operands}
    kept = {path for path, _ in net.named_modules()} - turning
    yield Contestant("by hand", exchanged(net, kept, by_hand))
    for peer, make in PEERS.items() if peers else ():
        if importlib.util.find_spec(peer) is not None:
            yield Contestant(peer, exchanged(net, kept, make))


def waiting_bytes(net: nn.Module, x: Tensor) -> int:
    """Bytes of all that is kept for backward, parameters left out, each storage once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = net(x)
        found = sum(kept.values())
        del result
    return found


def advance_seconds(program: fl.Program, steps: int = 300) -> list[float]:
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        program.advance()
        seconds.append(time.perf_counter() - start)
    return seconds


def main(
    network: Annotated[str, typer.Argument()] = "resnet18",
    batch: int = 16,
    seconds: float = 60.0,
    compiled: bool = False,
    threads: int = 1,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    peers: bool = True,
) -> None:
    """Print the time of a step of each, in turns, and its ratio to float."""
    torch.set_num_threads(threads)
    x = torch.rand(batch, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (batch,), device=device)
    found = list(contestants(network, batch, peers))
    steps = []
    for one in found:
        one.net.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(one.net.parameters(), lr=1e-4, momentum=0.9)
        forward = torch.compile(one.net, dynamic=False) if compiled else one.net
        steps.append(_step(one, forward, optimizer, x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers'
        faults = [_fault(step, one.name in PEERS) for one, step in zip(found, steps, strict=True)]
        for index in reversed([index for index, fault in enumerate(faults) if fault]):
            print(f"{found[index].name} is left out: {faults[index]}")
            del found[index], steps[index]
        for one in found:
            one.seconds.clear()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for step in steps:
                step()
        sizes = [waiting_bytes(one.net, x) for one in found]
    table = Table("", "median ms", "best ms", "to float", "best to best", "MB for backward", box=None, header_style="")
    base = found[0]
    for one, size in zip(found, sizes, strict=True):
        middle, best = median(one.seconds), min(one.seconds)
        ratios = f"{middle / median(base.seconds):.2f}", f"{best / min(base.seconds):.2f}"
        table.add_row(one.name, f"{1000 * middle:.1f}", f"{1000 * best:.1f}", *ratios, f"{size / 1e6:.1f}")
    where = torch.cuda.get_device_name() if device == "cuda" else f"{threads} thread{'s' * (threads > 1)}"
    console = Console(width=120)
    console.print(
        f"{network}, batch {batch}, {'compiled' if compiled else 'eager'}, {where}, {len(base.seconds)} rounds"
    )
    console.print(table)
    for one in found:
        if one.program and one.name.endswith("turning"):
            taken = sorted(advance_seconds(one.program))
            times = f"{1e6 * median(taken):.0f} us in the median, {1e6 * taken[-1]:.0f} us at most"
            console.print(f"advance(): {times}; {one.program.plan.mask_bytes / 1e6:.1f} MB of masks")


def _fault(step: Callable[[], None], peer: bool) -> str | None:
    """Warm up; what a peer raises in it, if it does."""
    try:
        step()
        step()
    except Exception as error:
        if not peer:
            raise
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return None


def _step(
    one: Contestant, forward: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor
) -> Callable[[], None]:
    def step() -> None:
        start = time.perf_counter()
        functional.cross_entropy(forward(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        if one.program:
            one.program.advance()
        if x.is_cuda:
            torch.cuda.synchronize()
        one.seconds.append(time.perf_counter() - start)

    return step


if __name__ == "__main__":
    typer.run(main)
