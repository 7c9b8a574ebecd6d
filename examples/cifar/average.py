"""The average of the weights over the steps of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """The exponential moving average of all that is float in a net: parameters, and the statistics of BatchNorm.

    Its decay is smaller at first, (1 + n) / (10 + n) after n updates, so that the start is soon forgotten.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._live = {name: value for name, value in net.state_dict().items() if value.is_floating_point()}
        self._mean = {name: value.clone() for name, value in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the net's values."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        get_ema_multi_avg_fn(decay)(list(self._mean.values()), list(self._live.values()), self.updates)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the net has the averaged values. Do not train it there."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, value in self._live.items():
            kept = value.clone()
            value.copy_(self._mean[name])
            self._mean[name].copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "mean": self._mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = state["updates"]
        mean: Mapping[str, Tensor] = state["mean"]
        for name, value in self._mean.items():
            value.copy_(mean[name])
