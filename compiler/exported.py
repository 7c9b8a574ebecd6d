"""An exported file: reading it, its binary operations, and the certificate that it carries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from onnx import helper
from pydantic import ValidationError

from frostline.compiler.certificate import Certificate
from frostline.compiler.files import whole
from frostline.compiler.received import DOMAIN as DOMAIN
from frostline.compiler.received import faults, has_ours
from frostline.errors import FileError, Offence, first_line, offences_of

_CERTIFICATE = "frostline.certificate"
_DIGEST = "frostline.digest"
_AT = ("BinarizeAt", "BinarizeZeroOneAt")
_VIEWS = ("Transpose", "Reshape", "Cast", "Identity", "Slice", "Split", "Squeeze", "Unsqueeze")


def read_model(path: str | Path) -> onnx.ModelProto:
    """The model in a file. Raises FileError when it cannot be read or is no valid ONNX model."""
    model = look_at(path, failure := f"{path} is not an ONNX model")
    if not has_ours(model):
        _check(model, failure)
    return model


def look_at(path: str | Path, failure: str) -> onnx.ModelProto:
    """The model in a file, its tensors elsewhere left where they are; a valid one where it has nodes of ours.

    Raises FileError, headed `failure`, for what is no model, or does what no model may.
    """
    try:
        model = onnx.load_model_from_string(whole(path))
        found = list(faults(model, Path(path).parent))
    except OSError as error:
        raise FileError(f"cannot read {path}", [Offence(error.strerror or str(error))]) from error
    except Exception as error:  # of bytes that others wrote, whatever they are
        raise FileError(failure, [Offence(first_line(error))]) from error
    if found:
        raise FileError(failure, found)
    if has_ours(model):
        _check(model, failure)
    return model


def _check(model: onnx.ModelProto, failure: str) -> None:
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise FileError(failure, [Offence(first_line(error))]) from error


def stamp(path: str | Path, certificate: Certificate) -> Certificate:
    """Write a certificate and a digest of all into a file's metadata, in place.

    Returns the certificate with the size that the file has now, itself included.
    """
    model = read_model(path)
    _strip(model)
    content = _stamped(model, certificate)
    while grown := len(content) - certificate.file_bytes:
        size, with_floats = certificate.file_bytes + grown, certificate.float_bytes + grown
        certificate = replace(certificate, file_bytes=size, float_bytes=with_floats)
        content = _stamped(model, certificate)
    Path(path).write_bytes(content)
    return certificate


def read_certificate(path: str | Path) -> Certificate:
    """The certificate that a file carries, after checking that neither it nor anything else has changed since.

    Raises FileError when the file is not one of ours, or was edited.
    """
    model = read_model(path)
    held = _props(model)
    if _CERTIFICATE not in held or _DIGEST not in held:
        remedy = "export it with frostline"
        raise FileError(f"{path} is not a file of frostline", [Offence("it carries no certificate", remedy=remedy)])
    _strip(model)
    if _digest(model, held[_CERTIFICATE]) != held[_DIGEST]:
        what = "its content is not what the certificate was made for"
        raise FileError(f"{path} was edited after export", [Offence(what, remedy="export it anew")])
    try:
        return Certificate.from_json(held[_CERTIFICATE])
    except ValidationError as error:
        raise FileError(f"the certificate of {path} cannot be read", offences_of(error)) from error


def named(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.NodeProto]]:
    """Our nodes, by the site or operation that they are."""
    for node in model.graph.node:
        if node.domain == DOMAIN:
            yield attributes(node).get("site", b"").decode(), node


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node, by name."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def compares(node: onnx.NodeProto) -> bool:
    """Whether one of our nodes is a product that compares its own sums with thresholds: it gives levels in their
    place."""
    return node.op_type.endswith(_AT) and not is_site(node)


def site_in(node: onnx.NodeProto) -> str:
    """The operator of the comparison in one of our nodes."""
    return next(site for site in _AT if node.op_type.endswith(site))


def operation_of(node: onnx.NodeProto) -> str:
    """What the graph calls the operation, or the site, that reads what one of our nodes reads."""
    name: bytes = attributes(node).get("operation" if compares(node) else "site", b"")
    return name.decode()


def is_site(node: onnx.NodeProto) -> bool:
    """Whether one of our nodes makes an activation binary and does nothing else."""
    return node.op_type in ("Binarize", "BinarizeZeroOne", *_AT)


def operations(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.NodeProto]]:
    """Our nodes that compute something from the inputs; the weights of other operations are constants."""
    return ((site, node) for site, node in named(model) if node.op_type != "Unpack")


def readers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """What computes with each tensor of a file, looking past its views and scales; the first of several."""
    held: dict[str, tuple[str, ...]] = {tensor.name: (tensor.name,) for tensor in model.graph.initializer}
    found: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        if node.op_type in _VIEWS and node.input[0] in held:
            held.update(dict.fromkeys(node.output, held[node.input[0]]))
        elif node.op_type == "Mul" and all(value in held for value in node.input):
            held[node.output[0]] = tuple(name for value in node.input for name in held[value])
        elif node.op_type not in ("Shape", "CastLike"):
            for value in node.input:
                for name in held.get(value, ()):
                    found.setdefault(name, node)
    return found


def same_but_for_ones(dims: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether dimensions are those of a shape, whatever ones stand in front: those broadcast.

    >>> same_but_for_ones([1, 8, 1], [8, 1]), same_but_for_ones([8], [8, 1])
    (True, False)
    """
    front = len(dims) - len(shape)
    return front >= 0 and [*dims[front:]] == [*shape] and {*dims[:front]} <= {1}


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, those inside of its branches or its body included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from reads(inner)
            yield from (value.name for value in graph.output)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that can be changed without changing this one."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    return twin


def _stamped(model: onnx.ModelProto, certificate: Certificate) -> bytes:
    text = certificate.to_json()
    stamped = copied(model)
    helper.set_model_props(stamped, _props(model) | {_CERTIFICATE: text, _DIGEST: _digest(model, text)})
    return bytes(stamped.SerializeToString(deterministic=True))


def _props(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _strip(model: onnx.ModelProto) -> None:
    kept = {key: value for key, value in _props(model).items() if key not in (_CERTIFICATE, _DIGEST)}
    del model.metadata_props[:]
    helper.set_model_props(model, kept)


def _digest(model: onnx.ModelProto, certificate: str) -> str:
    return hashlib.sha256(model.SerializeToString(deterministic=True) + certificate.encode()).hexdigest()
