"""Does the written file compute what the graph computes?

Whole networks cannot be compared by their outputs: one activation at -1e-8 in place of 0 flips a sign, and everything
after it differs. So the file is cut at every binary operation, and each piece is given the *graph's own* values. There
the integers must be equal, and the float pieces between them close. The whole must be equal as well, until a value that
lies within float rounding of its threshold flips: such flips are counted, and decide what follows in their sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import fx

from frostline.compiler.certificate import Certificate, Proven
from frostline.compiler.exported import copied, is_site, named, operations, read_model
from frostline.compiler.graph import Example, Graph, facts
from frostline.compiler.invariants import is_unpack
from frostline.compiler.masks import threshold
from frostline.compiler.reference import Array, Reference, reference_of, samples, twin_of
from frostline.compiler.session import open_model, runtime
from frostline.compiler.whole import Whole
from frostline.errors import DriftError, Offence, UsageError, first_line
from frostline.schedules import ZERO_ONE

_TOLERANCE = 1e-3
_NOTHING = 1e-6
"""Tensors smaller than this are compared by it: ONNX Runtime's sigmoid is 0 where torch's is 1e-19."""
_PART = 32


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
    cut = _open(_pieces(model))
    feeds = _piece_inputs(model, first)
    pieces = _run(cut, feeds)
    deviation, float_faults = _float_parts(model, first, pieces)
    faults = [*_site_faults(model, first, pieces), *_weight_faults(model, first)]
    faults += [*_product_faults(model, first, pieces), *float_faults]
    thresholds = _thresholds(first)
    below = {f"given:{site}": thresholds[f"given:{site}"] - 1 for site in first.by_integers}
    at = _run(cut, feeds | thresholds)
    faults += _threshold_faults(first, at, _run(cut, feeds | below) if below else {})
    whole = Whole()
    opened = _open(_exposed(model))
    for reference in chain([first], references):
        whole.add(model, reference, _run(opened, _named(model, reference.arguments)))
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
            Proven(name, node.op_type, "equal" if name in first.binary else "close", int(first.products[name].size))
            for name, node in operations(model)
            if name in first.products
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


def _threshold_faults(reference: Reference, at: Mapping[str, Array], below: Mapping[str, Array]) -> Iterator[Offence]:
    """What the sites make of their thresholds, and of the integers just below, is the graph's."""
    for site, levels in reference.levels.items():
        own, high = f"own:{site}", np.broadcast_to(reference.high[site], reference.activations[site].shape)
        if own not in at:
            continue  # a fault already
        if site not in reference.by_integers:
            if not np.array_equal(at[own], high):
                yield Offence(f"{threshold(levels):g} does not become {max(levels):+d} at {site}")
        elif not (np.array_equal(at[own], high) and np.array_equal(below[own], sum(levels) - high)):
            yield Offence(f"the thresholds of {site} are not the graph's")


def _weights(node: fx.Node) -> int:
    return math.prod(facts(node).shape or ())


def _pieces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file cut at its binary operations: each takes the graph's values, and shows its own.

    `given:NAME` feeds an operation, `NAME`'s consumers read `product:NAME`, and both sides of each cut are outputs.
    """
    cut = copied(model)
    graph = cut.graph
    renamed = {node.output[0]: f"{_side(node)}:{site}" for site, node in operations(model)}
    feeds: dict[str, None] = {}
    shown: dict[str, None] = {}
    for site, node in operations(cut):
        source = renamed.get(node.input[0], node.input[0])
        if not source.startswith("binary:"):
            if not source.startswith("product:"):  # else there is no float part between two products
                shown[source] = None
            source = f"given:{site}"
        node.input[0], node.output[0] = source, f"own:{site}"
        feeds[source] = shown[node.output[0]] = None
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in renamed:
                node.input[index] = renamed[name]
                feeds[renamed[name]] = None
    for end in [value.name for value in graph.output if value.name in renamed]:
        graph.node.append(helper.make_node("Identity", [renamed[end]], [end]))
        feeds[renamed[end]] = None
    known = {value.name for value in (*graph.input, *graph.output)} | feeds.keys()
    graph.input.extend(_untyped(name) for name in feeds)
    graph.output.extend(_untyped(name) for name in shown if name not in known)
    del graph.value_info[:]
    return cut


def _side(node: onnx.NodeProto) -> str:
    return "binary" if is_site(node) else "product"


def _exposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The whole file, with the values of every site and the products of every operation among its outputs."""
    exposed = copied(model)
    ends = {value.name for value in exposed.graph.output}
    ours = [node.output[0] for _, node in operations(exposed)]
    exposed.graph.output.extend(_untyped(name) for name in ours if name not in ends)
    return exposed


def _untyped(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _piece_inputs(model: onnx.ModelProto, reference: Reference) -> dict[str, Array]:
    feeds = _named(model, reference.arguments)
    feeds |= {f"given:{name}": value for name, value in reference.inputs.items()}
    feeds |= {f"binary:{name}": value for name, value in reference.activations.items()}
    return feeds | {f"product:{name}": value for name, value in reference.products.items()}


def _named(model: onnx.ModelProto, arguments: list[Array]) -> dict[str, Array]:
    return dict(zip([value.name for value in model.graph.input], arguments, strict=False))


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
    inside = {site for site, _ in operations(model)}
    for name, expected in reference.products.items():
        if name not in inside:
            yield Offence(f"{name} is no binary operation in the file")
            continue
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
    renamed = {node.output[0]: f"{_side(node)}:{site}" for site, node in operations(model)}
    pairs: list[tuple[str, Array, Array]] = []
    for site, node in operations(model):
        source = renamed.get(node.input[0], node.input[0])
        if site in reference.inputs and source in pieces:
            pairs.append((f"the input of {site}", pieces[source], reference.inputs[site]))
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
