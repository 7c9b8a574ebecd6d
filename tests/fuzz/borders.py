"""The borders: where frostline reads what others wrote. Whatever comes, they work, or raise an error of frostline."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper
from torch import nn

import frostline as fl
from frostline.compiler import checkpoint
from frostline.compiler.contents import contents
from frostline.compiler.exported import read_certificate
from frostline.compiler.graph import Graph
from frostline.errors import FrostlineError
from frostline.runs import Recipe, check_same_run

_LINES = 100
"""Of a message: its headline, thirty offences with their remedies, and one line that counts the others."""


@contextlib.contextmanager
def only_our_errors() -> Iterator[None]:
    """What is raised inside is an error of frostline, whose message fits on a screen and steers no terminal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except FrostlineError as error:
        text = str(error)
        text.encode()
        assert text.count("\n") < _LINES
        assert len(text) < 50_000
        assert text.replace("\n", "").replace("\t", "").isprintable()


def read_any_spec(content: bytes) -> None:
    """A spec: from a file, and from a text where it is one. One that is taken means the same written out again."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(content)
        file.flush()
        with only_our_errors():
            spec = fl.load_spec(file.name)
            assert fl.read_spec(spec.model_dump_json(exclude_none=True)) == spec
            hash(spec)
    with only_our_errors():
        fl.read_spec(content.decode("utf-8", "surrogateescape"))


def read_any_checkpoint(content: bytes) -> None:
    """A checkpoint: as it is, behind a seal that fits, and as the pickle inside of one; and a program for it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.pt"
        for written in (content, sealed(content), sealed(zipped(content))):
            path.write_bytes(written)
            with only_our_errors():
                state = fl.load_checkpoint(path)
                load_any_state(state)
                load_any_state(state.get("program"))
        assert [each.name for each in Path(folder).iterdir()] == ["c.pt"]


def load_any_state(state: Any) -> None:
    """A state of a program, as a checkpoint may hold it."""
    with only_our_errors():
        program().load_state_dict(state)


def read_any_run(content: bytes) -> None:
    """The `run.json` of a run that has a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "run.json").write_bytes(content)
        (Path(folder) / "checkpoint-000001.pt").touch()
        with only_our_errors():
            check_same_run(Path(folder), Recipe("a:b", "c:d", 1, 0.1, 0.9, 0.0))


def read_any_model(content: bytes) -> None:
    """A model file, also with a digest that fits: explained, opened, and proven against a graph."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for written in dict.fromkeys((content, stamped(content))):
            path.write_bytes(written)
            with only_our_errors():
                str(read_certificate(path))
                contents(path)
            with only_our_errors():
                fl.session(path, "cpu")
            with only_our_errors():
                fl.verify(path, binary_graph())
        assert [each.name for each in Path(folder).iterdir()] == ["model.onnx"]


def sealed(content: bytes) -> bytes:
    """A checkpoint that says of itself that it is whole."""
    return checkpoint._SEAL + hashlib.sha256(content).digest() + content


def zipped(pickle: bytes) -> bytes:
    """What `torch.save` writes, with another pickle in it."""
    buffer, changed = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickle if name.endswith("data.pkl") else old.read(name))
    return changed.getvalue()


def stamped(content: bytes) -> bytes:
    """A model whose digest fits what it holds now, where it is a model."""
    try:
        model = onnx.load_model_from_string(content)
        held = {entry.key: entry.value for entry in model.metadata_props}
        held.pop("frostline.digest", None)
        text = held.pop("frostline.certificate")
        del model.metadata_props[:]
        helper.set_model_props(model, held)
        digest = hashlib.sha256(model.SerializeToString(deterministic=True) + text.encode()).hexdigest()
        helper.set_model_props(model, held | {"frostline.certificate": text, "frostline.digest": digest})
        return bytes(model.SerializeToString(deterministic=True))
    except Exception:  # not a model, or one without a certificate
        return content


class Small(nn.Module):
    """A convolution and a linear layer that turn binary, between two that do not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.hidden, self.head = nn.BatchNorm2d(4), nn.Linear(64, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(nn.functional.hardtanh(self.stem(x))))
        return self.head(nn.functional.hardtanh(self.hidden(nn.functional.hardtanh(x).flatten(1))))


@cache
def program() -> fl.Program:
    torch.manual_seed(0)
    return fl.compile(Small(), fl.load_spec("vanilla-ste"), (torch.randn(2, 1, 6, 6),), total_steps=4)


@cache
def binary_graph() -> Graph:
    torch.manual_seed(0)
    made = fl.compile(Small(), fl.load_spec("vanilla-ste"), (torch.randn(2, 1, 6, 6),), total_steps=4)
    made.driver.resume(4)
    return made.freeze()


@cache
def model_file() -> bytes:
    """A good file of frostline, with its certificate."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        fl.export(binary_graph(), path)
        return path.read_bytes()


@cache
def checkpoint_file() -> bytes:
    """A good checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        fl.save_checkpoint(Path(folder) / "c.pt", {"program": program().state_dict(), "net": {"a": torch.zeros(3)}})
        return (Path(folder) / "c.pt").read_bytes()


def certified(**changes: Any) -> bytes:
    """The good file with another certificate, and a digest that fits."""
    import json

    model = onnx.load_model_from_string(model_file())
    held = {entry.key: entry.value for entry in model.metadata_props}
    text = json.dumps(json.loads(held["frostline.certificate"]) | changes)
    helper.set_model_props(model, held | {"frostline.certificate": text})
    return stamped(bytes(model.SerializeToString()))
