"""Does the written file compute what the graph computes?

Whole networks cannot be compared by their outputs: one activation at -1e-8 in place of 0 flips a sign, and everything
after it differs. So the file is cut at every binary operation, and each piece is given the *graph's own* values. There
the integers must be equal, and the float pieces between them close. Where an operation compares its integers itself and
shows levels alone, the levels must be equal: with the file's own thresholds, and with others that integers of the graph
lie on. The whole must be equal as well, until a value that lies within float rounding of its threshold flips: such
flips are counted, and decide what follows in their sample.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from torch import fx

from frostline.compiler.certificate import Certificate, Proven
from frostline.compiler.exported import compares, named, operation_of, operations, read_model
from frostline.compiler.graph import Example, Graph, facts
from frostline.compiler.invariants import is_unpack
from frostline.compiler.masks import threshold
from frostline.compiler.pieces import by_input, exposed, piece_inputs, pieces_of, side
from frostline.compiler.reference import Array, Reference, reference_of, samples, twin_of
from frostline.compiler.session import open_model, runtime
from frostline.compiler.whole import Whole
from frostline.errors import DriftError, Offence, UsageError, first_line
from frostline.schedules import ZERO_ONE

_TOLERANCE = 1e-3
_NOTHING = 1e-6
"""Tensors smaller than this are compared by it: ONNX Runtime's sigmoid is 0 where torch's is 1e-19."""
_PART = 32

_Moved = tuple[Mapping[str, Array], Mapping[str, Array]]
"""Thresholds, by site, in the place of a file's own, and what its pieces show with them."""


def verify(
    path: str | Path,
    graph: Graph,
    inputs: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: str = "portable",
    name: str | Path | None = None,
) -> Certificate:
    """Re-open a written file and prove it against the binary graph that it was lowered from.

    `inputs` and `kwargs` are arguments of the model, batch first, real data at best; the example's by default. The
    first 32 samples go through every piece of the file, all of them through the whole, 32 at a time. `name` is what
    messages call the file.

    Raises DriftError with every piece that does not hold, FileError when the file is not a model, and UsageError when
    the model does not run on the inputs.
    """
    model = read_model(path)
    twin = twin_of(graph)
    given = graph.example if inputs is None and kwargs is None else _example(() if inputs is None else inputs, kwargs)
    references = (reference_of(twin, part) for part in samples(given, _PART))
    first = next(references)
    cut = _open(pieces_of(model))
    feeds = piece_inputs(model, first)
    pieces = _run(cut, feeds)
    deviation, float_faults = _float_parts(model, first, pieces)
    faults = [*_site_faults(model, first, pieces), *_weight_faults(model, first)]
    faults += [*_product_faults(model, first, pieces), *float_faults]
    thresholds = _thresholds(first)
    below = {f"given:{site}": thresholds[f"given:{site}"] - 1 for site in first.by_integers}
    comparing = {site: node for site, node in operations(model) if compares(node) and site in first.by_integers}
    middle = {site: _middle(first, site) for site in comparing}
    above = {site: integers + 1 for site, integers in middle.items()}
    at = _run(_open(pieces_of(model, middle)) if comparing else cut, feeds | thresholds)
    under = _run(_open(pieces_of(model, above)) if comparing else cut, feeds | below) if below else {}
    faults += _threshold_faults(first, at, under, comparing)
    faults += _comparison_faults(model, first, comparing, [(middle, at), (above, under)])
    whole = Whole()
    opened = _open(exposed(model))
    for reference in chain([first], references):
        whole.add(model, reference, _run(opened, by_input(model, reference.arguments)))
    faults += whole.faults()
    if faults:
        raise DriftError(f"{name or path} does not compute what the graph computes", faults)
    packed = sum(bits.nbytes for views in first.bits.values() for bits in views)
    unpacked = sum(4 * _weights(node) for node in graph.nodes if is_unpack(node))
    kept = [4 * bytes.size - bytes.nbytes - scale.nbytes for bytes, scale in first.rounded.values()]
    size = Path(path).stat().st_size
    return Certificate(
        target=target,
        opset=next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        sites=len(first.activations) + len(first.bits),
        zero_one=sum(levels == ZERO_ONE for levels in first.levels.values()),
        by_integers=len(first.by_integers),
        rounded=sum(int(bytes.size) for bytes, _ in first.rounded.values()),
        operations=tuple(
            Proven(name, node.op_type, _compared(name, node, first), int(first.products[name].size))
            for node in (node for _, node in operations(model))
            if (name := operation_of(node)) in first.products
        ),
        as_float=first.as_float,
        samples=whole.samples,
        pieces=min(whole.samples, _PART),
        constant=tuple(site for site, values in whole.seen.items() if len(values) == 1),
        deviation=deviation,
        flips=whole.flips,
        values=whole.values,
        decisions=whole.decisions,
        agreeing=whole.agreeing,
        steady=whole.steady,
        file_bytes=size,
        float_bytes=size - packed + unpacked + sum(kept),
        runtime=f"ONNX Runtime {runtime().__version__}",
        note=model.doc_string,
    )


