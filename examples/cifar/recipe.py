"""How a network is trained: the settings, the rate, and the optimizer."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from hashlib import blake2b
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from examples.cifar import rows
from frostline.errors import Offence, UsageError

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """All that decides a run's result. Every field but the first three is a flag of `run`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    network: str
    method: str
    seed: int = Field(0, ge=0, lt=2**63, description="Of the weights, the batches, and the masks.")
    epochs: Positive = Field(200, description="The budget; the plan's shares are shares of it.")
    fraction: float = Field(1, gt=0, le=1, description="The first share of every class of the training set.")
    width: float = Field(1, gt=0, le=8, description="Multiplies the channels of the network.")
    size: int | None = Field(None, ge=8, le=1024, description="Pixels a side, for photographs.")
    batch: Positive = Field(256, description="Images in a batch; the last, smaller one of an epoch is left out.")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd or adamw.")
    lr: NotNegative = Field(0.1, description="The highest learning rate.")
    rate: Literal["constant", "cosine", "one-cycle"] = Field("constant", description="constant, cosine or one-cycle.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Of SGD.")
    nesterov: bool = Field(False, description="Nesterov's momentum.")
    weight_decay: NotNegative = Field(0, description="For all but the latent weights under a mask.")
    decay_latent: bool = Field(False, description="Weight decay for the latent weights too.")
    clip: NotNegative = Field(0, description="The largest norm of all gradients; 0 lets them be.")
    smoothing: float = Field(0, ge=0, lt=1, description="Label smoothing.")
    ema: float = Field(0, ge=0, lt=1, description="Decay of the weights' average, which is then what is measured.")
    cutout: int = Field(0, ge=0, description="Pixels a side of a hole in every training image.")
    start: str | None = Field(None, description="Start from resnet20 or resnet56, pretrained, or from a float run.")
    teacher: str | None = Field(None, description="Learn from resnet20 or resnet56, pretrained, or from a float run.")
    teacher_share: Share = Field(1, description="The teacher's share of the loss; the labels have the rest.")
    temperature: float = Field(1, gt=0, le=100, description="Of both distributions in the teacher's loss.")
    measure_every: Positive = Field(1, description="Measure after so many epochs, and after the last.")
    bf16: bool | None = Field(None, description="Train in bfloat16; by default on a GPU.")
    compiled: bool | None = Field(None, description="Train under torch.compile; by default on a GPU.")

    def on(self, device: torch.device) -> Settings:
        """The same settings with what depends on the device decided."""
        gpu = device.type == "cuda"
        bf16, compiled = (gpu if value is None else value for value in (self.bf16, self.compiled))
        return self.model_copy(update={"bf16": bf16, "compiled": compiled})

    @property
    def row(self) -> str:
        return f"{self.dataset}-{self.network}-{self.method}"

    @property
    def digest(self) -> str:
        """The same for the same settings only: it names a run's folder."""
        return blake2b(self.model_dump_json().encode(), digest_size=4).hexdigest()


def settings_of(row: str, changes: Mapping[str, Any]) -> Settings:
    """The settings of a row with some changed. Raises UsageError, with every impossible value."""
    try:
        return Settings(**{**rows.row(row), **changes})
    except ValidationError as error:
        faults = [f"--{str(one['loc'][0]).replace('_', '-')} {one['input']}: {one['msg']}" for one in error.errors()]
        raise UsageError("these settings cannot be", map(Offence, faults)) from error


def rate_at(kind: str, progress: float) -> float:
    """The learning rate as a share of the highest, at a progress from 0 to 1 through the budget.

    `one-cycle` rises from 1/25 in the first three tenths and falls to 0 (Smith and Topin, arXiv 1708.07120).

    >>> rate_at("constant", 0.5), rate_at("cosine", 0.5), rate_at("one-cycle", 0.3)
    (1.0, 0.5, 1.0)
    """
    if kind == "constant":
        return 1.0
    if kind == "one-cycle":
        if progress < 0.3:
            return 0.04 + 0.96 * _fallen(1 - progress / 0.3)
        progress = (progress - 0.3) / 0.7
    return _fallen(progress)


def _fallen(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def optimizer_of(net: nn.Module, latent: Container[str], settings: Settings) -> torch.optim.Optimizer:
    """SGD or AdamW over a net's parameters, with weight decay for those that are not named in `latent`.

    Those are latent weights under a mask: only their sign is used in the end, and decay would draw them to where it
    is decided by noise. `decay_latent` decays them all the same.
    """
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in net.named_parameters():
        groups[settings.decay_latent or name not in latent].append(parameter)
    parts: list[dict[str, Any]] = [
        {"params": members, "weight_decay": settings.weight_decay if decayed else 0.0}
        for decayed, members in groups.items()
        if members
    ]
    fused = next(net.parameters()).is_cuda
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parts, settings.lr, fused=fused)
    return torch.optim.SGD(parts, settings.lr, settings.momentum, nesterov=settings.nesterov, fused=fused)
