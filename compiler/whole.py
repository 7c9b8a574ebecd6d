"""The whole file against the whole graph: what is two-valued, what flips, and whether the decisions agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from frostline.compiler.exported import operations
from frostline.compiler.reference import Array, Reference
from frostline.errors import Offence

_AGREEMENT = 0.95


@dataclass
class Whole:
    """The whole file against the whole graph, summed over parts of the samples."""

    samples: int = 0
    flips: int = 0
    values: int = 0
    decisions: int = 0
    agreeing: int = 0
    seen: dict[str, set[float]] = field(default_factory=dict)
    spoiled: dict[str, None] = field(default_factory=dict)

    def add(self, model: onnx.ModelProto, reference: Reference, ends: Mapping[str, Array]) -> None:
        """Compare one part: what the file gave for every binary operation and output, with the graph's reference."""
        self.samples += next((int(a.shape[0]) for a in reference.arguments if a.ndim), 1)
        for site, node in operations(model):
            own = ends[node.output[0]]
            if site in reference.activations:
                if not np.isin(own, reference.levels[site]).all():
                    self.spoiled[f"{site} is not two-valued in the file"] = None
                self.flips += int((own != reference.activations[site]).sum())
                self.values += own.size
                self.seen.setdefault(site, set()).update(np.unique(own).tolist())
            elif site in reference.binary and not np.array_equal(own, np.rint(own)):
                self.spoiled[f"the products of {site} are not integers in the file"] = None
        for value, expected in zip(model.graph.output, reference.outputs, strict=False):
            own = ends[value.name]
            if not np.isfinite(expected).all():
                self.spoiled["the graph's own outputs are not finite: did training diverge?"] = None
            axis = 1 if expected.ndim >= 4 else expected.ndim - 1
            classes = expected.ndim >= 2 and expected.shape[axis] > 1 and expected.dtype.kind == "f"
            if classes and own.shape == expected.shape:
                same = own.argmax(axis) == expected.argmax(axis)
                self.decisions += same.size
                self.agreeing += int(same.sum())

    def faults(self) -> Iterator[Offence]:
        """What does not hold over all parts."""
        for fault in self.spoiled:
            yield Offence(fault)
        if self.agreeing < _AGREEMENT * self.decisions:
            yield Offence(f"only {self.agreeing} of {self.decisions} decisions agree with the graph's")
