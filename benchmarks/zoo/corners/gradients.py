"""The backward pass is not what the forward operations say."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from benchmarks.zoo.corners.corner import corner


class ReverseGradient(torch.autograd.Function):
    """The identity, whose gradient is negated and scaled (domain adaptation)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return -ctx.scale * gradients[0], None


class SignWithClippedGradient(torch.autograd.Function):
    """sign, whose gradient is let through where the input is within one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * (x.abs() <= 1)


class SwishWithLittleMemory(torch.autograd.Function):
    """swish, which saves its input alone (EfficientNet)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return gradients[0] * (gate * (1 + x * (1 - gate)))


class GradientReversal(nn.Module):
    """An autograd.Function whose backward is not the derivative of its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(12, 16)
        self.label = nn.Linear(16, 4)
        self.domain = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.features(x))
        return self.label(x), self.domain(ReverseGradient.apply(x, 0.3))


class StraightThroughFunction(nn.Module):
    """The weight passes through sign with a made-up gradient: the true one is zero everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 12))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, SignWithClippedGradient.apply(self.weight))


class StraightThroughDetach(nn.Module):
    """Rounds in the forward pass only, by adding a detached difference."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return x + (x.round() - x).detach()


class CustomActivation(nn.Module):
    """An autograd.Function on the activation between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return SwishWithLittleMemory.apply(self.second(SwishWithLittleMemory.apply(self.first(x))))


class CheckpointReentrant(nn.Module):
    """A block with dropout that is run again in the backward pass, the old way, while training."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(12, 16)
        self.block = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 16))

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        return checkpoint(self.block, x, use_reentrant=True) if self.training else self.block(x)


class CheckpointNonReentrant(nn.Module):
    """Every block is run again in the backward pass, while training only."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Dropout(0.2)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + (
                checkpoint(block, x, use_reentrant=False) if self.training and torch.is_grad_enabled() else block(x)
            )
        return x


class CheckpointSequential(nn.Module):
    """A sequence in checkpointed segments."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[nn.Sequential(nn.Linear(12, 12), nn.ReLU()) for _ in range(4)])

    def forward(self, x: Tensor) -> Any:
        return checkpoint_sequential(self.blocks, 2, x, use_reentrant=False)


class NoGradRegion(nn.Module):
    """The backbone runs without gradients inside a forward that has them."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.backbone(x)
        return self.head(x.mean((2, 3)))


class NoGradMethod(nn.Module):
    """A method is decorated with no_grad (contrastive learning's key encoder)."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(12, 8)
        self.key = nn.Linear(12, 8)

    @torch.no_grad()
    def keys(self, x: Tensor) -> Tensor:
        for ours, theirs in zip(self.key.parameters(), self.query.parameters(), strict=True):
            ours.mul_(0.9).add_(theirs, alpha=0.1)
        return F.normalize(self.key(x), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.query(x), dim=-1) @ self.keys(x).T


class GradEnabledAgain(nn.Module):
    """set_grad_enabled with a value, and enable_grad inside no_grad."""

    def __init__(self, tune: bool = False) -> None:
        super().__init__()
        self.tune = tune
        self.backbone = nn.Linear(12, 12)
        self.adapter = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.tune):
            x = self.backbone(x)
            with torch.enable_grad():
                x = x + self.adapter(x)
        return x


class StopsGradientOfTarget(nn.Module):
    """Two views through one encoder, one of them detached (SimSiam)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(12, 8)
        self.predictor = nn.Linear(8, 8)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return -F.cosine_similarity(self.predictor(self.encoder(x)), self.encoder(y).detach(), dim=-1)


class ScalesGradientByHook(nn.Module):
    """A hook on an intermediate tensor scales its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.body(x))
        if x.requires_grad:
            x.register_hook(lambda gradient: 0.1 * gradient)
        return self.head(x)


class ForceOfEnergy(nn.Module):
    """The output is a gradient, taken inside forward and differentiated again (molecular force fields)."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))

    @torch.enable_grad()
    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        positions = positions.detach().requires_grad_()
        energy = self.energy(positions).sum((1, 2))
        (slope,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
        return energy, -slope


class PerExampleByVmap(nn.Module):
    """vmap over the batch of a function of one example."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(lambda row: torch.softmax(self.body(row), dim=0))(x)


class EnsembleByVmap(nn.Module):
    """vmap over a stack of weights: one site holds several models."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8, 12))
        self.bias = nn.Parameter(torch.randn(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(F.linear, in_dims=(None, 0, 0), out_dims=1)(x, self.weight, self.bias).mean(1)


ENTRIES = [
    corner(GradientReversal, (2, 12)),
    corner(StraightThroughFunction, (2, 12)),
    corner(StraightThroughDetach, (2, 12)),
    corner(CustomActivation, (2, 3, 8, 8)),
    corner(CheckpointReentrant, (2, 12)),
    corner(CheckpointNonReentrant, (2, 12)),
    corner(CheckpointSequential, (2, 12)),
    corner(NoGradRegion, (2, 3, 8, 8)),
    corner(NoGradMethod, (2, 12)),
    corner(GradEnabledAgain, (2, 12)),
    corner(StopsGradientOfTarget, (2, 12), (2, 12)),
    corner(ScalesGradientByHook, (2, 12)),
    corner(ForceOfEnergy, (2, 5, 3)),
    corner(PerExampleByVmap, (2, 12)),
    corner(EnsembleByVmap, (2, 12)),
]
