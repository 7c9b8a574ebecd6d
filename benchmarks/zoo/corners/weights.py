"""The weight that is used is not the parameter that is trained."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from benchmarks.zoo.corners.corner import corner


class Symmetric(nn.Module):
    """A square matrix made symmetric from its upper half."""

    def forward(self, matrix: Tensor) -> Tensor:
        return matrix.triu() + matrix.triu(1).transpose(-1, -2)


class StandardisedConv(nn.Conv2d):
    """A convolution whose weight has mean zero and variance one for each output channel."""

    def forward(self, input: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        deviation = self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(input, (self.weight - mean) / (deviation + 1e-5), self.bias)


class LowRankAdapted(nn.Linear):
    """A frozen linear layer with a trained update of low rank (LoRA)."""

    def __init__(self, inputs: int, outputs: int, rank: int = 3) -> None:
        super().__init__(inputs, outputs)
        self.down = nn.Parameter(torch.randn(rank, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.weight.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + F.linear(F.linear(input, self.down), self.up)


class WeightNormHook(nn.Module):
    """Weight normalisation by the old hook: direction and length are the parameters."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            self.conv = nn.utils.weight_norm(nn.Conv1d(3, 8, 3))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).mean(-1))


class WeightNormParametrized(nn.Module):
    """Weight normalisation by a parametrisation, along another dimension for the second layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = parametrizations.weight_norm(nn.Conv1d(3, 8, 3), dim=2)
        self.head = parametrizations.weight_norm(nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).mean(-1))


class SpectralNormHook(nn.Module):
    """Spectral normalisation by the old hook: a power iteration moves a buffer in every training step."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.spectral_norm(nn.Conv2d(3, 8, 3))
        self.head = nn.utils.spectral_norm(nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


class SpectralNormParametrized(nn.Module):
    """Spectral normalisation by a parametrisation with state."""

    def __init__(self) -> None:
        super().__init__()
        self.body = parametrizations.spectral_norm(nn.Linear(12, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)))


class OrthogonalParametrized(nn.Module):
    """An orthogonal weight by the Cayley map, which solves a linear system."""

    def __init__(self) -> None:
        super().__init__()
        self.body = parametrizations.orthogonal(nn.Linear(8, 8), orthogonal_map="cayley")

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class OwnParametrization(nn.Module):
    """A parametrisation of the user's own, read twice under the cache."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 8)
        parametrize.register_parametrization(self.body, "weight", Symmetric())

    def forward(self, x: Tensor) -> Tensor:
        with parametrize.cached():
            return self.body(torch.relu(self.body(x)))


class Pruned(nn.Module):
    """Pruning: a hook multiplies the weight by a mask in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.head = nn.Linear(8, 4)
        prune.l1_unstructured(self.body, "weight", amount=0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)))


class WeightStandardised(nn.Module):
    """A convolution class of the user's own that changes its weight before use."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(StandardisedConv(3, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), StandardisedConv(8, 8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class LowRankAdapters(nn.Module):
    """Frozen weights beside trained ones in the same layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = LowRankAdapted(12, 12)
        self.head = LowRankAdapted(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)))


class WeightFromProperty(nn.Module):
    """A property computes the weight from two factors."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(8, 3))
        self.right = nn.Parameter(torch.randn(3, 12))

    @property
    def weight(self) -> Tensor:
        return self.left @ self.right

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class WeightScaledByGain(nn.Module):
    """Equalised learning rate: the weight times a constant and a learned gain (StyleGAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3))
        self.gain = nn.Parameter(torch.ones(8, 1, 1, 1))
        self.scale = 1 / (3 * 3 * 3) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * (self.gain * self.scale), padding=1)


class WeightsConcatenated(nn.Module):
    """Three weights are joined for one multiplication and its result is cut again."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(12, 8, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.cat([self.query.weight, self.key.weight, self.value.weight])
        query, key, value = F.linear(x, weight).split(8, dim=-1)
        return F.scaled_dot_product_attention(query, key, value)


class WeightSliced(nn.Module):
    """A slimmable layer uses the first part of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor, width: int = 8) -> Tensor:
        x = F.linear(x, self.body.weight[:width], self.body.bias[:width])
        return F.linear(torch.relu(x), self.head.weight[:, :width], self.head.bias)


class WeightMasked(nn.Module):
    """An autoregressive layer: a fixed triangle of the weight is zero (MADE)."""

    triangle: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)
        self.register_buffer("triangle", torch.ones(12, 12).tril(-1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.body.weight * self.triangle, self.body.bias)


class Hypernetwork(nn.Module):
    """The weight is computed from the input: the product with it is no site, those that make it are."""

    def __init__(self) -> None:
        super().__init__()
        self.make_weight = nn.Linear(6, 8 * 12)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        weight = self.make_weight(task).view(-1, 8, 12)
        return self.head(torch.relu(torch.bmm(weight, x.unsqueeze(-1)).squeeze(-1)))


class MixedExperts(nn.Module):
    """The weight is a mixture of learned kernels with coefficients from the input (conditional convolution)."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.Parameter(torch.randn(4, 8, 3, 3, 3))
        self.route = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        route = torch.sigmoid(self.route(x.mean((2, 3))))
        kernels = torch.einsum("be,eoihw->boihw", route, self.kernels).reshape(-1, channels, 3, 3)
        y = F.conv2d(x.reshape(1, batch * channels, height, width), kernels, padding=1, groups=batch)
        return y.view(batch, -1, height, width)


ENTRIES = [
    corner(WeightNormHook, (2, 3, 10)),
    corner(WeightNormParametrized, (2, 3, 10)),
    corner(SpectralNormHook, (2, 3, 8, 8)),
    corner(SpectralNormParametrized, (2, 12)),
    corner(OrthogonalParametrized, (2, 8)),
    corner(OwnParametrization, (2, 8)),
    corner(Pruned, (2, 12)),
    corner(WeightStandardised, (2, 3, 8, 8)),
    corner(LowRankAdapters, (2, 12)),
    corner(WeightFromProperty, (2, 12)),
    corner(WeightScaledByGain, (2, 3, 8, 8)),
    corner(WeightsConcatenated, (2, 5, 12)),
    corner(WeightSliced, (2, 12)),
    corner(WeightMasked, (2, 12)),
    corner(Hypernetwork, (2, 12), (2, 6)),
    corner(MixedExperts, (2, 3, 8, 8)),
]
