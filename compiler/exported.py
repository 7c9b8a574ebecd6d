"""An exported file: reading it, its binary operations, and the certificate that it carries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import helper

from frostline.compiler.certificate import Certificate
from frostline.errors import FileError, Offence

DOMAIN = "frostline"
_CERTIFICATE = "frostline.certificate"
_DIGEST = "frostline.digest"


def read_model(path: str | Path) -> onnx.ModelProto:
    """The model in a file. Raises FileError when it cannot be read or is no valid ONNX model."""
    try:
        model = onnx.load_model_from_string(Path(path).read_bytes())
        onnx.checker.check_model(model)
    except OSError as error:
        raise FileError(f"cannot read {path}", [Offence(error.strerror or str(error))]) from error
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or ["it cannot be parsed"]
        raise FileError(f"{path} is not an ONNX model", [Offence(reason[0])]) from error
    return model


def stamp(path: str | Path, certificate: Certificate) -> None:
    """Write a certificate and the digest of everything else into a file's metadata, in place."""
    model = read_model(path)
    _strip(model)
    digest = _digest(model)
    helper.set_model_props(model, {_CERTIFICATE: certificate.to_json(), _DIGEST: digest})
    Path(path).write_bytes(model.SerializeToString(deterministic=True))


def read_certificate(path: str | Path) -> Certificate:
    """The certificate that a file carries, after checking that nothing else in it has changed since.

    Raises FileError when the file is not one of ours, or was edited.
    """
    model = read_model(path)
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


def operations(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.NodeProto]]:
    """Our nodes, by the site or operation that they are."""
    for node in model.graph.node:
        if node.domain == DOMAIN:
            yield attribute(node, "site"), node


def attribute(node: onnx.NodeProto, name: str) -> str:
    value = next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), b"")
    return value.decode() if isinstance(value, bytes) else str(value)


def _strip(model: onnx.ModelProto) -> None:
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key not in (_CERTIFICATE, _DIGEST)}
    del model.metadata_props[:]
    helper.set_model_props(model, kept)


def _digest(model: onnx.ModelProto) -> str:
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
