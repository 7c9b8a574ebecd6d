"""The tables: one for each study, data and budget; mean and deviation over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from examples.ablations.cells import Cell
from examples.ablations.studies import STUDIES, Study
from examples.results import Line, by_seed, markdown, percent


def current(lines: Sequence[Line]) -> list[Line]:
    """The lines whose spec is still that of their cell."""
    return [line for line in lines if line["method"] and _cell(line).is_of(line)]


def reached(lines: Sequence[Line], network: str, method: str) -> list[float]:
    """The accuracies of a cell over all seeds; of several results of one seed the last counts."""
    own = [line for line in lines if (line["network"], line["method"]) == (network, method)]
    return [line["binary"] for group in by_seed(own, lambda line: line["method"]) for line in group]


def tables(lines: Sequence[Line]) -> str:
    """The text of all tables, in Markdown."""
    lines = current(lines)
    budgets = dict.fromkeys((line["data"], line["epochs"], line["width"]) for line in lines)
    parts = []
    for data, epochs, width in budgets:
        own = [line for line in lines if (line["data"], line["epochs"], line["width"]) == (data, epochs, width)]
        for name, study in STUDIES.items():
            if any(reached(own, network, method) for network in study.networks(data) for method in study.methods):
                parts.append(_table(name, study, own, f"{data}, {epochs} epochs, width {width:g}"))
    return "\n\n".join(parts)


def _table(name: str, study: Study, lines: Sequence[Line], budget: str) -> str:
    used = [
        line for line in lines if line["network"] in study.networks(line["data"]) and line["method"] in study.methods
    ]
    seeds = sorted({line["seed"] for line in used})
    counts = {
        len(reached(used, network, method)) for network in study.networks(used[0]["data"]) for method in study.methods
    }
    shown = f"{max(counts)} seeds" if counts == {max(counts)} else f"{min(counts)} to {max(counts)} seeds"
    where = "; ".join(dict.fromkeys(f"{line['device']}, torch {line['torch']}" for line in used))
    days = sorted({line["date"] for line in used})
    seconds = mean(line["seconds"] for line in used)
    rows = [
        [network, *(percent(reached(used, network, method)) for method in study.methods)]
        for network in study.networks(used[0]["data"])
    ]
    said = (
        f"**{study.question}** `run {name}`: {budget}, {shown} ({seeds[0]} to {seeds[-1]}); test accuracy of the fully "
        f"binary network in per cent, mean ± standard deviation. {where}; {seconds:.0f} s a run; {days[-1]}."
    )
    return f"{said}\n\n{markdown(['network', *study.methods], rows)}"


def _cell(line: Line) -> Cell:
    return Cell(**{name: line[name] for name in Cell.__dataclass_fields__})
