"""Every spelling of a product with a weight."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner, tokens


class FunctionalLinear(nn.Module):
    """F.linear with parameters of the root."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 12))
        self.bias = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Addmm(nn.Module):
    """addmm with the weight in the layout of GPT-2, and a batch reshaped around it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 8))
        self.bias = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return y.view(*x.size()[:-1], self.weight.size(1))


class WeightOnTheRight(nn.Module):
    """x @ w, torch.matmul and Tensor.mm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Parameter(torch.randn(12, 12)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(x @ self.first)
        x = torch.tanh(torch.matmul(x, self.second))
        return x.mm(self.third.t())


class WeightOnTheLeft(nn.Module):
    """w @ x mixes tokens (MLP-Mixer)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(7, 5))
        self.channels = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.channels(torch.relu(self.mix @ x))


class Einsum(nn.Module):
    """einsum with one weight, and with a weight of heads."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Parameter(torch.randn(12, 4, 3))
        self.merge = nn.Parameter(torch.randn(4, 3, 12))

    def forward(self, x: Tensor) -> Tensor:
        heads = torch.einsum("b t d, d h k -> b h t k", x, self.project)
        return torch.einsum("bhtk,hkd->btd", heads.relu(), self.merge)


class BmmExpanded(nn.Module):
    """bmm and baddbmm with a weight expanded to the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 8))
        self.bias = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.expand(x.size(0), -1, -1)
        return torch.bmm(x, weight) + torch.baddbmm(self.bias, x, weight, beta=0.5)


class Tensordot(nn.Module):
    """tensordot over two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensordot(x, self.weight, dims=2)


class Bilinear(nn.Module):
    """A product of two inputs and a weight, by module and by einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(12, 6, 8)
        self.weight = nn.Parameter(torch.randn(8, 12, 6))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.bilinear(left, right) + torch.einsum("bi,oij,bj->bo", left, self.weight, right)


class SumOfProducts(nn.Module):
    """A linear layer written as a broadcast product and a sum: no matrix product is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 12))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x.unsqueeze(1) * self.weight).sum(-1).relu())


class GroupedLinear(nn.Module):
    """Each group of channels has its own matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, 5))

    def forward(self, x: Tensor) -> Tensor:
        groups = x.view(x.size(0), 3, 4).transpose(0, 1)
        return torch.matmul(groups, self.weight).transpose(0, 1).flatten(1)


class EmbeddingBags(nn.Module):
    """Bags of tokens in one row, with offsets: the first size is not the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(20, 12, mode="mean")
        self.head = nn.Linear(12, 4)

    def forward(self, numbers: Tensor, offsets: Tensor) -> Tensor:
        return self.head(self.bag(numbers, offsets))


class EmbeddingByOneHot(nn.Module):
    """An embedding written as a product with one-hot rows."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(20, 12))
        self.head = nn.Linear(12, 4)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.head(F.one_hot(numbers, 20).to(self.table.dtype) @ self.table)


class LearnedQueries(nn.Module):
    """A parameter is an activation: it is expanded to the batch and goes through sites."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, 3, 8))
        self.to_query = nn.Linear(8, 8)
        self.to_key = nn.Linear(12, 8)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        queries = self.to_query(self.queries).expand(x.size(0), -1, -1)
        scores = queries @ self.to_key(x).mT / 8**0.5
        return self.head(scores.softmax(-1) @ x)


class ClassToken(nn.Module):
    """A learned token stands before the patches, with learned positions on all."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 12))
        self.positions = nn.Parameter(torch.randn(1, 17, 12))
        self.head = nn.Linear(12, 4)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        return self.head(x[:, 0])


class CosineClassifier(nn.Module):
    """Input and weight are normalised before their product."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.classes = nn.Parameter(torch.randn(5, 8))
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        x = F.normalize(self.body(x), dim=-1)
        return self.log_scale.exp() * F.linear(x, F.normalize(self.classes, dim=-1))


class Distances(nn.Module):
    """Prototypes are compared by distance: a weight in cdist."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.prototypes = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(self.body(x), self.prototypes)


ENTRIES = [
    corner(FunctionalLinear, (2, 12)),
    corner(Addmm, (2, 5, 12)),
    corner(WeightOnTheRight, (2, 12)),
    corner(WeightOnTheLeft, (2, 5, 12)),
    corner(Einsum, (2, 5, 12)),
    corner(BmmExpanded, (2, 5, 12)),
    corner(Tensordot, (2, 4, 5)),
    corner(Bilinear, (2, 12), (2, 6)),
    corner(SumOfProducts, (2, 12)),
    corner(GroupedLinear, (2, 12)),
    corner(EmbeddingBags, tokens(7), offsets=lambda: torch.tensor([0, 4])),
    corner(EmbeddingByOneHot, tokens(2, 5)),
    corner(LearnedQueries, (2, 5, 12)),
    corner(ClassToken, (2, 3, 16, 16)),
    corner(CosineClassifier, (2, 12)),
    corner(Distances, (2, 12)),
]
