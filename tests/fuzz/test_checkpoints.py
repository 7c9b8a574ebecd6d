"""Checkpoints that others wrote, with a seal that fits."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import frostline as fl
from frostline.errors import CheckpointError
from tests.fuzz import seeds
from tests.fuzz.borders import load_any_state, program, read_any_checkpoint, read_any_run, sealed, zipped


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(range(3)), st.lists(st.tuples(st.integers(0, 10**4), st.binary(max_size=4)), max_size=4))
def test_damaged_checkpoints(which: int, changes: list[tuple[int, bytes]]) -> None:
    content = bytearray(seeds.checkpoints()[which])
    for place, other in changes:
        content[place % len(content) : place % len(content) + len(other)] = other
    read_any_checkpoint(bytes(content))


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3)
    | st.just(5000).map(lambda digits: 10**digits) | st.builds(lambda: torch.zeros(2))
)  # fmt: skip
keys = st.text(max_size=3) | st.integers() | st.none() | st.sampled_from(["conv.weight", "seed", "kind"])
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@settings(max_examples=100, deadline=None)
@given(values, st.sampled_from(["", *program().state_dict()]), st.booleans())
def test_any_state(value: Any, field: str, inside: bool) -> None:
    state = program().state_dict()
    if not field:
        load_any_state(value)
    elif inside and isinstance(state[field], dict):
        name = next(iter(state[field]))
        load_any_state(state | {field: state[field] | {name: value}})
    else:
        load_any_state(state | {field: value})


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=50) | st.text().map(lambda text: json.dumps({"model": text}).encode()))
@example(b"[" * 100_000)
@example(b'{"epochs": ' + b"9" * 5000 + b"}")
@example(b'{"epochs": 1e999, "learning_rate": NaN}')
def test_any_run(content: bytes) -> None:
    read_any_run(content)
    read_any_run(b'{"spec": {}, "recipe": ' + content + b"}")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def deflated() -> bytes:
    """A few kilobytes that would become a gigabyte."""
    small, large = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(3)}, small)
    with zipfile.ZipFile(small) as old, zipfile.ZipFile(large, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(10**7) if name.endswith("/0") else old.read(name))
    return large.getvalue()


def shared() -> dict[str, Any]:
    """Parts that hold the same parts over and over: nothing in memory, and endless to walk through."""
    state: dict[str, Any] = {}
    for _ in range(60):
        state = {"a": state, "b": state}
    return state


def circle() -> dict[str, Any]:
    state: dict[str, Any] = {}
    state["again"] = state
    return state


def saved(state: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "File is not a zip file"),
        (pickle.dumps(Evil()), "File is not a zip file"),
        (zipped(pickle.dumps(Evil(), 2)), "something else than tensors and plain values"),
        (zipped(b"\x80\x02ctorch\nload\n."), "something else than tensors and plain values"),
        (zipped(b"."), "something else than tensors and plain values"),
        (zipped(b"\x80\x02" + b"}K\x01" * 1000 + b"]" * 1000 + b"a" * 999 + b"."), "something else|nested without end"),
        (saved({"a": 1}, _use_new_zipfile_serialization=False), "File is not a zip file"),
        (saved({"a": shared()}), "nested without end"),
        (saved({"a": circle()}), "nested without end"),
        (saved({"a": 10**5000}), "something else|a number of 16,610 bits"),
        (deflated(), "unpack to more than it is"),
        (saved([1]), "is not a checkpoint of frostline"),
    ],
    ids=range(12),
)
def test_what_no_checkpoint_holds(content: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.pt").write_bytes(sealed(content))
    with pytest.raises(CheckpointError, match=reason):
        fl.load_checkpoint("c.pt")
    assert os.listdir() == ["c.pt"]  # no code of the file has run


@pytest.mark.parametrize("path", ["/dev/zero", "a\0b", "a" * 5000, "."])
def test_what_is_no_file(path: str) -> None:
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        fl.load_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"step": 10**5000}, "it holds a number of 16,610 bits"),
        ({"step": 2**70}, "step: Input should be less than"),
        ({"step": True}, "step: Input should be a valid integer"),
        ({"windows": {"a": 3}, "shapes": {"a": [1]}}, "windows.a: Input should be a valid list"),
        ({"windows": {1: [0, 1]}, "shapes": {1: [1]}}, "windows.1.[key]: Input should be a valid string"),
        ({"windows": {}}, "its windows and shapes are not of the same sites"),
        ({"spec": shared()}, "it is nested without end"),
        ({"spec": circle()}, "it is nested without end"),
        ({"spec": {"seed": torch.zeros(2)}}, "spec.seed"),
    ],
    ids=range(9),
)
def test_what_is_no_state(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        program().load_state_dict(program().state_dict() | changes)
    assert str(caught.value.offences[0]).strip().startswith(fault)
