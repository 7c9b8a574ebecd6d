"""Axes and colours of the pages' own drawings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Ticks = tuple[tuple[float, str], ...]
"""The labels of an axis, and where they are."""


@dataclass(frozen=True)
class Frame:
    """A drawing in pixels: its size, and the edges of the area between its axes."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float


_CIVIDIS = "00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838"
"""Ten even steps of cividis (Nuñez, Anderton and Renslow, 2018), which looks alike to all kinds of colour vision."""


def cividis(share: float) -> str:
    """The colour of a share between 0 and 1.

    >>> cividis(0), cividis(0.5), cividis(1)
    ('#00224e', '#7d7c76', '#fee838')
    """
    steps = [tuple(bytes.fromhex(step)) for step in _CIVIDIS.split()]
    place = min(max(share, 0.0), 1.0) * (len(steps) - 1)
    low = min(int(place), len(steps) - 2)
    mixed = (round(a + (b - a) * (place - low)) for a, b in zip(steps[low], steps[low + 1], strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two, at even distances, at most so many and at least the first.

    >>> ticks(0, 10000, 6)
    [0.0, 2000.0, 4000.0, 6000.0, 8000.0, 10000.0]
    >>> ticks(0, 1, 3)
    [0.0, 0.5, 1.0]
    """
    span = max(high - low, 1e-12)
    rough = span / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(step * index, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """Where a value lies on an axis that is drawn from `start` to `stop`.

    >>> scale(0, 100, 10, 210)(50)
    110.0
    """
    span = high - low or 1.0
    return lambda value: round(start + (value - low) / span * (stop - start), 2)


def steps(x: Callable[[float], float], last: float, most: int) -> Ticks:
    """The labels of an axis of steps from 0 to the last.

    >>> steps(scale(0, 2000, 0, 100), 2000, 3)
    ((0.0, '0'), (50.0, '1,000'), (100.0, '2,000'))
    """
    return tuple((x(step), f"{step:,.0f}") for step in ticks(0, last, most) if step == int(step))


def thinned(count: int, room: float, each: float) -> int:
    """How many rows a label stands for, so that labels that need `each` fit into the room.

    >>> thinned(10, 100, 12), thinned(50, 100, 12)
    (2, 10)
    """
    least = max(1, math.ceil(count * each / max(room, 1)))
    return next(n for n in _ROUND if n >= least) if least <= _ROUND[-1] else least


_ROUND: Sequence[int] = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
