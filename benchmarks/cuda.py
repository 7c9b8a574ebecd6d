"""How fast are packed convolutions on a GPU? `python -m benchmarks.cuda` (one argument: the batch, 256 by default)

The convolutions of ResNet-50 with 64 inputs or more, against cuDNN in fp16 and channels-last memory, timed in one run.
`bits`: from bits to the bits of the next convolution. `halves`: from bits to fp16, with scale, shift and residual.
`of peak`: the share of the rate at which the tensor cores multiply single bits out of registers, measured here. cuDNN
computes its convolution and nothing after it. Equality is for the tests.
"""

from __future__ import annotations

import ctypes
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from frostline.compiler import bits
from frostline.compiler.kernels import cuda
from frostline.compiler.kernels.fitting import Affine, Threshold
from frostline.compiler.kernels.launching import launch
from tests.models.resnet import resnet50

_REPEATS = 20


class Rate(ctypes.Structure):
    """The arguments of the kernel that measures the peak, as in `rate.cuh`."""

    _fields_ = (("result", ctypes.c_void_p), ("rounds", ctypes.c_int))


@dataclass(frozen=True)
class Layer:
    """A convolution and the size of its input."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    size: int

    def __str__(self) -> str:
        return f"{self.kernel}x{self.kernel} {self.inputs} -> {self.outputs}, {self.size}^2, stride {self.stride}"

    def products(self, batch: int) -> int:
        """Binary multiply-adds."""
        pixels = ((self.size - 1) // self.stride + 1) ** 2
        return batch * pixels * self.outputs * self.inputs * self.kernel**2


def layers() -> Counter[Layer]:
    """The convolutions of ResNet-50 behind a stem that leaves 56 x 56 of 224 x 224, and how often each is there."""
    found: Counter[Layer] = Counter()

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Conv2d) and module.in_channels >= 64:
            size = (module.kernel_size[0], module.stride[0], args[0].shape[-1])
            found[Layer(module.in_channels, module.out_channels, *size)] += 1

    with torch.device("meta"):
        model = resnet50().eval()  # its stem keeps the size
    for module in model.modules():
        module.register_forward_pre_hook(note)
    model(torch.empty(1, 3, 56, 56, device="meta"))
    return found


def seconds(call: Callable[[], Any]) -> float:
    """The median time of a call on the GPU."""
    for _ in range(3):
        call()
    times = []
    for _ in range(_REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return statistics.median(times)


def peak(device: torch.device) -> float:
    """Binary multiply-adds a second of the tensor cores, out of registers."""
    blocks, threads, rounds = 8 * torch.cuda.get_device_properties(device).multi_processor_count, 128, 4096
    result = torch.empty(blocks * threads, dtype=torch.int32, device=device)
    arguments = Rate(result.data_ptr(), rounds)
    taken = seconds(lambda: launch("rate<8>", arguments, (blocks, 1), threads, 0, device))
    return blocks * threads // 32 * rounds * 8 * (16 * 8 * 256) / taken


def measure(layer: Layer, batch: int, device: torch.device) -> tuple[float, float, float]:
    """Seconds in fp16, from bits to bits, and from bits to halves."""
    window = ((layer.stride,) * 2, (layer.kernel // 2,) * 4)
    x = torch.randn(batch, layer.inputs, layer.size, layer.size, device=device, dtype=torch.float16)
    x = x.sign().contiguous(memory_format=torch.channels_last)
    weights = torch.randn(layer.outputs, layer.inputs, layer.kernel, layer.kernel, device=device).sign()
    half = weights.half().contiguous(memory_format=torch.channels_last)
    float_time = seconds(lambda: torch.conv2d(x, half, None, layer.stride, layer.kernel // 2))

    packed, packed_weights = cuda.pack(x), bits.pack(weights)
    corrected = cuda.corrections(packed_weights, layer.inputs)
    to_bits = Threshold(torch.zeros(layer.outputs, dtype=torch.int32, device=device))
    residual = torch.conv2d(x, half, None, layer.stride, layer.kernel // 2)
    scale, shift = torch.randn(2, layer.outputs, device=device)
    to_halves = Affine(scale, shift, residual, torch.float16)

    def binary(then: Affine | Threshold) -> float:
        return seconds(lambda: cuda.conv(packed, packed_weights, layer.inputs, *window, then=then, corrected=corrected))

    return float_time, binary(to_bits), binary(to_halves)


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("benchmarks.cuda needs a GPU")
    batch, device = int(sys.argv[1]) if len(sys.argv) > 1 else 256, torch.device("cuda")
    torch.backends.cudnn.benchmark = True
    fastest = peak(device)
    name = torch.cuda.get_device_name(device)
    print(f"{name}, batch {batch}, peak {fastest / 1e12:.0f} T binary multiply-adds a second")
    table = Table("layer", "times", "fp16 ms", "bits ms", "ratio", "of peak", "halves ms", "ratio")
    sums: list[float] = [0, 0, 0]
    for layer, count in layers().items():
        times = measure(layer, batch, device)
        sums = [total + count * taken for total, taken in zip(sums, times, strict=True)]
        share = layer.products(batch) / times[1] / fastest
        table.add_row(str(layer), str(count), *_cells(times, f"{share:.0%}"))
    table.add_section()
    table.add_row("all", "", *_cells(sums, ""))
    Console(width=120).print(table)


def _cells(times: Sequence[float], share: str) -> list[str]:
    half, to_bits, to_halves = (f"{1e3 * taken:.3f}" for taken in times)
    ratios = [f"{times[0] / taken:.1f}x" for taken in times[1:]]
    return [half, to_bits, ratios[0], share, to_halves, ratios[1]]


if __name__ == "__main__":
    main()
