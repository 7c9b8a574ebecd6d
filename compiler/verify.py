"""Does the written file compute what the graph computes?

Whole networks cannot be compared by their outputs: one activation at -1e-8 in place of 0 flips a sign, and everything
after it differs. So the file is cut at every binary operation, and each piece is given the *graph's own* values. There
the integers must be equal, and the float pieces between them close. What is left end to end is the flips of signs that
lie within float rounding of zero: they are counted, and the decisions must agree.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from frostline.compiler.certificate import Certificate, Proven
from frostline.compiler.graph import Graph, facts
from frostline.compiler.invariants import is_binarize, is_binary, is_unpack
from frostline.compiler.operations import operation_of
from frostline.compiler.session import open_model, runtime
from frostline.errors import DriftError, FileError, Offence

DOMAIN = "frostline"
_CERTIFICATE = "frostline.certificate"
_DIGEST = "frostline.digest"
_TOLERANCE = 1e-3
_AGREEMENT = 0.95
_PIECES = 32

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Reference:
    """What the graph computes: by site and operation, on the CPU."""

    arguments: list[Array]
    inputs: dict[str, Array]
    signs: dict[str, Array]
    products: dict[str, Array]
    bits: dict[str, Array]
    binary: frozenset[str]
    outputs: list[Array]


def verify(
    path: str | Path, graph: Graph, inputs: tuple[Any, ...] | None = None, target: str = "portable"
) -> Certificate:
    """Re-open a written file and prove it against the binary graph that it was lowered from.

    `inputs` are positional arguments of the model, batch first, real data at best; the example's by default. The first
    32 samples go through every piece of the file, all of them through the whole.

    Raises DriftError with every piece that does not hold, FileError when the file is not a model.
    """
    model = _read(path)
    arguments, kwargs = (inputs, {}) if inputs is not None else (graph.example.args, graph.example.kwargs)
    whole = _reference(graph, arguments, kwargs)
    few = _reference(graph, *_first(arguments, kwargs)) if _samples(whole.arguments) > _PIECES else whole
    pieces = _run(_pieces(model), _piece_inputs(model, few), "the file's pieces cannot be run")
    faults = [*_site_faults(model, few, pieces), *_product_faults(model, few, pieces)]
    deviation, float_faults = _float_parts(model, few, pieces)
    ends = _run(_exposed(model), _named(model, whole.arguments), "the file cannot be run")
    flips, signs, ending_faults = _end_to_end(model, whole, ends)
    decided, agreeing = _decisions(model, whole, ends)
    faults += [*float_faults, *ending_faults]
    if decided and agreeing < _AGREEMENT * decided:
        faults.append(Offence(f"only {agreeing} of {decided} decisions agree with the graph's"))
    if faults:
        raise DriftError(f"{path} does not compute what the graph computes", faults)
    packed = sum(bits.nbytes for bits in whole.bits.values())
    unpacked = sum(4 * _weights(node) for node in graph.nodes if is_unpack(node))
    size = Path(path).stat().st_size
    return Certificate(
        target=target,
        opset=next(entry.version for entry in model.opset_import if not entry.domain),
        sites=len(whole.signs) + len(whole.bits),
        operations=tuple(
            Proven(name, _kind(model, name), "equal" if name in few.binary else "close", int(value.size))
            for name, value in few.products.items()
        ),
        samples=_samples(whole.arguments),
        deviation=deviation,
        flips=flips,
        signs=signs,
        decisions=decided,
        agreeing=agreeing,
        file_bytes=size,
        float_bytes=size - packed + unpacked,
        runtime=f"ONNX Runtime {runtime().__version__}",
    )


def stamp(path: str | Path, certificate: Certificate) -> None:
    """Write a certificate and the digest of everything else into a file's metadata, in place."""
    model = _read(path)
    _strip(model)
    digest = _digest(model)
    helper.set_model_props(model, {_CERTIFICATE: certificate.to_json(), _DIGEST: digest})
    Path(path).write_bytes(model.SerializeToString(deterministic=True))


