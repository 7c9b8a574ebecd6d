"""Turns a class of a corner file into an entry of the zoo."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.zoo.entry import Entry, Example

VOCABULARY = 20


def corner(model: type[nn.Module], *args: Any, **kwargs: Any) -> Entry:
    """The entry of one hand-written model, named after its class.

    A tuple of integers stands for a tensor of that shape drawn from the normal distribution, a callable for what it
    returns, and all else for itself.

    >>> entry = corner(nn.Identity, (2, 3))
    >>> entry.name
    'corner/identity'
    """

    def make() -> Example:
        torch.manual_seed(0)
        return model(), tuple(example(each) for each in args), {name: example(each) for name, each in kwargs.items()}

    return Entry(f"corner/{snake_case(model.__name__)}", "corner", make)


def example(of: Any) -> Any:
    """The value that ``of`` stands for in ``corner``.

    >>> example((2, 3)).shape
    torch.Size([2, 3])
    >>> example("mean")
    'mean'
    """
    if isinstance(of, tuple) and of and all(type(size) is int for size in of):
        return torch.randn(of)
    return of() if callable(of) else of


def tokens(*shape: int) -> Callable[[], Tensor]:
    """Draws token numbers below ``VOCABULARY``."""
    return lambda: torch.randint(VOCABULARY, shape)


def snake_case(name: str) -> str:
    """The class name in words joined by underscores.

    >>> snake_case("TrainingFlagAtRoot")
    'training_flag_at_root'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
