"""What of a session runs where, as ONNX Runtime says it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from frostline.compiler.exported import DOMAIN

LIBRARY = "frostline's kernels"


@dataclass(frozen=True)
class Placement:
    """How many nodes of each operator run where: in a provider of ONNX Runtime, or in the library of kernels.

    The nodes are those after the runtime's own optimisation. `nodes` is empty where the runtime does not tell.
    """

    providers: tuple[str, ...]
    nodes: dict[str, dict[str, int]]

    def __str__(self) -> str:
        if not self.nodes:
            return f"providers: {', '.join(self.providers)}; this ONNX Runtime does not tell what runs where"
        lines = []
        for place, kinds in self.nodes.items():
            listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            lines.append(f"{place}: {listed}")
        return "\n".join(lines)


def placement(session: Any) -> Placement:
    """What of a session, opened by `fl.session`, runs where. ONNX Runtime tells it from 1.24 on."""
    providers = tuple(session.get_providers())
    counted: dict[str, Counter[str]] = {}
    for part in getattr(session, "get_provider_graph_assignment_info", list)():
        for node in part.get_nodes():
            place = LIBRARY if node.domain == DOMAIN else str(part.ep_name)
            counted.setdefault(place, Counter())[str(node.op_type)] += 1
    order = sorted(counted, key=lambda place: (place != LIBRARY, place))
    return Placement(providers, {place: dict(counted[place]) for place in order})