def read_certificate(path: str | Path) -> Certificate:
    """The certificate that a file carries, after checking that nothing else in it has changed since.

    Raises FileError when the file is not one of ours, or was edited.
    """
    model = _read(path)
    held = {entry.key: entry.value for entry in model.metadata_props}
    if _CERTIFICATE not in held or _DIGEST not in held:
        remedy = "export it with frostline"
        raise FileError(f"{path} is not a file of frostline", [Offence("it carries no certificate", remedy=remedy)])
    _strip(model)
    if _digest(model) != held[_DIGEST]:
        what = "its content is not what the certificate was made for"
        raise FileError(f"{path} was edited after export", [Offence(what, remedy="export it anew")])
    try:
        return Certificate.from_json(held[_CERTIFICATE])
    except (ValueError, TypeError, KeyError) as error:
        raise FileError(f"the certificate of {path} cannot be read", [Offence(str(error))]) from error


def _read(path: str | Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(Path(path).read_bytes())
        onnx.checker.check_model(model)
    except OSError as error:
        raise FileError(f"cannot read {path}", [Offence(error.strerror or str(error))]) from error
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or ["it cannot be parsed"]
        raise FileError(f"{path} is not an ONNX model", [Offence(reason[0])]) from error
    return model


def _strip(model: onnx.ModelProto) -> None:
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key not in (_CERTIFICATE, _DIGEST)}
    del model.metadata_props[:]
    helper.set_model_props(model, kept)


def _digest(model: onnx.ModelProto) -> str:
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the value of every node that has a user's name."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.values[n] = value
        return value


def _reference(graph: Graph, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Reference:
    module = copy.deepcopy(graph.module).cpu().eval()
    args, kwargs = pytree.tree_map_only(Tensor, lambda t: t.detach().cpu(), (args, dict(kwargs)))
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    given = [*args, *(kwargs[str(p.target)] for p in placeholders[len(args) :] if str(p.target) in kwargs)]
    recorder = _Recorder(module)
    with torch.no_grad():
        result = recorder.run(*given)
    inputs: dict[str, Array] = {}
    signs: dict[str, Array] = {}
    products: dict[str, Array] = {}
    bits: dict[str, Array] = {}
    binary: set[str] = set()
    for node, value in recorder.values.items():
        name, operation = str(facts(node).name), operation_of(node)
        if is_binarize(node) and isinstance(node.args[0], fx.Node):
            inputs[name], signs[name] = recorder.values[node.args[0]].numpy(), value.numpy()
        elif is_unpack(node) and isinstance(node.args[0], fx.Node):
            bits[name] = recorder.values[node.args[0]].numpy()
        elif operation is not None and is_unpack(operation.bind(node)["weight"]):
            source = operation.bind(node)["input"]
            products[name] = value.numpy()
            if is_binary(source):
                binary.add(name)
            else:
                inputs[name] = recorder.values[source].numpy()
    leaves = [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor)]
    outputs = [leaf.numpy() for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
    return _Reference([leaf.numpy() for leaf in leaves], inputs, signs, products, bits, frozenset(binary), outputs)


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    leaves = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.dim()]
    own = leaves[0].shape[0]
    cut: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_map_only(
        Tensor, lambda t: t[:_PIECES] if t.dim() and t.shape[0] == own else t, (args, dict(kwargs))
    )
    return cut


def _samples(arguments: list[Array]) -> int:
    return next((int(a.shape[0]) for a in arguments if a.ndim), 1)


def _weights(node: fx.Node) -> int:
    count = 1
    for size in facts(node).shape or ():
        count *= size
    return count


def operations(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.NodeProto]]:
    """Our nodes, by the site or operation that they are."""
    for node in model.graph.node:
        if node.domain == DOMAIN:
            yield _attribute(node, "site"), node


def _attribute(node: onnx.NodeProto, name: str) -> str:
    value = next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), b"")
    return value.decode() if isinstance(value, bytes) else str(value)


def _kind(model: onnx.ModelProto, name: str) -> str:
    return next((node.op_type for site, node in operations(model) if site == name), "missing")


def _pieces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file cut at its binary operations: each takes the graph's values, and shows its own.

    `given:NAME` feeds an operation, `NAME`'s consumers read `product:NAME`, and both sides of each cut are outputs.
    """
    cut = _copy(model)
    graph = cut.graph
    renamed = {node.output[0]: f"{_side(node)}:{site}" for site, node in operations(model)}
    feeds: dict[str, None] = {}
    shown: dict[str, None] = {}
    for site, node in operations(cut):
        source = renamed.get(node.input[0], node.input[0])
        if not source.startswith("signs:"):
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
    return "signs" if node.op_type == "Binarize" else "product"


def _exposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The whole file, with the signs of every site among its outputs."""
    exposed = _copy(model)
    ends = {value.name for value in exposed.graph.output}
    signs = [node.output[0] for _, node in operations(exposed) if node.op_type == "Binarize"]
    exposed.graph.output.extend(_untyped(name) for name in signs if name not in ends)
    return exposed


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    return twin


