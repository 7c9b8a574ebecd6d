"""ONNX Runtime sessions, honest about what they run on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from frostline.errors import FileError, Offence, UsageError, first_line

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def runtime() -> ModuleType:
    """The onnxruntime module. Raises UsageError with the way to install it where there is none, or both are."""
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(installed) == 2:
        what = "they own the same files, and whichever came last has silently replaced the other"
        remedy = "uninstall both, then install frostline[cpu] or frostline[gpu]"
        raise UsageError("onnxruntime and onnxruntime-gpu are both installed", [Offence(what, remedy=remedy)])
    try:
        import onnxruntime
    except ImportError as error:
        remedy = "pip install 'frostline[cpu]' or, on a machine with a GPU, 'frostline[gpu]'"
        raise UsageError("ONNX Runtime is not installed", [Offence(str(error), remedy=remedy)]) from error
    return onnxruntime  # type: ignore[no-any-return]


def session(path: str | Path, provider: str | None = None, threads: int | None = None) -> Any:
    """Open an exported file in ONNX Runtime: an `onnxruntime.InferenceSession`.

    `provider` is "cpu" or "cuda"; by default CUDA where the session really gets it, else the CPU. `threads` bounds the
    threads within one operator. Raises UsageError when the session does not get the provider that was asked for, and
    FileError when the file is not a model.
    """
    if provider is not None and provider not in PROVIDERS:
        remedy = f"the providers are: {', '.join(PROVIDERS)}"
        raise UsageError(f'there is no provider "{provider}"', [Offence("unknown provider", remedy=remedy)])
    if not Path(path).is_file():
        raise FileError(f"cannot read {path}", [Offence("there is no such file")])
    opened = open_model(str(path), provider, threads, f"{path} cannot be opened in ONNX Runtime")
    if provider is not None and PROVIDERS[provider] not in opened.get_providers():
        what = f"the session runs on {', '.join(opened.get_providers())}"
        remedy = "install frostline[gpu] on a machine with a GPU, its driver and CUDA libraries"
        raise UsageError(f"the provider {provider} is not to be had here", [Offence(what, remedy=remedy)])
    return opened


def open_model(model: str | bytes, provider: str | None, threads: int | None, failure: str) -> Any:
    """A session for a path or for the bytes of a model. Raises FileError, headed `failure`."""
    ort = runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    wanted = ["cuda", "cpu"] if provider is None else dict.fromkeys([provider, "cpu"])
    available = ort.get_available_providers()
    providers = [PROVIDERS[name] for name in wanted if PROVIDERS[name] in available]
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except Exception as error:
        raise FileError(failure, [Offence(first_line(error))]) from error


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
