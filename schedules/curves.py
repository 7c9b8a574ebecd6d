"""The curves: how the binary fraction of a site grows inside its window.

A curve is a value, and its one method is a pure function of the progress `t` through the window, from 0 at the
window's first step towards 1 at its end. The shapes are those that StoMPP (arXiv 2606.27759) compares; `exponential`,
which is that of bitorch's ProgressiveSign; and `instant`, which is no progression at all.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from frostline.schedules.part import Part

Exponent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]


class Power(Part):
    """p(t) = t ** exponent. The paper's default is the cubic.

    >>> Power(kind="power", exponent=3).fraction(0.5)
    0.125
    """

    kind: Literal["power"]
    exponent: Exponent
    """How late it rises: 1 is linear, 3 the paper's."""

    def fraction(self, t: float) -> float:
        return float(t**self.exponent)

    def __str__(self) -> str:
        return f"power {self.exponent:g}"


class Linear(Part):
    """p(t) = t: evenly.

    >>> Linear(kind="linear").fraction(0.25)
    0.25
    """

    kind: Literal["linear"]

    def fraction(self, t: float) -> float:
        return t

    def __str__(self) -> str:
        return "linear"


class Cosine(Part):
    """p(t) = (1 - cos(pi t)) / 2: slow at both ends.

    >>> round(Cosine(kind="cosine").fraction(0.25), 4)
    0.1464
    """

    kind: Literal["cosine"]

    def fraction(self, t: float) -> float:
        return (1 - math.cos(math.pi * t)) / 2

    def __str__(self) -> str:
        return "cosine"


class FlippedPower(Part):
    """p(t) = 1 - (1 - t) ** exponent: fast first, slow at the end.

    >>> FlippedPower(kind="flipped_power", exponent=2).fraction(0.5)
    0.75
    """

    kind: Literal["flipped_power"]
    exponent: Exponent
    """How early it rises: 1 is linear."""

    def fraction(self, t: float) -> float:
        return float(1 - (1 - t) ** self.exponent)

    def __str__(self) -> str:
        return f"flipped power {self.exponent:g}"


class Exponential(Part):
    """p(t) = (1 - e ** (-rate t)) / (1 - e ** -rate): fast first, ever slower.

    bitorch's ProgressiveSign has 1 - 4 ** (-10 t), which is a rate of 10 ln 4, or 13.86.

    >>> round(Exponential(kind="exponential", rate=13.86).fraction(0.05), 4)
    0.4999
    """

    kind: Literal["exponential"]
    rate: Exponent
    """How early it rises: 13.86 is that of bitorch's ProgressiveSign."""

    def fraction(self, t: float) -> float:
        return math.expm1(-self.rate * t) / math.expm1(-self.rate)

    def __str__(self) -> str:
        return f"exponential {self.rate:g}"


class Instant(Part):
    """p(t) = 1: binary from the window's first step on, as plain straight-through training is.

    >>> Instant(kind="instant").fraction(0.0)
    1.0
    """

    kind: Literal["instant"]

    def fraction(self, t: float) -> float:
        return 1.0

    def __str__(self) -> str:
        return "instant"


Curve = Annotated[Power | Linear | Cosine | FlippedPower | Exponential | Instant, Field(discriminator="kind")]
