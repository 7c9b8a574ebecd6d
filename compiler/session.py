"""ONNX Runtime sessions, honest about what they run on."""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from frostline.compiler.exported import look_at
from frostline.compiler.fusing import fuse
from frostline.compiler.kernels.build import library
from frostline.compiler.received import has_ours
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


def session(
    path: str | Path, provider: str | None = None, threads: int | None = None, *, kernels: bool | None = None
) -> Any:
    """Open an exported file in ONNX Runtime: an `onnxruntime.InferenceSession`.

    `provider` is "cpu" or "cuda"; by default CUDA where the session really gets it, else the CPU. `threads` bounds the
    threads within one operator. On the CPU binary products run in the library of kernels, which is built when it is
    first needed; where it cannot be built they run as standard operators, with a warning, and give the same numbers.
    `kernels` true asks for it, and so for the CPU, and false does without it. `placement` tells what runs where.

    Raises UsageError when the session does not get the provider or the kernels that were asked for, and FileError when
    the file is not a model.
    """
    return opened(path, provider, threads, kernels)


def opened(
    path: str | Path,
    provider: str | None = None,
    threads: int | None = None,
    kernels: bool | None = None,
    profile: Path | None = None,
    in_turns: bool = False,
) -> Any:
    """As `session`, and with what a profile's file begins with, where one is wanted; `in_turns` as for `open_model`."""
    if provider is not None and provider not in PROVIDERS:
        remedy = f"the providers are: {', '.join(PROVIDERS)}"
        raise UsageError(f'there is no provider "{provider}"', [Offence("unknown provider", remedy=remedy)])
    if kernels and provider == "cuda":
        offence = Offence("the kernels run on the CPU", remedy='ask for the provider "cpu", or do not ask for kernels')
        raise UsageError("kernels and the provider cuda do not go together", [offence])
    provider = "cpu" if kernels else provider
    model = look_at(path, failure := f"{path} cannot be opened in ONNX Runtime")
    if provider == "cuda" or (provider is None and PROVIDERS["cuda"] in runtime().get_available_providers()):
        found = open_model(str(path), provider, threads, failure, profile=profile, in_turns=in_turns)
        if PROVIDERS["cuda"] in found.get_providers():
            return found
        if provider == "cuda":
            what = f"the session runs on {', '.join(found.get_providers())}"
            remedy = "install frostline[gpu] on a machine with a GPU, its driver and CUDA libraries"
            raise UsageError("the provider cuda is not to be had here", [Offence(what, remedy=remedy)])
    if kernels is not False and has_ours(model):
        built = _kernels(required=kernels is True)
        if built is not None:
            return open_model(fuse(model).SerializeToString(), "cpu", threads, failure, built, profile, in_turns)
    return open_model(str(path), "cpu", threads, failure, profile=profile, in_turns=in_turns)


def _kernels(*, required: bool) -> Path | None:
    try:
        return library()
    except UsageError as error:
        if required:
            raise
        warnings.warn(f"binary products run as standard operators: {error}", stacklevel=4)
        return None


def open_model(
    model: str | bytes,
    provider: str | None,
    threads: int | None,
    failure: str,
    operators: Path | None = None,
    profile: Path | None = None,
    in_turns: bool = False,
) -> Any:
    """A session for a path or for the bytes of a model, with a library of operators, and a profile of its runs.

    `in_turns` is for sessions that are compared: the threads of one do not spin on while the other runs. Raises
    FileError, headed `failure`.
    """
    ort = runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 4 if provider == "cpu" else 3  # what it logs of a model, it raises as well
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if in_turns:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    wanted = ["cuda", "cpu"] if provider is None else dict.fromkeys([provider, "cpu"])
    available = ort.get_available_providers()
    providers = [PROVIDERS[name] for name in wanted if PROVIDERS[name] in available]
    try:
        if operators is not None:
            options.register_custom_ops_library(str(operators))
        return ort.InferenceSession(model, options, providers=providers)
    except Exception as error:
        raise FileError(failure, [Offence(first_line(error))]) from error


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
