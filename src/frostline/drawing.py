"""`draw`: the plan of a program, as a page or its progression chart; and the table of a probe as one picture.

Pictures are made with matplotlib. A table's three panels share the steps: the *sawtooth* of the accuracies, the
*blockade map* of the gradients that arrive, and the *progression chart* of the binary fractions. The colours are told
apart by colour-blind readers and in grey: Okabe and Ito's blue and vermilion for the lines, blues against an orange for
the map, and cividis for fractions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.compiler.files import replacing
from frostline.compiler.plan import Plan
from frostline.errors import FileError, Offence, UsageError
from frostline.pages import write_plan_page
from frostline.program import Program
from frostline.records import Record, cells_of, depths_of, edges_of, norm, read_records, steps_of

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")

_SIZE, _DPI = (11.0, 9.0), 150
_MASKED, _BINARY, _BLOCKED = "#0072b2", "#d55e00", "#f0a202"
_TEXT, _LINES = "#444444", "#9a9a9a"
_COLUMNS = 800
"""The steps at which a plan's fractions are drawn at most."""
_LABELS = 20
"""The depths that are labelled at most on one axis."""
_CELLS = 1_000_000
"""Depths times steps that are drawn at most."""
_DECADES = 12
"""Gradients below the largest by more than this get the lightest blue."""


def draw(what: str | Path | Program, picture: str | Path, against: Program | None = None) -> None:
    """Draw the plan of a program, or the table of a probe.

    A plan is a page, where the picture's name ends in .html: the model by depth with all its sites, the progression
    chart, and what becomes binary; it needs no network. Ending in .png, .svg or .pdf it is the progression chart alone.
    `against` is a program of the same model under another spec: the page says and shows what differs. A table becomes a
    PNG of 1650 x 1350 pixels, an SVG or a PDF.

    Raises UsageError where matplotlib is missing for a picture or the name has another ending, and FileError where the
    table cannot be read, is damaged or empty, or the picture cannot be written.
    """
    ending = Path(picture).suffix.removeprefix(".").lower()
    known = ("html", *FORMATS) if isinstance(what, Program) else FORMATS
    if ending not in known:
        remedy = f"end it in {', '.join('.' + one for one in known)}"
        raise UsageError(f"{picture} cannot be drawn", [Offence(f'there is no format "{ending}"', remedy=remedy)])
    if isinstance(what, Program) and ending == "html":
        write_plan_page(what, picture, against)
        return
    records = [] if isinstance(what, Program) else read_records(what)
    if not isinstance(what, Program) and not records:
        raise FileError(f"{what} is empty", [Offence("it has no row", remedy="call record() on the probe")])
    try:
        import matplotlib
    except ImportError as error:
        remedy = "pip install 'frostline[plots]'"
        raise UsageError("matplotlib is not installed", [Offence(str(error), remedy=remedy)]) from error
    with matplotlib.rc_context():  # the user's own style stays what it is, and out of this picture
        matplotlib.rcdefaults()
        figure = _figure_of_plan(what.plan) if isinstance(what, Program) else _figure(records)
        with replacing(picture) as part:
            figure.savefig(part, format=ending, dpi=_DPI)


