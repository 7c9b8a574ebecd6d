"""The whole file against the whole graph, from the input on: equal until rounding flips a value, and only there.

A value within rounding of its threshold may fall on the other side; what follows in that sample then differs for good.
So each sample is compared up to its first flip. Samples without one must lead to the same decisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from frostline.compiler.exported import operations
from frostline.compiler.reference import Array, Reference
from frostline.errors import Offence

_AGREEMENT = 0.95
_ROUNDING = 1e-4
"""How far from its threshold a value may flip, relative to the largest value of its tensor."""
_RARELY = 0.1
"""The share of a tensor that may do so: more is a difference in kind, unless they are few."""
_FEW = 8

_Samples = npt.NDArray[Any]


@dataclass
class Whole:
    """The whole file against the whole graph, summed over parts of the samples."""

    samples: int = 0
    steady: int = 0
    flips: int = 0
    values: int = 0
    decisions: int = 0
    agreeing: int = 0
    unexplained: int = 0
    seen: dict[str, set[float]] = field(default_factory=dict)
    spoiled: dict[str, None] = field(default_factory=dict)

    def add(self, model: onnx.ModelProto, reference: Reference, ends: Mapping[str, Array]) -> None:
        """Compare one part: what the file gave for every binary operation and output, with the graph's reference."""
        count = next((int(a.shape[0]) for a in reference.arguments if a.ndim), 1)
        steady = np.ones(count, dtype=bool)
        for site, node in operations(model):
            own = ends[node.output[0]]
            expected = reference.activations.get(site, reference.products.get(site))
            if expected is None or own.shape != expected.shape:
                self.spoiled[f"{site} has another shape in the whole file"] = None
            elif site in reference.activations:
                steady &= ~self._flipped(site, own, reference, steady)
            elif site in reference.binary:
                if not np.array_equal(own, np.rint(own)):
                    self.spoiled[f"the products of {site} are not integers in the file"] = None
                elif _of(own != reference.products[site], steady).any():
                    self.spoiled[f"the products of {site} are not the graph's in the whole file"] = None
        for value, expected in zip(model.graph.output, reference.outputs, strict=False):
            self._decide(ends[value.name], expected, steady)
        self.samples += count
        self.steady += int(steady.sum())

    def _flipped(self, site: str, own: Array, reference: Reference, steady: _Samples) -> _Samples:
        """The samples in which values of a site differ; those that were steady may do so by rounding alone."""
        levels, expected, given = reference.levels[site], reference.activations[site], reference.inputs[site]
        wrong = own != expected
        if not np.isin(own, levels).all():
            self.spoiled[f"{site} is not two-valued in the file"] = None
        scale = float(np.max(np.abs(given), initial=0.0))
        far = np.abs(given - reference.thresholds[site]) > _ROUNDING * scale
        far |= site in reference.by_integers  # nothing is rounded there
        if _of(wrong & far, steady).any():
            self.spoiled[f"{site} differs in the whole file where it is far from its threshold"] = None
        fresh = _of(wrong, steady)
        if fresh.sum() > max(_FEW, _RARELY * fresh.size):
            self.spoiled[f"{fresh.mean():.0%} of {site} differ in the whole file, too many for rounding"] = None
        self.flips += int(wrong.sum())
        self.values += own.size
        self.seen.setdefault(site, set()).update(np.unique(own).tolist())
        by_sample = wrong.reshape(len(steady), -1).any(1) if _by_sample(wrong, steady) else wrong.any()
        return np.broadcast_to(by_sample, steady.shape)

    def _decide(self, own: Array, expected: Array, steady: _Samples) -> None:
        if expected.dtype.kind == "f" and np.isnan(expected).any():
            self.spoiled["the graph's own outputs are not numbers: did training diverge?"] = None
        axis = 1 if expected.ndim >= 4 else expected.ndim - 1
        classes = expected.ndim >= 2 and expected.shape[axis] > 1 and expected.dtype.kind == "f"
        if classes and own.shape == expected.shape:
            chosen = np.expand_dims(own.argmax(axis), axis)
            lost = expected.max(axis) - np.take_along_axis(expected, chosen, axis).squeeze(axis)
            by_rounding = lost <= _ROUNDING * np.abs(expected).max(initial=0.0)
            same = own.argmax(axis) == expected.argmax(axis)
            self.decisions += same.size
            self.agreeing += int(same.sum())
            self.unexplained += int((~_of(same | by_rounding, steady)).sum())

    def faults(self) -> Iterator[Offence]:
        """What does not hold over all parts."""
        for fault in self.spoiled:
            yield Offence(fault)
        if self.unexplained > (1 - _AGREEMENT) * self.decisions:
            what = f"only {self.agreeing} of {self.decisions} decisions agree with the graph's"
            yield Offence(f"{what}; {self.unexplained} differ though no binary value did")


def _by_sample(values: Array, steady: _Samples) -> bool:
    return values.ndim > 0 and values.shape[0] == len(steady)


def _of(values: Array, steady: _Samples) -> Array:
    """The part of a tensor that belongs to steady samples: none of it, where the samples cannot be told apart and one
    is not."""
    if _by_sample(values, steady):
        return values[steady]
    return values if steady.all() else values[:0] if values.ndim else np.zeros(0, dtype=bool)
