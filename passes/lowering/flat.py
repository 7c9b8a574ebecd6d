"""A net that takes and returns bare tensors, which is all that an exporter knows, whatever its forward is given."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from frostline.compiler.graph import Example
from frostline.compiler.tensors import map_tensors, parts, tensors_in
from frostline.passes.lowering.plain import InPlainOperations


class Flat(nn.Module):
    """Calls a net with the arguments of an example, in which the tensors are exchanged for those given.

    What it returns are the tensors in what the net returns, in order.
    """

    def __init__(self, net: fx.GraphModule, example: Example) -> None:
        super().__init__()
        self.net = net
        self._arguments = map_tensors(example.bound(net), lambda tensor: tensor.cpu())
        named = [pair for name, value in self._arguments.items() for pair in _named(name, value)]
        self.names = [name for name, _ in named]
        """What the tensors are called: the argument's name, and the way to the tensor inside of it."""
        self.tensors = tuple(tensor for _, tensor in named)
        """The example's own tensors."""

    def names_of_results(self) -> list[str] | None:
        """What the net's own result calls its tensors, where it is a dictionary or has fields, and they are unique."""
        fakes = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
        fake = partial(fakes.from_tensor, static_shapes=True)
        with torch.no_grad(), fakes, InPlainOperations():
            result = self.net(**map_tensors(self._arguments, fake))
        if isinstance(result, (Tensor, tuple, list)):
            return None
        names = [name for key, part in parts(result) for name, _ in _named(str(key), part)]
        return names if len({*names, *self.names}) == len(names) + len(self.names) else None

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        left = iter(tensors)
        seen: set[int] = set()
        returned = []
        with InPlainOperations():
            result = self.net(**map_tensors(self._arguments, lambda _: next(left)))
        for tensor in tensors_in(result):
            returned.append(tensor.clone() if id(tensor) in seen else tensor)  # a file has no name twice
            seen.add(id(tensor))
        return tuple(returned)


def _named(name: str, value: Any) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    return [pair for key, part in parts(value) for pair in _named(f"{name}.{key}", part)]
