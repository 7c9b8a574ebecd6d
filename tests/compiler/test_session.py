from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import frostline as fl
from frostline.compiler import session as module
from frostline.compiler.kernels import build
from frostline.errors import FileError, UsageError
from tests.compiler.test_fusing import Heads
from tests.models.binary import lowered

TEXT = '<ir_version: 10, opset_import: ["": 21]> g (float[N] x) => (float[N] y) { y = Abs(x) }'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_session_runs(path: Path) -> None:
    session = fl.session(path, provider="cpu", threads=1)
    assert session.run(None, {"x": [-1.0]})[0].tolist() == [1.0]
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_a_provider_that_is_not_to_be_had_is_refused(path: Path) -> None:
    if "CUDAExecutionProvider" in fl.session(path).get_providers():
        pytest.skip("CUDA is to be had here")
    with pytest.raises(UsageError, match="the session runs on CPUExecutionProvider"):
        fl.session(path, provider="cuda")


def test_an_unknown_provider(path: Path) -> None:
    with pytest.raises(UsageError, match='there is no provider "tpu"'):
        fl.session(path, provider="tpu")


def test_no_file_or_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file or directory"):
        fl.session(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(FileError, match="cannot be opened in ONNX Runtime"):
        fl.session(tmp_path / "text.onnx")


def test_both_runtimes_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_installed", lambda name: True)
    with pytest.raises(UsageError, match="onnxruntime and onnxruntime-gpu are both installed"):
        module.runtime()


def test_no_runtime_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"frostline\[cpu\]"):
        module.runtime()


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A file with a node of ours."""
    onnx.save(lowered(Heads(), (8,), ["first.*"]), tmp_path / "heads.onnx")
    return tmp_path / "heads.onnx"


def test_without_a_compiler_it_warns_and_gives_the_same(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = {"x": np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)}
    (expected,) = fl.session(ours, "cpu").run(None, x)
    monkeypatch.setattr(module, "library", lambda: build._compiler() and Path())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.warns(UserWarning, match="there is no C\\+\\+ compiler"):
        opened = fl.session(ours, "cpu")
    assert np.array_equal(opened.run(None, x)[0], expected)
    with pytest.raises(UsageError, match="the kernels cannot be built"):
        fl.session(ours, "cpu", kernels=True)


def test_a_library_that_is_none_of_ours_is_refused_politely(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.so").write_bytes(b"another machine's")
    monkeypatch.setattr(module, "library", lambda: tmp_path / "other.so")
    with pytest.raises(FileError, match="cannot be opened in ONNX Runtime"):
        fl.session(ours, "cpu")


def test_a_model_without_a_node_of_ours_needs_no_kernels(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> Path:
        raise AssertionError("the library was asked for")

    monkeypatch.setattr(module, "library", never)
    assert fl.session(path, "cpu").run(None, {"x": [-1.0]})[0].tolist() == [1.0]


def test_kernels_are_those_of_the_cpu(ours: Path) -> None:
    with pytest.raises(UsageError, match="kernels and the provider cuda do not go together"):
        fl.session(ours, "cuda", kernels=True)
    assert fl.session(ours, kernels=True).get_providers() == ["CPUExecutionProvider"]


@pytest.mark.gpu
def test_cuda_is_used_where_it_is(path: Path) -> None:
    assert fl.session(path).get_providers()[0] == "CUDAExecutionProvider"
