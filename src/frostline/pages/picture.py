"""The picture of a model: a row for every depth, with its operations, their windows and their share of the work."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from frostline.amounts import Amounts, Reading, Work, rounded
from frostline.compiler.plan import Turn
from frostline.compiler.plan_text import levels_of, mask_of
from frostline.pages.axes import Ticks, scale, steps
from frostline.pages.progression import Bar, Shades, bars, by_depth, lanes
from frostline.pages.wiring import INPUT, OUTPUT, Join, Wiring
from frostline.schedules import SIGNS

_ROW, _BOX, _ANCHOR = 34.0, 21.0, 14.0
_LETTER, _PIPS, _GAP = 6.7, 50.0, 16.0
"""The width of a letter, of the two marks in a box, and between two boxes."""
_LONGEST = 40
_LEFT, _WINDOWS, _WORK = 92.0, 360.0, 110.0
"""The room for depths and shortcuts, for the windows at least, and for the bars of multiply-adds."""
_WIDTH = 1150.0
"""What a page has room for; the windows fill it."""
_SIGNS = {"add": "+", "mul": "×", "sub": "−", "cat": "‖", "matmul": "@"}


@dataclass(frozen=True)
class Mark:
    """A site as it is drawn, where one operation reads it."""

    reading: Reading
    told: str

    @property
    def binary(self) -> bool:
        return self.reading.turn is not None


@dataclass(frozen=True)
class Box:
    """An operation as it is drawn."""

    work: Work
    label: str
    x: float
    y: float
    width: float
    activation: Mark
    weight: Mark

    @property
    def told(self) -> str:
        work = self.work
        kind = "on bits" if work.binary else "sums of floats" if work.weight.turn else "in float"
        roles = f"\nrole: {', '.join(work.roles)}" if work.roles else ""
        return f"{work.name}\n{work.kind}: {work.multiply_adds:,} multiply-adds, {kind}{roles}\n{work.where or ''}"


@dataclass(frozen=True)
class Knot:
    """A join as it is drawn."""

    join: Join
    x: float
    y: float

    @property
    def sign(self) -> str:
        return _SIGNS.get(self.join.label, "·")


@dataclass(frozen=True)
class Row:
    """A depth: its boxes, its lanes, and its multiply-adds on bits, with binary weights, and in float."""

    depth: int
    y: float
    boxes: tuple[Box, ...]
    bars: tuple[Bar, ...]
    others: tuple[Bar, ...]
    work: tuple[tuple[str, float, float], ...]
    work_told: str


@dataclass(frozen=True)
class Picture:
    """All of it in pixels."""

    width: float
    height: float
    windows: float
    windows_end: float
    work: float
    rows: tuple[Row, ...]
    knots: tuple[Knot, ...]
    paths: tuple[str, ...]
    ends: tuple[tuple[str, float, float], ...]
    ticks: Ticks
    box: float = _BOX
    row: float = _ROW


def picture(
    amounts: Amounts, wires: Wiring, shades: Shades, against: Mapping[int, list[Turn]] | None = None
) -> Picture:
    """Draw a model and its plan, and the windows of another plan by depth."""
    plan = amounts.plan
    depths: dict[int, list[Work]] = defaultdict(list)
    for work in amounts.works:
        depths[work.depth].append(work)
    for works in depths.values():
        works.sort(key=lambda work: "downsample" in work.roles)  # the main path is the first column
    labels = {work.name: _short(work.name) for work in amounts.works}
    columns = max(map(len, depths.values()), default=1)
    widths = [
        max(_PIPS + _LETTER * len(labels[works[place].name]) for works in depths.values() if place < len(works))
        for place in range(columns)
    ]
    lefts = [_LEFT + sum(widths[:place]) + _GAP * place for place in range(columns)]
    places = {depth: _ROW * (index + 1) for index, depth in enumerate(sorted(depths))}
    start = lefts[-1] + widths[-1] + 28
    end = max(start + _WINDOWS, _WIDTH - 28 - _WORK - 70)
    work_start = end + 28
    x = scale(0, plan.total_steps, start, end)
    most = max((sum(work.multiply_adds for work in works) for works in depths.values()), default=1) or 1
    turns = by_depth(plan)

    def drawn(of: Mapping[int, list[Turn]], depth: int) -> tuple[Bar, ...]:
        return bars(depth, lanes(of.get(depth, []), shades), places[depth], _BOX, x, plan.total_steps, gap=1)

    rows = []
    for depth, y in places.items():
        boxes = tuple(
            Box(work, labels[work.name], lefts[place], y, _PIPS + _LETTER * len(labels[work.name]),
                Mark(work.activation, told(work.activation)), Mark(work.weight, told(work.weight)))
            for place, work in enumerate(depths[depth])
        )  # fmt: skip
        parts, told_work = _work(depths[depth], work_start, _WORK / most)
        rows.append(Row(depth, y, boxes, drawn(turns, depth), drawn(against or {}, depth), parts, told_work))
    knots = _knots(wires, places, lefts[0] + _ANCHOR)
    last = max(places.values(), default=0.0) + _ROW + 4
    points = {box.work.name: (box.x + _ANCHOR, box.y, box.y + _BOX) for row in rows for box in row.boxes}
    points |= {knot.join.key: (knot.x, knot.y - 5, knot.y + 5) for knot in knots}
    points |= {INPUT: (lefts[0] + _ANCHOR, 18.0, 18.0), OUTPUT: (lefts[0] + _ANCHOR, last, last)}
    paths = tuple(_path(points[a], points[b]) for a, b in wires.edges if a in points and b in points)
    ends = tuple((name, *points[name][:2]) for name in (INPUT, OUTPUT) if any(name in edge for edge in wires.edges))
    marks = steps(x, plan.total_steps, 6)
    width = work_start + _WORK + 70
    return Picture(round(width), last + 16, start, end, work_start, tuple(rows), tuple(knots), paths, ends, marks)


def told(reading: Reading) -> str:
    """All about a site, as it is shown when someone points at it."""
    site, turn = reading.site, reading.turn
    shape = "x".join(map(str, site.shape)) or "scalar"
    lines = [reading.name, f"{site.kind}, shape {shape}, {math.prod(site.shape):,} entries"]
    if len(site.operands) > 1:
        others = [one.name if site.kind == "activation" else one.operation for one in site.operands]
        lines.append(f"one site of {', '.join(others)}")
    if turn is None:
        lines.append(f"stays float: {reading.why}")
    else:
        refresh = f"refresh 1/{turn.refresh}" if turn.refresh else "no refresh"
        lines += [
            f"turns to {levels_of(turn.levels)} in steps [{turn.start:,}, {turn.stop:,})",
            f"curve {turn.curve}, mask {mask_of(turn)}, {refresh}",
        ]
        lines += [f'override "{turn.rule}"'] * bool(turn.rule)
        if site.never_negative and turn.levels == SIGNS:
            lines.append("WARNING: never negative, so that every sign will be +1")
    return "\n".join([*lines, *([site.where] if site.where else [])])


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def _work(works: list[Work], start: float, each: float) -> tuple[tuple[tuple[str, float, float], ...], str]:
    """The bar of a depth's multiply-adds, part by part, and what it says."""
    kinds = {"bits": 0, "half": 0, "float": 0}
    for work in works:
        kinds["bits" if work.binary else "half" if work.weight.turn else "float"] += work.multiply_adds
    parts, at = [], start
    for kind, count in kinds.items():
        if count:
            parts.append((kind, round(at, 2), round(max(count * each, 0.5), 2)))
            at += count * each
    return tuple(parts), rounded(sum(kinds.values()))