def _example(inputs: object, kwargs: Mapping[str, Any] | None) -> Example:
    if not isinstance(inputs, tuple):
        remedy = "write (x,) for a single tensor"
        raise UsageError("inputs is not a tuple", [Offence(f"it is a {type(inputs).__name__}", remedy=remedy)])
    return Example(inputs, dict(kwargs or {}))


def _thresholds(reference: Reference) -> dict[str, Array]:
    """For every site the smallest value that becomes `high`; where that is 0, zeros of both signs."""
    feeds = {}
    for site, thresholds in reference.thresholds.items():
        given = reference.inputs[site]
        smallest = np.broadcast_to(thresholds, given.shape)
        feeds[f"given:{site}"] = np.where(smallest == 0, np.copysign(smallest, given), smallest)
    return feeds


def _middle(reference: Reference, site: str) -> Array:
    """For each channel of a site one of the integers that it compares: that in the middle of all."""
    given, thresholds = reference.inputs[site], reference.thresholds[site]
    if not given.size:
        return thresholds
    by_channel = np.moveaxis(given, given.ndim - thresholds.ndim, 0).reshape(thresholds.size, -1)
    return np.sort(by_channel, axis=1)[:, by_channel.shape[1] // 2].reshape(thresholds.shape)


def _comparison_faults(
    model: onnx.ModelProto, reference: Reference, comparing: Mapping[str, onnx.NodeProto], moved: Collection[_Moved]
) -> Iterator[Offence]:
    """What operations that compare their own integers make of them is the graph's: the file has the graph's thresholds,
    and with others, those in `moved`, the levels are those of the graph's integers."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for site, node in comparing.items():
        if not np.array_equal(numpy_helper.to_array(held[node.input[2]]).ravel(), reference.thresholds[site].ravel()):
            yield Offence(f"the thresholds of {site} are not the graph's")
        high = reference.high[site]
        low = sum(reference.levels[site]) - high
        expected = [np.where(reference.inputs[site] >= thresholds[site], high, low) for thresholds, _ in moved]
        if not all(map(np.array_equal, [own[f"own:{site}"] for _, own in moved], expected)):
            yield Offence(f"the integers that {site} compares are not the graph's")


def _threshold_faults(
    reference: Reference, at: Mapping[str, Array], below: Mapping[str, Array], comparing: Collection[str]
) -> Iterator[Offence]:
    """What the sites make of their thresholds, and of the integers just below, is the graph's."""
    for site, levels in reference.levels.items():
        own, high = f"own:{site}", np.broadcast_to(reference.high[site], reference.activations[site].shape)
        if own not in at or site in comparing:
            continue  # a fault already, or the integers are not the file's to be given
        if site not in reference.by_integers:
            if not np.array_equal(at[own], high):
                yield Offence(f"{threshold(levels):g} does not become {max(levels):+d} at {site}")
        elif not (np.array_equal(at[own], high) and np.array_equal(below[own], sum(levels) - high)):
            yield Offence(f"the thresholds of {site} are not the graph's")


def _weights(node: fx.Node) -> int:
    return math.prod(facts(node).shape or ())


def _compared(name: str, node: onnx.NodeProto, reference: Reference) -> str:
    """What of an operation was compared, as the certificate says it."""
    if compares(node):
        return "levels"
    return "equal" if name in reference.binary else "close"


def _open(model: onnx.ModelProto) -> Any:
    return open_model(model.SerializeToString(), "cpu", None, "the file cannot be opened")


def _run(opened: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    wanted = {value.name for value in opened.get_inputs()}
    missing = sorted(wanted - feeds.keys())
    if missing:
        offences = [Offence(f"the graph has no value for {name}") for name in missing]
        raise DriftError("the file is not one of this graph", offences)
    names = [value.name for value in opened.get_outputs()]
    try:
        values = opened.run(None, {name: value for name, value in feeds.items() if name in wanted})
    except Exception as error:
        raise DriftError("the file cannot be run", [Offence(first_line(error))]) from error
    strange = [name for name, value in zip(names, values, strict=True) if not _is_numbers(value)]
    if strange:
        raise DriftError("the file cannot be run", [Offence(f"{name} is no tensor of numbers") for name in strange])
    return dict(zip(names, values, strict=True))


def _is_numbers(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def _site_faults(model: onnx.ModelProto, reference: Reference, pieces: Mapping[str, Array]) -> Iterator[Offence]:
    """Activations are two-valued and the graph's."""
    inside = dict(operations(model))
    for name, expected in reference.activations.items():
        if name not in inside:
            yield Offence(f"{name} is not binary in the file")
        elif not np.array_equal(pieces[f"own:{name}"], expected):
            yield Offence(f"the values of {name} are not the graph's")


def _weight_faults(model: onnx.ModelProto, reference: Reference) -> Iterator[Offence]:
    """Weights are the graph's bits, or its bytes and scales."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = [numpy_helper.to_array(held[value]) for _, n in named(model) for value in n.input if value in held]
    for name, views in reference.bits.items():
        if not all(any(np.array_equal(bits, other) for other in stored) for bits in views):
            yield Offence(f"the bits of {name} are not in the file")
    kinds = (TensorProto.INT8, TensorProto.FLOAT) if reference.rounded else ()
    stored = [numpy_helper.to_array(tensor) for tensor in held.values() if tensor.data_type in kinds]
    for name, both in reference.rounded.items():
        if not all(any(t.dtype == o.dtype and np.array_equal(t, o) for o in stored) for t in both):
            yield Offence(f"the 8 bits a weight of {name} are not in the file")


def _product_faults(model: onnx.ModelProto, reference: Reference, pieces: Mapping[str, Array]) -> Iterator[Offence]:
    inside = {operation_of(node): (site, node) for site, node in operations(model)}
    for name, expected in reference.products.items():
        if name not in inside:
            yield Offence(f"{name} is no binary operation in the file")
            continue
        site, node = inside[name]
        if compares(node):
            if site not in reference.by_integers:
                yield Offence(f"the integers of {name} go to no thresholds of the graph's at {site}")
            continue  # the levels are compared, as its site's
        own = pieces[f"own:{name}"]
        if name not in reference.binary:
            if _deviation(own, expected) > _TOLERANCE:
                yield Offence(f"the outputs of {name} are not the graph's")
        elif not np.array_equal(own, expected) or not np.array_equal(own, np.rint(own)):
            wrong = int((own != expected).sum()) if own.shape == expected.shape else expected.size
            yield Offence(f"{wrong:,} of {expected.size:,} integers of {name} are not the graph's")


def _float_parts(
    model: onnx.ModelProto, reference: Reference, pieces: Mapping[str, Array]
) -> tuple[float, list[Offence]]:
    """What the float parts make of the graph's integers: the inputs of the next sites, and the model's outputs."""
    renamed = {node.output[0]: f"{side(node)}:{site}" for site, node in operations(model)}
    pairs: list[tuple[str, Array, Array]] = []
    for _, node in operations(model):
        source, name = renamed.get(node.input[0], node.input[0]), operation_of(node)
        if name in reference.inputs and source in pieces:
            pairs.append((f"the input of {name}", pieces[source], reference.inputs[name]))
    ends = [value.name for value in model.graph.output]
    pairs += [(f"output {n}", pieces[n], ref) for n, ref in zip(ends, reference.outputs, strict=False)]
    faults = (
        [f"{len(ends)} outputs in place of {len(reference.outputs)}"] if len(ends) != len(reference.outputs) else []
    )
    largest = 0.0
    for name, own, expected in pairs:
        deviation = _deviation(own, expected)
        largest = max(largest, deviation)
        if deviation > _TOLERANCE:
            faults.append(f"{name} differs from the graph's by {deviation:.1e} of its largest value")
    return largest, [Offence(fault) for fault in faults]


def _deviation(own: Array, expected: Array) -> float:
    """The largest difference, relative to the largest value; infinite where shapes differ or values are not finite."""
    if own.shape != expected.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    difference = np.atleast_1d(np.abs(own.astype(np.float64) - expected.astype(np.float64)))
    difference[(own == expected) | (np.isnan(own) & np.isnan(expected) if own.dtype.kind == "f" else False)] = 0
    scale = max(float(np.max(np.abs(np.where(np.isfinite(expected), expected, 0)))), _NOTHING)
    worst = float(np.max(difference))
    return worst / scale if np.isfinite(worst) else float("inf")
