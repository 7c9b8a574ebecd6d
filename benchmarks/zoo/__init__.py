"""Architectures on which capture is measured, in small configurations with random weights."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from benchmarks.zoo import corners
from benchmarks.zoo.entry import Entry, Example

__all__ = ["Entry", "Example", "entries"]

LIBRARIES = ("transformers", "timm", "torchvision")


def entries() -> list[Entry]:
    """Every model of the zoo: the corner cases, then one group for each model library that is installed.

    >>> names = [entry.name for entry in entries()]
    >>> len(names) == len(set(names))
    True
    """
    found = corners.entries()
    for library in LIBRARIES:
        if find_spec(library) is not None:
            found += import_module(f"{__name__}.from_{library}").entries()
    return found