def _untyped(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _piece_inputs(model: onnx.ModelProto, reference: _Reference) -> dict[str, Array]:
    feeds = _named(model, reference.arguments)
    feeds |= {f"given:{name}": value for name, value in reference.inputs.items()}
    feeds |= {f"signs:{name}": value for name, value in reference.signs.items()}
    return feeds | {f"product:{name}": value for name, value in reference.products.items()}


def _named(model: onnx.ModelProto, arguments: list[Array]) -> dict[str, Array]:
    return dict(zip([value.name for value in model.graph.input], arguments, strict=False))


def _run(model: onnx.ModelProto, feeds: Mapping[str, Array], failure: str) -> dict[str, Array]:
    opened = open_model(model.SerializeToString(), "cpu", None, failure)
    wanted = {value.name for value in opened.get_inputs()}
    missing = sorted(wanted - feeds.keys())
    if missing:
        raise DriftError(failure, [Offence(f"the graph has no value for {name}") for name in missing])
    names = [value.name for value in opened.get_outputs()]
    try:
        values = opened.run(None, {name: value for name, value in feeds.items() if name in wanted})
    except Exception as error:
        raise DriftError(failure, [Offence(str(error).strip().splitlines()[0])]) from error
    return dict(zip(names, values, strict=True))


def _site_faults(model: onnx.ModelProto, reference: _Reference, pieces: Mapping[str, Array]) -> Iterator[Offence]:
    """Activations are two-valued and the graph's; weights are the graph's bits."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    inside = dict(operations(model))
    for name, expected in reference.signs.items():
        if name not in inside:
            yield Offence(f"{name} is not binary in the file")
        elif not np.array_equal(pieces[f"own:{name}"], expected):
            yield Offence(f"the signs of {name} are not the graph's")
    stored = [
        numpy_helper.to_array(held[n.input[1]]) for n in inside.values() if len(n.input) > 1 and n.input[1] in held
    ]
    for name, bits in reference.bits.items():
        if not any(np.array_equal(bits, other) for other in stored):
            yield Offence(f"the bits of {name} are not in the file")


def _product_faults(model: onnx.ModelProto, reference: _Reference, pieces: Mapping[str, Array]) -> Iterator[Offence]:
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
    model: onnx.ModelProto, reference: _Reference, pieces: Mapping[str, Array]
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
    difference = np.abs(own.astype(np.float64) - expected.astype(np.float64))
    difference[(own == expected) | (np.isnan(own) & np.isnan(expected) if own.dtype.kind == "f" else False)] = 0
    scale = float(np.max(np.abs(np.where(np.isfinite(expected), expected, 0)))) or 1.0
    worst = float(np.max(difference))
    return worst / scale if np.isfinite(worst) else float("inf")


def _end_to_end(
    model: onnx.ModelProto, reference: _Reference, ends: Mapping[str, Array]
) -> tuple[int, int, list[Offence]]:
    flips = signs = 0
    faults = []
    for site, node in operations(model):
        if node.op_type != "Binarize":
            continue
        own, expected = ends[node.output[0]], reference.signs[site]
        if not np.isin(own, (-1.0, 1.0)).all():
            faults.append(Offence(f"{site} is not two-valued in the file"))
        flips += int((own != expected).sum())
        signs += expected.size
    return flips, signs, faults


def _decisions(model: onnx.ModelProto, reference: _Reference, ends: Mapping[str, Array]) -> tuple[int, int]:
    """Over all float outputs with classes in the last dimension: how many largest entries are the same."""
    decided = agreeing = 0
    for value, expected in zip(model.graph.output, reference.outputs, strict=False):
        own = ends[value.name]
        if expected.ndim >= 2 and expected.shape[-1] > 1 and expected.dtype.kind == "f" and own.shape == expected.shape:
            same = own.argmax(-1) == expected.argmax(-1)
            decided, agreeing = decided + same.size, agreeing + int(same.sum())
    return decided, agreeing
