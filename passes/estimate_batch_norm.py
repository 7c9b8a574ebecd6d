from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from frostline.compiler.graph import Graph, facts
from frostline.compiler.invariants import binary, unfolded
from frostline.compiler.net import modes_of
from frostline.compiler.rearrangements import called
from frostline.compiler.rewriting import Invariant, Pass
from frostline.errors import Offence, UsageError


@dataclass(frozen=True)
class EstimateBatchNorm(Pass):
    """BatchNorm with the averages of training -> BatchNorm with the mean statistics of some batches.

    The running averages lag behind what freezing changes. Here each BatchNorm normalises by the batch, as in train
    mode, and keeps the plain mean over all `batches` of mean and variance; everything else runs as in eval mode. A
    batch is a tensor, a tuple of positional arguments, or a mapping of keywords.
    """

    batches: Sequence[Any]

    requires: ClassVar[tuple[Invariant, ...]] = (binary, unfolded)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary,)

    def rewrite(self, graph: Graph) -> None:
        if graph.region:
            remedy = "leave batch_norm out of the spec"
            what = Offence(f"{graph.region} is a graph of its own, which the model's inputs do not fit", None, remedy)
            raise UsageError("BatchNorm cannot be estimated anew in a model that was captured in regions", [what])
        plain = [facts(node).where for node in graph.nodes if called(node) in ("batch_norm", "instance_norm")]
        if plain:
            remedy = "use nn.BatchNorm, or leave batch_norm out of the spec"
            whats = [Offence("its statistics are tensors of the model's own", where, remedy) for where in plain]
            raise UsageError("BatchNorm that is called as a function cannot be estimated anew", whats)
        normalising = self._normalising(graph)
        modes = {module: module.training for module in graph.module.modules()}
        momenta = {module: module.momentum for module in normalising}
        graph.module.eval()
        for module in normalising:
            for name, value in module.named_buffers():
                module._buffers[name] = value.clone()  # the given graph keeps its own
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
            module.training = True
        try:
            with torch.no_grad():
                for batch in self.batches:
                    _call(graph.module, batch)
        finally:
            for each, mode in modes.items():
                each.training = mode
            for module, momentum in momenta.items():
                module.momentum = momentum
        if not all(buffer.isfinite().all() for module in normalising for buffer in module.buffers()):
            remedy = "look for inputs that are not finite"
            what = Offence("some statistics are not finite", None, remedy)
            raise UsageError("BatchNorm cannot be estimated from these batches", [what])

    def _normalising(self, graph: Graph) -> list[_BatchNorm]:
        """What the graph calls and has statistics, but for what the model itself keeps in eval mode."""
        kept = {path for path, training in modes_of(graph.module).flags.get(True, {}).items() if not training}
        calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
        called_modules = {path: graph.module.get_submodule(path) for path in calls if path not in kept}
        return [
            module
            for module in dict.fromkeys(called_modules.values())
            if isinstance(module, _BatchNorm) and module.running_mean is not None
        ]


def _call(module: nn.Module, batch: Any) -> None:
    try:
        if isinstance(batch, Mapping):
            module(**batch)
        else:
            module(*batch) if isinstance(batch, tuple | list) else module(batch)
    except (TypeError, ValueError, RuntimeError) as error:
        remedy = "a batch is a tensor, a tuple of positional arguments, or a mapping of keywords, without labels"
        raise UsageError(
            "the batches for BatchNorm do not fit the model", [Offence(str(error), None, remedy)]
        ) from error
