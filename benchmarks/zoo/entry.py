"""One model of the zoo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

Example = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """A named architecture and how to make it.

    ``make`` returns a fresh model with random weights, its example arguments and its example keywords; it seeds torch,
    so two calls return equal weights and equal examples. The batch holds two examples and is the first dimension,
    unless the name of the entry says otherwise.
    """

    name: str
    group: str
    make: Callable[[], Example]
