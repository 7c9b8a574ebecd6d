"""The progression chart: each depth is a row, the fraction of binary entries a colour over the steps.

What turns alike in a depth is one lane of its row: in the same window, along the same curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from frostline.compiler.plan import Plan, Turn
from frostline.pages.axes import Frame, Ticks, cividis, scale, steps, thinned

_STOPS = 24
"""The steps of a gradient in which a curve is drawn."""


@dataclass(frozen=True)
class Lane:
    """The sites of one depth that turn alike; `shades` is the key of its curve's gradient."""

    start: int
    stop: int
    shades: str
    names: tuple[str, ...]
    curve: str

    @property
    def told(self) -> str:
        listed = "\n".join(self.names[:12]) + (f"\nand {len(self.names) - 12} more" * (len(self.names) > 12))
        return f"steps [{self.start:,}, {self.stop:,})\ncurve {self.curve}\n{listed}"


@dataclass
class Shades:
    """The gradients of a page: every curve once."""

    gradients: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)

    def of(self, turn: Turn) -> str:
        """The key of a curve's gradient, which is made if there is none."""
        key = self._keys.setdefault(repr(turn.curve), f"curve{len(self._keys)}")
        if key not in self.gradients:
            places = [index / _STOPS for index in range(_STOPS + 1)]
            self.gradients[key] = [(f"{place:.2%}", cividis(turn.curve.fraction(place))) for place in places]
        return key


def lanes(turns: Sequence[Turn], shades: Shades) -> list[Lane]:
    """The lanes of one depth, activations' first as they are read first."""
    alike: dict[tuple[int, int, str], list[Turn]] = {}
    for turn in turns:
        alike.setdefault((turn.start, turn.stop, repr(turn.curve)), []).append(turn)
    return [
        Lane(start, stop, shades.of(members[0]), tuple(turn.site.name for turn in members), str(members[0].curve))
        for (start, stop, _), members in sorted(alike.items(), key=lambda item: item[0])
    ]


@dataclass(frozen=True)
class Bar:
    """A lane as it is drawn: before its window, in it, and after it."""

    depth: int
    y: float
    height: float
    lane: Lane
    start: float
    stop: float


def bars(
    depth: int, inside: Sequence[Lane], top: float, room: float, x: Callable[[float], float], last: int, gap: float = 0
) -> tuple[Bar, ...]:
    """The lanes of a depth below one another, with gaps between them, up to the last step."""
    each = room / max(len(inside), 1)
    height = each - gap * (len(inside) > 1)
    return tuple(
        Bar(depth, round(top + each * index, 2), round(height, 2), lane, x(lane.start), x(min(lane.stop, last)))
        for index, lane in enumerate(inside)
    )


@dataclass(frozen=True)
class Chart(Frame):
    """The progression chart of a plan."""

    bars: tuple[Bar, ...]
    others: tuple[Bar, ...]
    """Where another plan has its windows."""
    ticks: Ticks
    labels: Ticks
    settled: float


def by_depth(plan: Plan) -> dict[int, list[Turn]]:
    """The turns of every depth that has some, in the order of depth."""
    found: dict[int, list[Turn]] = {}
    for turn in plan.turns:
        found.setdefault(turn.site.depth, []).append(turn)
    return dict(sorted(found.items()))


def chart(plan: Plan, shades: Shades, against: Plan | None = None) -> Chart:
    """Draw a plan, and beside it the windows of another."""
    rows = by_depth(plan)
    other = by_depth(against) if against else {}
    total = max(plan.total_steps, against.total_steps if against else 0)
    width, left, right, top = 1000.0, 52.0, 968.0, 8.0
    row = min(max(300 / max(len(rows), 1), 3.0), 34.0)
    bottom = top + row * len(rows)
    x = scale(0, total, left, right)
    places = {depth: top + row * index for index, depth in enumerate(rows)}
    gap = 2.0 if row > 12 else 0.0

    def drawn(of: dict[int, list[Turn]]) -> tuple[Bar, ...]:
        return tuple(
            bar
            for depth, y in places.items()
            for bar in bars(depth, lanes(of.get(depth, []), shades), y, row - gap, x, total)
        )

    every = thinned(len(rows), bottom - top, 13)
    labels = [(places[depth] + row / 2, str(depth)) for index, depth in enumerate(rows) if index % every == 0]
    return Chart(
        width, bottom + 40, left, right, top, bottom, drawn(rows), drawn(other), steps(x, total, 7), tuple(labels),
        x(plan.settled_at),
    )  # fmt: skip
