"""Hand-written models, each with one trap for a tracer; the docstring of the class names the trap."""

from __future__ import annotations

from benchmarks.zoo.corners import (
    attention,
    control_flow,
    convolution,
    gradients,
    in_place,
    indexing,
    inputs,
    loops,
    modules,
    normalisation,
    number_types,
    outputs,
    products,
    randomness,
    recurrent,
    shapes,
    state,
    weights,
)
from benchmarks.zoo.entry import Entry


def entries() -> list[Entry]:
    """The corner cases of every theme."""
    return [
        *control_flow.ENTRIES,
        *loops.ENTRIES,
        *shapes.ENTRIES,
        *indexing.ENTRIES,
        *inputs.ENTRIES,
        *outputs.ENTRIES,
        *modules.ENTRIES,
        *state.ENTRIES,
        *in_place.ENTRIES,
        *randomness.ENTRIES,
        *gradients.ENTRIES,
        *weights.ENTRIES,
        *products.ENTRIES,
        *convolution.ENTRIES,
        *normalisation.ENTRIES,
        *attention.ENTRIES,
        *recurrent.ENTRIES,
        *number_types.ENTRIES,
    ]
