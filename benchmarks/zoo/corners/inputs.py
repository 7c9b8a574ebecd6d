"""What forward may be given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner, tokens


class Sentence(TypedDict):
    """Token numbers with their mask, as a tokenizer returns them."""

    numbers: Tensor
    mask: Tensor


class Pair(NamedTuple):
    """Two tensors by name."""

    left: Tensor
    right: Tensor


@dataclass
class Scene:
    """An image with the positions of its objects, as a plain dataclass."""

    image: Tensor
    positions: Tensor


class DictInput(nn.Module):
    """A dictionary of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.body = nn.Linear(12, 8)

    def forward(self, sentence: Sentence) -> Tensor:
        x = self.body(self.embed(sentence["numbers"]))
        mask = sentence["mask"].unsqueeze(-1)
        return (x * mask).sum(1) / mask.sum(1)


class NamedTupleInput(nn.Module):
    """A named tuple of tensors, read by name and by position."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(12, 8)
        self.right = nn.Linear(6, 8)

    def forward(self, pair: Pair) -> Tensor:
        return self.left(pair.left) + self.right(pair[1])


class DataclassInput(nn.Module):
    """A dataclass that no tree library knows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.place = nn.Linear(4, 8)

    def forward(self, scene: Scene) -> Tensor:
        return self.place(scene.positions) + self.conv(scene.image).mean((2, 3)).unsqueeze(1)


class NestedInput(nn.Module):
    """A dictionary that holds a list of tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(channels, 8, 1) for channels in (3, 5))

    def forward(self, inputs: dict[str, list[tuple[Tensor, float]]]) -> Tensor:
        parts = [conv(image).mean((2, 3)) * weight for conv, (image, weight) in zip(self.levels, inputs["levels"])]  # noqa: B905
        return torch.cat(parts, dim=1)


class ListInput(nn.Module):
    """As many feature maps as the list holds, each of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, 8, 1) for channels in (3, 4, 5))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [conv(each) for conv, each in zip(self.convs, maps, strict=True)]
        for level in range(len(maps) - 1, 0, -1):
            larger = nn.functional.interpolate(maps[level], size=maps[level - 1].shape[-2:], mode="nearest")
            maps[level - 1] = maps[level - 1] + larger
        return maps


class KeywordOnly(nn.Module):
    """Arguments that can be given by name alone, one of them left out."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor, *, scale: Tensor, shift: Tensor | None = None, power: int = 2) -> Tensor:
        x = self.body(x) * scale.unsqueeze(-1)
        return x**power if shift is None else x**power + shift


class KeywordsAlone(nn.Module):
    """No positional argument at all, and not in the order of the signature."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(12, 8)
        self.right = nn.Linear(6, 8)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.left(left) - self.right(right)


class AnyArguments(nn.Module):
    """*args of any number."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, *views: Tensor) -> Tensor:
        return torch.stack([self.body(view) for view in views]).mean(0)


class AnyKeywords(nn.Module):
    """**kwargs, which choose the submodules by name."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = nn.ModuleDict({"image": nn.Linear(12, 8), "text": nn.Linear(6, 8), "sound": nn.Linear(5, 8)})

    def forward(self, x: Tensor, **modalities: Tensor) -> Tensor:
        for name, each in modalities.items():
            x = x + self.towers[name](each)
        return torch.relu(x)


class PassesEverythingOn(nn.Module):
    """A wrapper that forwards *args and **kwargs to the model inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = KeywordOnly()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


class DefaultLeftOut(nn.Module):
    """Defaults of every plain type, none of them given: a number, a tuple, a flag, a string."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(
        self, x: Tensor, scale: float = 0.5, size: tuple[int, int] = (4, 4), pool: bool = True, mode: str = "bilinear"
    ) -> Tensor:
        x = nn.functional.interpolate(self.conv(x) * scale, size=size, mode=mode)
        return x.mean((2, 3)) if pool else x


class ScalarTensorInput(nn.Module):
    """A tensor without dimensions, which has no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor, temperature: Tensor) -> Tensor:
        return torch.softmax(self.body(x) / temperature, dim=-1)


class PythonNumberInput(nn.Module):
    """A float and an int of Python."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)

    def forward(self, x: Tensor, strength: float, repeats: int) -> Tensor:
        for _ in range(repeats):
            x = x + strength * torch.tanh(self.body(x))
        return x


class InputWithoutBatch(nn.Module):
    """One input is shared by the whole batch: its first size is not the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.label = nn.Linear(6, 8)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.body(x) @ self.label(labels).T


class InputsOfManyShapes(nn.Module):
    """An image, a sentence and a row of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 8, 4, stride=4)
        self.sentence = nn.EmbeddingBag(20, 8)
        self.row = nn.Linear(6, 8)
        self.head = nn.Linear(24, 4)

    def forward(self, image: Tensor, sentence: Tensor, row: Tensor) -> Tensor:
        image = self.image(image).amax((2, 3))
        return self.head(torch.cat((image, self.sentence(sentence), self.row(row)), 1))


class TimeFirst(nn.Module):
    """The batch is the second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.attention = nn.MultiheadAttention(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return x + self.attention(x, x, x, need_weights=False)[0]


class UnusedInput(nn.Module):
    """An input that the result does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.body(x)


ENTRIES = [
    corner(DictInput, lambda: {"numbers": tokens(2, 5)(), "mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])}),
    corner(NamedTupleInput, lambda: Pair(torch.randn(2, 12), torch.randn(2, 6))),
    corner(DataclassInput, lambda: Scene(torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4))),
    corner(NestedInput, lambda: {"levels": [(torch.randn(2, 3, 8, 8), 0.5), (torch.randn(2, 5, 4, 4), 2.0)]}),
    corner(ListInput, lambda: [torch.randn(2, channels, size, size) for channels, size in ((3, 16), (4, 8), (5, 4))]),
    corner(KeywordOnly, (2, 5, 12), scale=(2, 5)),
    corner(KeywordsAlone, right=(2, 6), left=(2, 12)),
    corner(AnyArguments, (2, 12), (2, 12), (2, 12)),
    corner(AnyKeywords, (2, 8), text=(2, 6), image=(2, 12)),
    corner(PassesEverythingOn, (2, 5, 12), scale=(2, 5), power=3),
    corner(DefaultLeftOut, (2, 3, 8, 8)),
    corner(ScalarTensorInput, (2, 12), lambda: torch.tensor(0.7)),
    corner(PythonNumberInput, (2, 12), 0.3, 3),
    corner(InputWithoutBatch, (2, 12), (7, 6)),
    corner(InputsOfManyShapes, (2, 3, 16, 16), tokens(2, 5), (2, 6)),
    corner(TimeFirst, (5, 2, 12)),
    corner(UnusedInput, (2, 12), tokens(2)),
]
