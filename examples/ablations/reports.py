"""The tables: one for each study, data and budget; mean and deviation over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from examples.ablations.cells import Cell
from examples.ablations.studies import METHODS, STUDIES, Study
from examples.results import Line, by_seed, markdown, percent

Answer = Mapping[str, Mapping[str, list[float]]]
"""Accuracies by network and method, one a seed."""


def current(lines: Sequence[Line]) -> list[Line]:
    """The lines whose spec is still that of their cell."""
    known = [line for line in lines if line["method"] in METHODS]
    return [line for line in known if Cell.of(line).spec.as_data() == line["spec"]]


def reached(lines: Sequence[Line], network: str, method: str) -> list[float]:
    """The accuracies of a cell over all seeds; of several results of one seed the last counts."""
    own = [line for line in lines if (line["network"], line["method"]) == (network, method)]
    return [line["binary"] for group in by_seed(own, lambda line: line["method"]) for line in group]


def answer(study: Study, lines: Sequence[Line], data: str) -> Answer:
    """What a study found. A network that was tried in one way compares nothing, and is left out."""
    found = {
        network: {method: shares for method in study.methods if (shares := reached(lines, network, method))}
        for network in study.networks(data)
    }
    return {network: methods for network, methods in found.items() if len(methods) > 1}


def answers(lines: Sequence[Line]) -> Iterator[tuple[str, Answer, list[Line]]]:
    """What every study found at every budget, with the lines of that budget; the first budget's come first.

    Studies share cells: at a later budget one may have a few of them, which do not answer its question. It is left out
    there, unless some network was tried in all of its ways.
    """
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault((line["data"], line["epochs"], line["width"]), []).append(line)
    for place, ((data, *_), own) in enumerate(groups.items()):
        for name, study in STUDIES.items():
            found = answer(study, own, data)
            if found and (place == 0 or any(row.keys() >= set(study.methods) for row in found.values())):
                yield name, found, own


def tables(lines: Sequence[Line]) -> str:
    """The text of all tables, in Markdown."""
    return "\n\n".join(
        _table(name, STUDIES[name], found, [line for line in own if line["method"] in found.get(line["network"], {})])
        for name, found, own in answers(current(lines))
    )


def _table(name: str, study: Study, found: Answer, used: Sequence[Line]) -> str:
    methods = [method for method in study.methods if any(method in row for row in found.values())]
    counts = sorted({len(shares) for row in found.values() for shares in row.values()})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    first = used[0]
    said = (
        f"**{study.question}** `run {name}`: {first['data']}, {first['epochs']} epochs, width {first['width']:g}, "
        f"{seeds} seeds; test accuracy of the fully binary network in per cent, mean ± standard deviation. "
        f"{'; '.join(dict.fromkeys(_place(line) for line in used))}; "
        f"{mean(line['seconds'] for line in used):.0f} s a run; {max(line['date'] for line in used)}."
    )
    rows = [[network, *(percent(row.get(method, [])) for method in methods)] for network, row in found.items()]
    return f"{said}\n\n{markdown(['network', *methods], rows)}"


def _place(line: Line) -> str:
    return f"{line['device']}, torch {line['torch']}"
