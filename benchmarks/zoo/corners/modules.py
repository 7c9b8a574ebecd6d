"""How modules are held, shared, named, made and called."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner


class CalledTwice(nn.Module):
    """One module at two depths."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.body(x))
        x = torch.relu(self.body(x))
        return self.head(x)


class Aliased(nn.Module):
    """One submodule under two names, and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(12, 12)
        self.backbone = self.encoder
        self.stages = nn.ModuleList([self.encoder, nn.Linear(12, 12)])

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = torch.relu(stage(x))
        return self.backbone(x)


class TiedToEmbedding(nn.Module):
    """The last linear layer holds the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.body = nn.Linear(12, 12)
        self.head = nn.Linear(12, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, numbers: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(self.embed(numbers))))


class TiedTransposed(nn.Module):
    """An autoencoder whose decoder is the encoder's weight turned over."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(12, 8)
        self.bias = nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.relu(self.encode(x)), self.encode.weight.t(), self.bias)


class UnusedParameters(nn.Module):
    """Parameters and a submodule that forward does not touch, yet the checkpoint has."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.projector = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.token = nn.Parameter(torch.zeros(1, 12))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class HiddenInList(nn.Module):
    """A frozen teacher in a plain list: it runs, but its weights are not among the model's."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Linear(12, 8)
        self.teacher = [nn.Linear(12, 8).requires_grad_(False)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.student(x), self.teacher[0](x)


class MadeInForward(nn.Module):
    """Modules without weights are made on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.ReLU()(self.conv(x))
        x = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())(x)
        return nn.LogSoftmax(dim=1)(self.head(x))


class AwkwardNames(nn.Module):
    """Submodules and parameters with names that a generated module may want for itself."""

    y: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Linear(12, 12)
        self.graph = nn.Linear(12, 12)
        self.forward_ = nn.Linear(12, 12)
        self.input = nn.Linear(12, 12)
        self.output = nn.Linear(12, 12)
        self.x = nn.Parameter(torch.ones(12))
        self.register_buffer("y", torch.ones(12))

    def forward(self, x: Tensor) -> Tensor:
        for body in (self.code, self.graph, self.forward_, self.input, self.output):
            x = torch.relu(body(x))
        return x * self.x + self.y


class NamesThatMeet(nn.Module):
    """Different paths that are equal once dots become underscores."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Module()
        self.block.conv_1 = nn.Linear(12, 12)
        self.block_conv = nn.ModuleDict({"1": nn.Linear(12, 12)})
        self.block_conv_1 = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.block.get_submodule("conv_1")(x))
        return self.block_conv_1(torch.relu(self.block_conv["1"](x)))


class MethodOfSubmodule(nn.Module):
    """Methods other than forward are called, and forward itself without __call__."""

    def __init__(self) -> None:
        super().__init__()
        self.coder = Autoencoder()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        code = self.coder.encode(x)
        return self.head.forward(code) + self.coder.decode(code).mean(-1, keepdim=True)


class Autoencoder(nn.Module):
    """An encoder and a decoder with a method for each."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(12, 8)
        self.decoder = nn.Linear(8, 12)

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu(self.encoder(x))

    def decode(self, code: Tensor) -> Tensor:
        return self.decoder(code)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class CallsSuper(Autoencoder):
    """forward wraps the forward of the class above."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.scale(x)) + x


class Delegates(nn.Module):
    """A wrapper that looks missing attributes up in the model inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Autoencoder()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class FunctionsAsAttributes(nn.Module):
    """A partial, a lambda and a plain function stored on the module."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.norm = partial(F.layer_norm, normalized_shape=(8,), eps=1e-6)
        self.activation = lambda x: x * torch.sigmoid(1.7 * x)
        self.pool = torch.amax

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.activation(self.norm(self.body(x))), 1)


class Observed(nn.Linear):
    """A linear layer with room for its last output."""

    features: Tensor


def keep_features(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """A forward hook that stores the output on the module."""
    module.features = output


class ForwardHooks(nn.Module):
    """Hooks change an input and an output, and leave features on the modules, which forward reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Observed(12, 12)
        self.second = Observed(12, 12)
        self.head = nn.Linear(24, 4)
        self.first.register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],))
        self.first.register_forward_hook(lambda _, inputs, output: output + inputs[0])
        for block in (self.first, self.second):
            block.register_forward_hook(keep_features)

    def forward(self, x: Tensor) -> Tensor:
        self.second(torch.relu(self.first(x)))
        return self.head(torch.cat([self.first.features, self.second.features], dim=-1))


class ParametersInContainers(nn.Module):
    """ParameterList and ParameterDict, by number and by name."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(12, 12) for _ in range(2)])
        self.heads = nn.ParameterDict({"left": torch.randn(4, 12), "right": torch.randn(4, 12)})

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = torch.tanh(F.linear(x, weight))
        return F.linear(x, self.heads["left"]) + F.linear(x, self.heads["right"])


class ChosenFromModuleDict(nn.Module):
    """Submodules chosen by a name, by a number and by a slice."""

    def __init__(self) -> None:
        super().__init__()
        self.activations = nn.ModuleDict({"relu": nn.ReLU(), "prelu": nn.PReLU()})
        self.blocks = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 4))

    def forward(self, x: Tensor, activation: str = "prelu") -> Tensor:
        x = self.blocks[:2](x)
        return self.blocks[-1](self.activations[activation](x))


class WithoutWeights(nn.Module):
    """No parameter anywhere, thus no site."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2).flatten(1).cumsum(1)


ENTRIES = [
    corner(CalledTwice, (2, 12)),
    corner(Aliased, (2, 12)),
    corner(TiedToEmbedding, lambda: torch.randint(20, (2, 5))),
    corner(TiedTransposed, (2, 12)),
    corner(UnusedParameters, (2, 12)),
    corner(HiddenInList, (2, 12)),
    corner(MadeInForward, (2, 3, 8, 8)),
    corner(AwkwardNames, (2, 12)),
    corner(NamesThatMeet, (2, 12)),
    corner(MethodOfSubmodule, (2, 12)),
    corner(CallsSuper, (2, 12)),
    corner(Delegates, (2, 12)),
    corner(FunctionsAsAttributes, (2, 5, 12)),
    corner(ForwardHooks, (2, 12)),
    corner(ParametersInContainers, (2, 12)),
    corner(ChosenFromModuleDict, (2, 12)),
    corner(WithoutWeights, (2, 3, 8, 8)),
]
