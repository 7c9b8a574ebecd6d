"""What forward may return."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner, tokens


class Scored(NamedTuple):
    """Logits and the features they come from."""

    logits: Tensor
    features: Tensor


@dataclass
class Detected:
    """Boxes and scores, with a loss where there were labels."""

    boxes: Tensor
    scores: Tensor
    loss: Tensor | None = None


class ModelResult(OrderedDict[str, Tensor]):
    """A dictionary whose entries are attributes too."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class Trail:
    """A custom object with tensors inside, which no tree library opens."""

    def __init__(self, states: list[Tensor]) -> None:
        self.states = states

    @property
    def last(self) -> Tensor:
        return self.states[-1]


class TwoHeads(nn.Module):
    """A body with two heads, for the models below."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 16)
        self.box = nn.Linear(16, 4)
        self.score = nn.Linear(16, 3)


class DictOutput(TwoHeads):
    """A dictionary of tensors, one of them nested."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = torch.relu(self.body(x))
        return {"boxes": self.box(x), "scores": self.score(x), "features": {"last": x}}


class NamedTupleOutput(TwoHeads):
    """A named tuple."""

    def forward(self, x: Tensor) -> Scored:
        x = torch.relu(self.body(x))
        return Scored(logits=self.score(x), features=x)


class DataclassOutput(TwoHeads):
    """A dataclass that no tree library knows, with a field that stays None."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Detected:
        x = torch.relu(self.body(x))
        scores = self.score(x)
        loss = F.cross_entropy(scores, labels) if labels is not None else None
        return Detected(self.box(x), scores, loss)


class DataclassBetweenModules(nn.Module):
    """A dataclass goes from one submodule to the next; the root returns a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.detect = DataclassOutput()
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        found = self.detect(x)
        return self.head(torch.cat([found.boxes, found.scores], dim=-1))


class OrderedDictOutput(TwoHeads):
    """A subclass of OrderedDict with attribute access, as model libraries return."""

    def forward(self, x: Tensor) -> ModelResult:
        x = torch.relu(self.body(x))
        return ModelResult(boxes=self.box(x), scores=self.score(x))


class CustomObjectOutput(nn.Module):
    """An object of the user's own class."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Linear(12, 12) for _ in range(3))

    def forward(self, x: Tensor) -> Trail:
        states = [x]
        for step in self.steps:
            states.append(torch.tanh(step(states[-1])))
        return Trail(states)


class NoneOutput(TwoHeads):
    """A tuple in which some places are None."""

    def forward(self, x: Tensor, with_boxes: bool = False) -> tuple[Tensor, Tensor | None, None]:
        x = torch.relu(self.body(x))
        return self.score(x), self.box(x) if with_boxes else None, None


class NestedOutput(TwoHeads):
    """Lists in tuples in lists."""

    def forward(self, x: Tensor) -> list[Any]:
        x = torch.relu(self.body(x))
        return [(self.box(x), [self.score(x), x]), ()]


class SizesInOutput(TwoHeads):
    """Numbers beside tensors: a size, a constant, a string."""

    def forward(self, x: Tensor) -> tuple[Tensor, int, float, str]:
        y = self.score(torch.relu(self.body(x)))
        return y, x.size(1), 0.5, "scores"


class SameTensorTwice(TwoHeads):
    """One tensor at two places of the output, and a view of it."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.score(torch.relu(self.body(x)))
        return y, y, y[:, :1]


class InputReturned(TwoHeads):
    """The input comes back as it is beside the result."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.score(torch.relu(self.body(x)))


class ParameterReturned(nn.Module):
    """A parameter and a value that depends on parameters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.body(x) * self.scale.exp(), self.scale, self.body.weight.square().sum()


class LossInside(nn.Module):
    """The labels are an argument and the loss is the output, alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.head(torch.relu(self.body(x))), labels, label_smoothing=0.1)


class LossOnlyWithLabels(nn.Module):
    """A tuple with the loss first while training, the logits alone otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.head = nn.Linear(16, 20)

    def forward(self, numbers: Tensor, labels: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        logits = self.head(self.embed(numbers))
        if self.training and labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
            return loss, logits
        return logits


ENTRIES = [
    corner(DictOutput, (2, 12)),
    corner(NamedTupleOutput, (2, 12)),
    corner(DataclassOutput, (2, 12), labels=lambda: torch.randint(3, (2,))),
    corner(DataclassBetweenModules, (2, 12)),
    corner(OrderedDictOutput, (2, 12)),
    corner(CustomObjectOutput, (2, 12)),
    corner(NoneOutput, (2, 12)),
    corner(NestedOutput, (2, 12)),
    corner(SizesInOutput, (2, 12)),
    corner(SameTensorTwice, (2, 12)),
    corner(InputReturned, (2, 12)),
    corner(ParameterReturned, (2, 12)),
    corner(LossInside, (2, 12), lambda: torch.randint(3, (2,))),
    corner(LossOnlyWithLabels, tokens(2, 5), labels=tokens(2, 5)),
]