def _figure_of_plan(plan: Plan) -> Figure:
    """The progression chart: depth by step, the fraction as colour, and a frame around each window."""
    import numpy as np
    from matplotlib.figure import Figure

    depths = sorted({turn.site.depth for turn in plan.turns})
    edges = sorted({*np.linspace(0, plan.total_steps, _COLUMNS + 1).round().astype(int).tolist()})
    inside = [[turn for turn in plan.turns if turn.site.depth == depth] for depth in depths]
    middles = [(start + stop) // 2 for start, stop in pairwise(edges)]
    shares = [[sum(turn.fraction(step) for turn in turns) / len(turns) for step in middles] for turns in inside]
    figure = Figure((_SIZE[0], min(max(0.22 * len(depths) + 1.6, 3.5), 7.5)), layout="constrained")
    panel = figure.subplots()
    windows = {(turn.site.depth, turn.start, turn.stop) for turn in plan.turns}
    _mesh(panel, _Map(edges, depths, windows), np.array(shares), "cividis", "binary fraction", vmin=0, vmax=1)
    _title(panel, f"Plan: {len(plan.turns)} sites turn binary in {len(plan.windows)} windows")
    panel.set_xlabel("optimizer step")
    panel.set_xlim(0, plan.total_steps)
    panel.tick_params(labelsize=9, color=_LINES)
    panel.spines[:].set_color(_LINES)
    return figure


def _figure(records: Sequence[Record]) -> Figure:
    from matplotlib.figure import Figure

    if len(depths_of(records)) * len(steps_of(records)) > _CELLS:
        raise FileError("the table is too large to be drawn", [Offence(f"it has more than {_CELLS:,} depths by steps")])
    figure = Figure(_SIZE, layout="constrained")
    panels = figure.subplots(3, sharex=True, height_ratios=[1, 1.15, 1.15])
    for panel, fill in zip(panels, (_sawtooth, _blockade_map, _progression_chart), strict=True):
        fill(panel, records)
        panel.tick_params(labelsize=9, color=_LINES)
        panel.spines[:].set_color(_LINES)
    panels[-1].set_xlabel("optimizer step")
    edges = edges_of(steps_of(records))
    panels[-1].set_xlim(edges[0], edges[-1])
    return figure


def _sawtooth(panel: Axes, records: Sequence[Record]) -> None:
    """Both accuracies over the steps, above bands that are the windows."""
    from matplotlib.ticker import PercentFormatter

    by_step = {record.step: record for record in records}
    for name, colour, style in (("masked", _MASKED, "-"), ("binary", _BINARY, "--")):
        points = [(step, getattr(record, name)) for step, record in sorted(by_step.items())]
        points = [(step, share) for step, share in points if share is not None]
        label = "masked" if name == "masked" else "fully binary"
        if points:
            panel.plot(*zip(*points, strict=True), color=colour, linestyle=style, linewidth=1.6, label=label)
    _title(panel, "Sawtooth: accuracy, while one depth after the other turns binary")
    _windows(panel, records)
    panel.set_ylabel("accuracy")
    panel.set_ylim(0, 1.02)
    panel.yaxis.set_major_formatter(PercentFormatter(1, 0))
    if panel.lines:
        _legend(panel, panel.get_legend_handles_labels()[0])
    else:
        text = "no accuracy was recorded: record(masked=..., binary=...)"
        panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", color=_TEXT)


def _windows(panel: Axes, records: Sequence[Record]) -> None:
    """A band for every other window, with its depth where all of the window is of one depth."""
    depths = defaultdict(set)
    for record in records:
        depths[record.start, record.stop].add(record.depth)
    thinned = -(-len(depths) // _LABELS)
    for index, ((start, stop), inside) in enumerate(sorted(depths.items())):
        if index % 2 == 0:
            panel.axvspan(start, stop, color="#eeeeee", linewidth=0, zorder=0)
        if len(inside) == 1 and index % thinned == 0:
            text = f"depth {min(inside)}" if index == 0 else f"{min(inside)}"
            panel.text((start + stop) / 2, 0.02, text, ha="center", fontsize=8, color=_TEXT, clip_on=True)


def _blockade_map(panel: Axes, records: Sequence[Record]) -> None:
    """The logarithm of the gradient's norm at every depth over all its sites; exactly 0 has a colour of its own."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm
    from matplotlib.patches import Patch

    norms = _grid(records, cells_of(records, norm))
    arrives = norms[norms > 0]
    top = arrives.max() if arrives.size else 1.0
    bottom = max(arrives.min(), top * 10.0**-_DECADES) if arrives.size else 0.1
    scale = LogNorm(min(bottom, top / 10), top, clip=True)
    blues = ListedColormap(colormaps["Blues"](np.linspace(0.15, 1, 256)))
    place = _map_of(records)
    _mesh(panel, place, np.where(norms > 0, norms, np.nan), blues, "gradient norm", norm=scale)
    blocked = np.where(norms == 0, 1.0, np.nan)
    if (norms == 0).any():
        panel.pcolormesh(place.edges, place.rows, blocked, cmap=ListedColormap([_BLOCKED]))
        _legend(panel, [Patch(color=_BLOCKED, label="exactly 0: no gradient arrives")])
    _title(panel, "Blockade map: norm of the gradient that arrives, and the windows")


def _progression_chart(panel: Axes, records: Sequence[Record]) -> None:
    """The fraction of binary entries that the plan asks for at every depth, in the mean over its sites."""
    shares = _grid(records, cells_of(records, lambda rows: sum(row.fraction for row in rows) / len(rows)))
    _mesh(panel, _map_of(records), shares, "cividis", "binary fraction", vmin=0, vmax=1)
    _title(panel, "Progression chart: fraction of binary entries in the plan")


@dataclass(frozen=True)
class _Map:
    """The columns of a map, its rows, and the windows `(depth, start, stop)` that are framed in it."""

    edges: Sequence[int]
    depths: Sequence[int]
    windows: Set[tuple[int, int, int]]

    @property
    def rows(self) -> list[float]:
        """The edges of the rows."""
        return [index - 0.5 for index in range(len(self.depths) + 1)]


def _map_of(records: Sequence[Record]) -> _Map:
    windows = {(record.depth, record.start, record.stop) for record in records}
    return _Map(edges_of(steps_of(records)), depths_of(records), windows)


def _mesh(panel: Axes, place: _Map, grid: Any, colours: Any, label: str, **scale: Any) -> None:
    """A map of depth by step, the input on top, and a frame around each depth's windows."""
    from matplotlib.patches import Rectangle

    mesh = panel.pcolormesh(place.edges, place.rows, grid, cmap=colours, **scale)
    depths = place.depths
    for depth, start, stop in place.windows:
        corner = (start, depths.index(depth) - 0.5)
        panel.add_patch(Rectangle(corner, stop - start, 1, fill=False, edgecolor=_LINES, linewidth=0.8, zorder=2))
    panel.set_ylim(len(depths) - 0.5, -0.5)
    thinned = -(-len(depths) // _LABELS)
    panel.set_yticks(range(0, len(depths), thinned), [str(depth) for depth in depths[::thinned]])
    panel.set_ylabel("depth (input on top)")
    bar = panel.figure.colorbar(mesh, ax=panel, pad=0.01, fraction=0.05, aspect=15)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8, color=_LINES)
    bar.outline.set_edgecolor(_LINES)


def _title(panel: Axes, text: str) -> None:
    panel.set_title(text, loc="left", fontsize=10.5)


def _legend(panel: Axes, handles: Sequence[Any]) -> None:
    """A legend on the line of the title, at its end."""
    panel.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(handles), frameon=False, fontsize=9,
        borderaxespad=0.2,
    )  # fmt: skip


def _grid(records: Sequence[Record], cells: Mapping[tuple[int, int], float]) -> np.ndarray:
    """Values of depths (rows) and steps (columns) as a matrix; NaN where there is no record."""
    import numpy as np

    steps = steps_of(records)
    return np.array([[cells.get((depth, step), np.nan) for step in steps] for depth in depths_of(records)])
