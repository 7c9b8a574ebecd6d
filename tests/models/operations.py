"""Networks that hold every kind of operation, each between a float stem and a float head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations


class Convolutions(nn.Module):
    """Convolutions of every kind in a row: `[n, 3, 9, 9]` to `[n, 4]`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.depthwise = nn.Conv2d(6, 6, 3, padding="same", groups=6, dilation=2)
        self.grouped = nn.Conv2d(6, 8, (3, 1), stride=(2, 1), padding=(1, 0), groups=2, bias=False)
        self.circular = nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular")
        self.larger = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.line = nn.Conv1d(4, 33, 3, padding="valid")
        self.longer = nn.ConvTranspose1d(33, 5, 3, dilation=2, bias=False)
        self.volume = nn.Conv3d(5, 3, (1, 2, 2), padding=(0, 1, 0))
        self.deeper = nn.ConvTranspose3d(3, 4, 2)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.grouped(torch.tanh(self.depthwise(torch.tanh(self.stem(x))))))
        x = torch.tanh(self.larger(torch.tanh(self.circular(x)))).flatten(2)
        x = torch.tanh(self.longer(torch.tanh(self.line(x))))[..., :24].unflatten(2, (2, 3, 4))
        return self.head(torch.tanh(self.deeper(torch.tanh(self.volume(x)))).mean((2, 3, 4)))


class Products(nn.Module):
    """Products of matrices of every spelling: `[n, 4, 6]` to `[n, 4, 3]`. Seven read one parameter, as four views."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
        self.w = nn.Parameter(torch.randn(6, 6))
        self.bias = nn.Parameter(torch.randn(6))
        self.heads = nn.Parameter(torch.randn(6, 2, 3))
        self.tokens = nn.Parameter(torch.randn(4, 6, 6))
        self.in_proj_weight = nn.Parameter(torch.randn(18, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        x = torch.tanh(x @ self.w)
        x = torch.tanh(x.matmul(self.w.T))
        x = torch.tanh((self.w @ x.mT).mT)
        x = torch.tanh(torch.addmm(self.bias, x.flatten(0, 1), self.w, alpha=2.0)).view_as(x)
        x = torch.tanh(torch.einsum("btc,chd->bthd", x, self.heads)).flatten(2)
        x = torch.tanh(torch.einsum("oi,bti->bto", [self.w.flip(0), x]))
        parts = self.in_proj_weight.chunk(3)
        q, k, v = (functional.linear(x, parts[index], self.bias) for index in range(3))
        x = torch.tanh(torch.softmax(q @ k.mT, -1) @ v)
        x = torch.tanh(torch.bmm(x, self.w.expand(x.shape[0], -1, -1)))
        x = torch.tanh(torch.baddbmm(self.bias, x, self.w.expand(x.shape[0], -1, -1)))
        x = torch.tanh(torch.matmul(x.unsqueeze(1), self.tokens).mean(1))
        x = torch.tanh(torch.einsum("bti,tio->bto", x, self.tokens))
        return self.head(x)


class Standardised(nn.Conv2d):
    """Weight standardisation, as networks without batch norm have it."""

    def forward(self, x: Tensor) -> Tensor:
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return functional.conv2d(x, (self.weight - mean) / (std + 1e-5), self.bias, padding=1)


class Computed(nn.Module):
    """Weights that are computed from parameters, and a learned query: `[n, 3, 6, 6]` to `[n, 5]`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.standard = Standardised(6, 6, 3)
        self.norm = parametrizations.weight_norm(nn.Conv2d(6, 6, 3, padding=1))
        self.sums = nn.ParameterList([torch.randn(6, 6) for _ in range(2)])
        self.query = nn.Parameter(torch.randn(1, 6))
        self.ask = nn.Linear(6, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.standard(torch.tanh(self.stem(x))))
        x = torch.tanh(self.norm(torch.tanh(self.norm(x)))).mean((2, 3))
        x = torch.tanh(x @ (self.sums[0] + self.sums[1]).t())
        return self.head(x * torch.tanh(self.ask(self.query)))


class Experts(nn.Module):
    """A mixture of three experts, of which every row asks two: `[n, 6]` to `[n, 4]`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.router, self.head = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 4)
        self.experts = nn.Parameter(torch.randn(3, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        scores, chosen = self.router(x).softmax(-1).topk(2)
        expert, order = torch.sort(chosen.flatten())
        ends = torch.histc(expert.float(), 3, 0, 2).cumsum(0).to(torch.int32)
        rows = x[order // 2] * scores.flatten()[order].unsqueeze(1)
        answers = torch.tanh(functional.grouped_mm(rows, self.experts.mT, offs=ends))
        return self.head(answers[torch.argsort(order)].view(-1, 2, 8).sum(1))
