"""Both accuracies of a run over its steps, above the windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from frostline.pages.axes import Frame, Ticks, scale, steps


@dataclass(frozen=True)
class Point:
    """Accuracies that were measured after so many steps, as shares."""

    step: int
    masked: float
    binary: float
    told: str


@dataclass(frozen=True)
class Band:
    """The window `[start, stop)` of a group of sites."""

    label: str
    start: int
    stop: int


@dataclass(frozen=True)
class Curves(Frame):
    """The chart: a line for each accuracy, and the bands of the windows."""

    lines: tuple[tuple[str, str], ...]
    marks: tuple[tuple[str, float, float, str], ...]
    bands: tuple[tuple[float, float, str, str, bool], ...]
    ticks: Ticks
    shares: Ticks


def curves(points: Sequence[Point], bands: Sequence[Band], last: int) -> Curves:
    """Draw the accuracies; the axis of shares goes from 0 to 100 %, that of steps from 0 to the last."""
    width, left, right, top, bottom = 1000.0, 52.0, 968.0, 12.0, 272.0
    x, y = scale(0, max(last, *(point.step for point in points), 1), left, right), scale(0, 1, bottom, top)
    lines, marks = [], []
    for name in ("masked", "binary"):
        places = [(x(point.step), y(getattr(point, name)), point.told) for point in points]
        lines.append((name, "M" + "L".join(f"{across} {up}" for across, up, _ in places)))
        marks += [(name, across, up, told) for across, up, told in places]
    labelled = max(1, -(-len(bands) // 24))
    drawn = tuple(
        (x(band.start), round(x(band.stop) - x(band.start), 2), band.label.removeprefix("depth ") if i % labelled == 0
         else "", f"{band.label} turns in steps [{band.start:,}, {band.stop:,})", i % 2 == 0)
        for i, band in enumerate(bands)
    )  # fmt: skip
    up = tuple((y(share / 100), f"{share} %") for share in range(0, 101, 20))
    return Curves(
        width, bottom + 58, left, right, top, bottom, tuple(lines), tuple(marks), drawn, steps(x, max(last, 1), 7), up
    )
