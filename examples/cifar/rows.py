"""The rows of the table: DATASET-NETWORK-METHOD, every combination of the three, such as cifar10-resnet18-stompp.

A method is a schedule spec, `schedules/METHOD.yaml`, and what it changes in the recipe. The recipe that nothing changes
is the paper's (arXiv 2606.27759): SGD, momentum 0.9, constant rate 0.1, no weight decay, batches of 256.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import frostline as fl
from examples.cifar.data import STATISTICS
from examples.cifar.networks.build import NETWORKS
from frostline.errors import Offence, UsageError, nearest

SCHEDULES = Path(__file__).parents[2] / "schedules"

FLOAT = "float"
"""The method that trains the float network: the upper bound, and the teacher."""

RECIPES: Mapping[str, Mapping[str, Any]] = {
    FLOAT: {"nesterov": True, "weight_decay": 5e-4, "rate": "cosine"},
    "clipped-ste": {"rate": "cosine"},
}
"""What a method changes in the paper's recipe."""

METHODS = (FLOAT, *sorted(path.stem for path in SCHEDULES.glob("*.yaml")))
DATASETS = tuple(STATISTICS)


def row(name: str) -> dict[str, Any]:
    """The settings that a row fixes. Raises UsageError, with the nearest names, for a row that there is not."""
    parts = {"-".join(parts): parts for parts in product(DATASETS, NETWORKS, METHODS)}
    if name not in parts:
        remedy = nearest(name, parts) or "`python -m examples.cifar.main rows` lists the parts of a name"
        raise UsageError(f'there is no row "{name}"', [Offence("a row is DATASET-NETWORK-METHOD", remedy=remedy)])
    dataset, network, method = parts[name]
    return {"dataset": dataset, "network": network, "method": method, **RECIPES.get(method, {})}


def as_float(name: str) -> str:
    """The row of the same network and data that trains it float."""
    parts = row(name)
    return f"{parts['dataset']}-{parts['network']}-{FLOAT}"


def spec_of(method: str, seed: int) -> fl.ScheduleSpec:
    """The schedule spec of a method, with its masks drawn from a seed of their own."""
    return fl.edit_spec(fl.load_spec(SCHEDULES / f"{method}.yaml"), {"seed": seed})
