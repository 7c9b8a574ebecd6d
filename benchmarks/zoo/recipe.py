"""How a model of transformers is built: its class by name, the settings that make it small, and its inputs."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.zoo.entry import Entry, Example
from benchmarks.zoo.torchvision_operators import define_torchvision_operators

Inputs = tuple[tuple[Any, ...], dict[str, Any]]

WORDS = 99
LENGTH = 12

SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""What most text models call the same."""

PATCHES = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
"""And what most models over the patches of an image do: 16 patches."""


@dataclass(frozen=True)
class Recipe:
    """One architecture: class `model` of transformers, built from its own configuration class with `settings`."""

    name: str
    model: str
    inputs: Callable[[], Inputs]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def entry(self) -> Entry:
        return Entry(f"transformers/{self.name}", "transformers", functools.partial(_make, self))


def _make(recipe: Recipe) -> Example:
    define_torchvision_operators()
    transformers = importlib.import_module("transformers")
    transformers.logging.set_verbosity_error()  # it tells of faster kernels that could be installed, for each model
    torch.manual_seed(0)
    model = getattr(transformers, recipe.model)
    network = model(model.config_class(**recipe.settings))
    args, kwargs = recipe.inputs()
    return network, args, kwargs


def token_ids(length: int = LENGTH) -> torch.Tensor:
    """Two sentences without special tokens: (2, length) int64."""
    return torch.randint(3, WORDS, (2, length))


def ids() -> Inputs:
    """The sentences as the only positional argument."""
    return (token_ids(),), {}


def named_ids() -> Inputs:
    """The same as a keyword."""
    return (), {"input_ids": token_ids()}


def padded_ids() -> Inputs:
    """A sentence and a shorter one, with the mask that says so."""
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[1, LENGTH - 4 :] = 0
    return (), {"input_ids": token_ids(), "attention_mask": mask}


def classified_ids() -> Inputs:
    """Padded sentences with a class each: the output begins with a loss."""
    args, kwargs = padded_ids()
    return args, {**kwargs, "labels": torch.tensor([0, 1])}


def tagged_ids() -> Inputs:
    """Padded sentences with a class for each token."""
    args, kwargs = padded_ids()
    return args, {**kwargs, "labels": torch.randint(0, 2, (2, LENGTH))}


def continued_ids() -> Inputs:
    """Sentences that are their own labels, as language models are trained."""
    sentences = token_ids()
    return (), {"input_ids": sentences, "labels": sentences.clone()}


def source_and_target() -> Inputs:
    """What an encoder reads and what a decoder has said so far."""
    return (), {"input_ids": token_ids(), "decoder_input_ids": token_ids(6)}


def source_and_labels() -> Inputs:
    """What an encoder reads and what the decoder should say; the model shifts it itself."""
    args, kwargs = padded_ids()
    return args, {**kwargs, "labels": token_ids(6)}


def image() -> Inputs:
    """Two pictures of 32 x 32 as the only positional argument."""
    return (torch.randn(2, 3, 32, 32),), {}


def named_image() -> Inputs:
    """The same as a keyword."""
    return (), {"pixel_values": torch.randn(2, 3, 32, 32)}


def classified_image() -> Inputs:
    """Pictures with a class each: the output begins with a loss."""
    return (), {"pixel_values": torch.randn(2, 3, 32, 32), "labels": torch.tensor([0, 1])}


def named_large_image() -> Inputs:
    """Pictures of 64 x 64, for models that halve them often."""
    return (), {"pixel_values": torch.randn(2, 3, 64, 64)}
