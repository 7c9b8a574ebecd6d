"""Maps of depth by step, from the table of a probe: where gradient still arrives, and how many signs flip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log10

from frostline.pages.axes import Frame, Ticks, cividis, scale, steps, thinned
from frostline.records import Record, cells_of, depths_of, edges_of, norm, steps_of

_SHADES = 16
_DECADES = 12
"""Values further below the largest get its darkest shade."""


@dataclass(frozen=True)
class Heat(Frame):
    """A map: the cells of one colour are one path, and those that are exactly 0 are `zeros`."""

    paths: tuple[tuple[str, str], ...]
    zeros: str
    frames: tuple[tuple[float, float, float, float], ...]
    labels: Ticks
    ticks: Ticks
    low: str
    high: str
    told: tuple[tuple[float, float, str], ...]


def blockade(records: Sequence[Record], last: int) -> Heat:
    """The logarithm of the gradient's norm at every depth over all its sites; exactly 0 has a colour of its own."""
    norms = cells_of(records, norm)
    arriving = [norm for norm in norms.values() if norm > 0]
    top = max(arriving, default=1.0)
    bottom = min(max(min(arriving, default=0.1), top * 10.0**-_DECADES), top / 10)
    shade = scale(log10(bottom), log10(top), 0, 1)
    shares = {cell: shade(log10(max(norm, bottom))) if norm else None for cell, norm in norms.items()}
    return _drawn(records, shares, last, f"{bottom:.2g}", f"{top:.2g}")


def flips(records: Sequence[Record], last: int) -> Heat | None:
    """The share of signs that flipped since the record before, in the mean over a depth's weights; None without any."""
    known = [record for record in records if record.flips is not None]
    if not known:
        return None
    means = cells_of(known, lambda rows: sum(row.flips or 0.0 for row in rows) / len(rows))
    top = max(means.values()) or 1.0
    before = dict(pairwise(reversed(steps_of(records))))  # they flipped since then
    shares: dict[tuple[int, int], float | None] = {
        (depth, before[step]): mean / top for (depth, step), mean in means.items() if step in before
    }
    return _drawn(records, shares, last, "0 %", f"{top:.2%}")


def _drawn(
    records: Sequence[Record], shares: Mapping[tuple[int, int], float | None], last: int, low: str, high: str
) -> Heat:
    depths, recorded = depths_of(records), steps_of(records)
    edges = edges_of(recorded)
    end = max(last, recorded[-1]) or edges[-1]
    left, right, top = 52.0, 968.0, 8.0
    height = min(max(260 / len(depths), 3.0), 26.0)
    x, bottom = scale(0, end, left, right), top + height * len(depths)
    stops = dict(zip(recorded, [*edges[1:-1], min(edges[-1], end)], strict=True))
    rows = {depth: round(top + height * index, 2) for index, depth in enumerate(depths)}
    cells: dict[int | None, list[str]] = defaultdict(list)
    for (depth, step), share in sorted(shares.items()):
        if stops[step] == step:
            continue  # recorded after the last step: nothing lies behind it
        wide = round(x(stops[step]) - x(step), 2)
        shade = None if share is None else round(share * (_SHADES - 1))
        cells[shade].append(f"M{x(step)} {rows[depth]}h{wide}v{height:.2f}h-{wide}z")
    paths = tuple((cividis(shade / (_SHADES - 1)), "".join(d)) for shade, d in cells.items() if shade is not None)
    windows = sorted({(record.depth, record.start, record.stop) for record in records})
    every = thinned(len(depths), bottom - top, 13)
    return Heat(
        1000.0, bottom + 40, left, right, top, bottom, paths, "".join(cells.get(None, [])),
        tuple((x(start), rows[depth], round(x(stop) - x(start), 2), height) for depth, start, stop in windows),
        tuple((rows[depth] + height / 2, str(depth)) for i, depth in enumerate(depths) if i % every == 0),
        steps(x, end, 7), low, high,
        tuple((rows[depth], height, f"depth {depth}\nturns in steps " + ", ".join(
            f"[{start:,}, {stop:,})" for one, start, stop in windows if one == depth)) for depth in depths),
    )  # fmt: skip