def _knots(wires: Wiring, places: Mapping[int, float], x: float) -> list[Knot]:
    """Joins lie below the row of the depth that comes before them, side by side."""
    beside: dict[int, int] = defaultdict(int)
    knots = []
    for join in wires.joins:
        y = places.get(join.after, 0.0) + _BOX + (_ROW - _BOX) / 2
        knots.append(Knot(join, x + 18 * beside[join.after], y))
        beside[join.after] += 1
    return knots


def _path(one: tuple[float, float, float], two: tuple[float, float, float]) -> str:
    """An edge from below the one to above the other; what passes by a row goes around it on the left."""
    (x1, _, y1), (x2, y2, _) = one, two
    if x1 == x2 and abs(y2 - y1) < _ROW:
        return f"M{x1} {y1}V{y2}"
    if x1 == x2:
        y1, y2 = (one[1] + one[2]) / 2, (two[1] + two[2]) / 2
        out = 4 / 3 * (_ANCHOR + 12 + 3 * min((y2 - y1) / _ROW, 9.0))
        return f"M{x1 - 5} {y1}C{x1 - out:.1f} {y1} {x1 - out:.1f} {y2} {x2 - 5} {y2}"
    if y2 - y1 < _ROW:
        return f"M{x1} {y1}C{x1} {y2} {x2} {y1} {x2} {y2}"
    return f"M{x1} {y1}C{x1} {y2} {x1} {y2} {x2} {y2}" if x1 > x2 else f"M{x1} {y1}C{x2} {y1} {x2} {y1} {x2} {y2}"
