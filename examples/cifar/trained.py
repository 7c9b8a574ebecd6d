"""Trained float networks, to start from and to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

import frostline as fl
from examples.cifar.networks.build import NETWORKS, PRETRAINED, Images, build, pretrained
from examples.cifar.rows import FLOAT
from frostline.errors import CheckpointError, Offence, UsageError, nearest

CHECKPOINT = "checkpoint.pt"
"""The file in a run's folder."""


def trained(source: str, images: Images, data: Path) -> nn.Module:
    """A trained float network: a pretrained one by its name, or that of a float run by its folder.

    Raises UsageError or CheckpointError where it is none, or was made for other images.
    """
    if source in PRETRAINED:
        return pretrained(source, images, data)
    path = Path(source) / CHECKPOINT
    if not path.exists():
        remedy = nearest(source, PRETRAINED) or f"give one of {', '.join(PRETRAINED)}, or the folder of a float run"
        raise UsageError(f"{source} is no trained network", [Offence(f"there is no {path}", remedy=remedy)])
    state = read_checkpoint(path)
    if state["settings"]["method"] != FLOAT:
        raise UsageError(f"{source} is the run of a binary network", [Offence("a float one is needed: --float")])
    net = build(state["settings"]["network"], images, state["settings"]["width"])
    try:
        net.load_state_dict({**state["net"], **state["average"].get("mean", {})})
    except RuntimeError as error:
        raise UsageError(f"{source} was trained for other images", [Offence(str(error))]) from error
    return net


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """What a run of this script has saved. Raises CheckpointError for anything else."""
    state = fl.load_checkpoint(path)
    parts = {"settings", "step", "program", "net", "optimizer", "average", "history"}
    if state.keys() != parts or state["settings"].get("network") not in NETWORKS:
        raise CheckpointError(f"{path} is not the checkpoint of a run of this script")
    return state


def copy_weights(source: nn.Module, model: nn.Module, name: str) -> None:
    """Start a model from the weights of another of the same shapes. Raises UsageError for any other."""
    try:
        model.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise UsageError(f"{name} is another network than the one to train", [Offence(str(error))]) from error
