"""The models of transformers, each from its configuration class in a small size: nothing is downloaded."""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks.zoo import (
    transformers_decoders,
    transformers_encoders,
    transformers_images,
    transformers_pairs,
    transformers_scenes,
    transformers_sound,
    transformers_translators,
)
from benchmarks.zoo.entry import Entry

SUBJECTS = (
    transformers_encoders,
    transformers_decoders,
    transformers_translators,
    transformers_images,
    transformers_scenes,
    transformers_sound,
    transformers_pairs,
)


def entries() -> list[Entry]:
    """One entry a recipe; none where transformers is not installed."""
    if find_spec("transformers") is None:
        return []
    return [recipe.entry() for subject in SUBJECTS for recipe in subject.RECIPES]
