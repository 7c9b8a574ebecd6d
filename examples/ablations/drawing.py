"""The picture of the studies: gain against depth, and for every other study each run as a dot above its method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

from examples.ablations.reports import Answer, answers, current
from examples.ablations.studies import STUDIES
from examples.results import Line
from frostline.compiler.files import replacing
from frostline.errors import FileError, Offence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE = "vanilla STE"
"""What gain is measured against, as in the paper; the tuned form of it, with a clipped gradient, is a curve as well."""

_COLOURS = ("#0072b2", "#d55e00")
"""Okabe and Ito's blue and vermilion, for the plain and the residual networks."""


def draw(lines: Sequence[Line], picture: Path) -> None:
    """Draw every study that has results on digits, a panel for each budget. Raises FileError for none."""
    import matplotlib
    from matplotlib.figure import Figure

    lines = [line for line in current(lines) if line["data"] == "digits"]
    drawn = [(name, f"{own[0]['epochs']} epochs", found) for name, found, own in answers(lines)]
    if not drawn:
        raise FileError("there is nothing to draw", [Offence("no results on digits", None, "run a study first")])
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure((12, 3.9 * -(-len(drawn) // 2)), layout="constrained")
        panels = figure.subplots(-(-len(drawn) // 2), 2, squeeze=False).flatten()
        for panel, (name, budget, found) in zip(panels, drawn, strict=False):
            (_gain if name == "depth" else _dots)(panel, name, found)
            panel.set_title(f"{STUDIES[name].question} {budget}", loc="left", fontsize=11)
            panel.spines[["top", "right"]].set_visible(False)
        for panel in panels[len(drawn) :]:
            panel.set_visible(False)
        with replacing(picture) as part:
            figure.savefig(part, format=picture.suffix.removeprefix(".") or "png", dpi=110)


def _gain(panel: Axes, name: str, found: Answer) -> None:
    """Points above the baseline's mean, against the number of layers; bars are a standard deviation of one run."""
    study = STUDIES[name]
    kinds = dict.fromkeys(network.split("-")[0] for network in found)
    for kind, colour in zip(kinds, _COLOURS, strict=False):
        for method, style in zip([one for one in study.methods if one != BASELINE], (":", "-", "--"), strict=True):
            points = []
            for network, row in found.items():
                if network.startswith(kind) and {method, BASELINE} <= row.keys():
                    gains = [100 * (share - mean(row[BASELINE])) for share in row[method]]
                    points.append((_depth(network), mean(gains), stdev(gains) if len(gains) > 1 else 0.0))
            if points:
                depths, gained, bars = zip(*points, strict=True)
                label = f"{kind}, {method}"
                panel.errorbar(depths, gained, bars, color=colour, linestyle=style, marker="o", capsize=3, label=label)
    panel.axhline(0, color="#999999", linewidth=0.8)
    panel.set_xscale("log", base=2)
    panel.set_xticks(sorted({_depth(network) for network in found}))
    panel.xaxis.set_major_formatter("{x:.0f}")
    panel.set_xlabel("binary layers")
    panel.set_ylabel(f"points above {BASELINE}")
    panel.legend(frameon=False, fontsize=8)


def _depth(network: str) -> int:
    return int(network.split("-")[1])


def _dots(panel: Axes, name: str, found: Answer) -> None:
    """Each run as a dot, and the mean of a method as a line."""
    methods = [method for method in STUDIES[name].methods if any(method in row for row in found.values())]
    for shift, ((network, row), colour) in enumerate(zip(found.items(), _COLOURS, strict=False)):
        for place, method in enumerate(methods):
            shares = [100 * share for share in row.get(method, [])]
            at = place + 0.22 * (shift - (len(found) - 1) / 2)
            label = network if place == 0 else None
            panel.plot([at] * len(shares), shares, "o", color=colour, alpha=0.55, markersize=4, label=label)
            if shares:
                panel.plot([at - 0.1, at + 0.1], [mean(shares)] * 2, color=colour, linewidth=2)
    panel.set_xticks(range(len(methods)), [method.replace(" + ", "\n+ ") for method in methods], fontsize=8)
    panel.set_xlim(-0.5, len(methods) - 0.5)
    panel.set_ylabel("test accuracy, %")
    panel.legend(frameon=False, fontsize=8)
