"""The whole file against the whole graph: what is two-valued, what flips, and whether the decisions agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    unstable: int = 0
    seen: dict[str, set[float]] = field(default_factory=dict)
    spoiled: dict[str, None] = field(default_factory=dict)

    def add(
        self,
        model: onnx.ModelProto,
        reference: Reference,
        ends: Mapping[str, Array],
        shaken: Callable[[], Sequence[Sequence[Array]]],
    ) -> None:
        """Compare one part: what the file gave for every binary operation and output, with the graph's reference.

        `shaken` gives the outputs of the graph with its parameters moved by rounding, several times. A decision that
        the file makes otherwise than the graph is unstable where the graph so moved does not keep it either.
        """
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
        for place, (value, expected) in enumerate(zip(model.graph.output, reference.outputs, strict=False)):
            own = ends[value.name]
            if np.isnan(expected).any():
                self.spoiled["the graph's own outputs are not numbers: did training diverge?"] = None
            axis = 1 if expected.ndim >= 4 else expected.ndim - 1
            classes = expected.ndim >= 2 and expected.shape[axis] > 1 and expected.dtype.kind == "f"
            if classes and own.shape == expected.shape:
                decided = expected.argmax(axis)
                same = own.argmax(axis) == decided
                self.decisions += same.size
                self.agreeing += int(same.sum())
                if not same.all():
                    kept = [outputs[place].argmax(axis) == decided for outputs in shaken()]
                    self.unstable += int((~same & ~np.logical_and.reduce(kept)).sum())

    def faults(self) -> Iterator[Offence]:
        """What does not hold over all parts."""
        for fault in self.spoiled:
            yield Offence(fault)
        if self.agreeing + self.unstable < _AGREEMENT * self.decisions:
            unstable = f", and rounding explains {self.unstable} more" if self.unstable else ""
            yield Offence(f"only {self.agreeing} of {self.decisions} decisions agree with the graph's{unstable}")
