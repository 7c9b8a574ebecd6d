from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from frostline.compiler.graph import Graph
from frostline.compiler.invariants import binary
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

    requires: ClassVar[tuple[Invariant, ...]] = (binary,)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary,)

    def rewrite(self, graph: Graph) -> None:
        normalising = [
            one for one in graph.module.modules() if isinstance(one, _BatchNorm) and one.running_mean is not None
        ]
        if not normalising:
            return
        if graph.region:
            remedy = "leave batch_norm out of the spec"
            what = Offence(f"{graph.region} is a graph of its own, which the model's inputs do not fit", None, remedy)
            raise UsageError("BatchNorm cannot be estimated anew in a model that was captured in regions", [what])
        momenta = [module.momentum for module in normalising]
        modes = [module.training for module in normalising]
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
            for module, momentum, mode in zip(normalising, momenta, modes, strict=True):
                module.momentum, module.training = momentum, mode


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
