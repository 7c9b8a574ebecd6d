"""What is compared: networks in rows, methods in columns. A study is a table, and a panel of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

METHODS: Mapping[str, Mapping[str, Any]] = {
    "vanilla STE": {
        "progression.order": "global", "progression.curve": {"kind": "instant"}, "progression.warmup": 0,
        "progression.tail": 0, "gradient.frozen": "identity",
    },
    "clipped STE": {
        "progression.order": "global", "progression.curve": {"kind": "instant"}, "progression.warmup": 0,
        "progression.tail": 0, "gradient.frozen": "clipped",
    },
    "forward": {},
    "reverse": {"progression.order": "reverse"},
    "global": {"progression.order": "global"},
    "forward + identity": {"gradient.frozen": "identity"},
    "forward + clipped": {"gradient.frozen": "clipped"},
    "forward + polynomial": {"gradient.frozen": "polynomial"},
    "forward + tanh": {
        "gradient.frozen": {
            "kind": "tanh",
            "sharpness": {"start": 0.1, "stop": 10, "curve": {"kind": "power", "exponent": 2}},
        },
    },
    "forward + reste": {
        "gradient.frozen": {"kind": "reste", "sharpness": {"start": 1, "stop": 3, "curve": {"kind": "linear"}}},
    },
    "BWN, forward": {"binarize.activations": False},
    "BWN, reverse": {"binarize.activations": False, "progression.order": "reverse"},
    "BWN, global": {"binarize.activations": False, "progression.order": "global"},
    "linear": {"progression.curve": {"kind": "linear"}},
    "quadratic": {"progression.curve": {"kind": "power", "exponent": 2}},
    "flipped quadratic": {"progression.curve": {"kind": "flipped_power", "exponent": 2}},
    "cosine": {"progression.curve": {"kind": "cosine"}},
    "refresh 1/5": {"progression.refresh": {"rate": 5}},
    "refresh 1/100": {"progression.refresh": {"rate": 100}},
    "refresh 1/1000": {"progression.refresh": {"rate": 1000}},
    "no refresh": {"progression.refresh": {"rate": "none"}},
}  # fmt: skip
"""What each method changes in the spec of StoMPP, STE-free: forward order, cubic."""


@dataclass(frozen=True)
class Study:
    """One question, the methods that answer it, and the networks that they are tried on: on digits, and on CIFAR."""

    question: str
    methods: tuple[str, ...]
    digits: tuple[str, ...]
    cifar: tuple[str, ...]

    def networks(self, data: str) -> tuple[str, ...]:
        return self.digits if data == "digits" else self.cifar


STUDIES: Mapping[str, Study] = {
    "order": Study(
        "In which order should sites turn?",
        ("vanilla STE", "clipped STE", "forward", "global", "reverse", "forward + clipped"),
        ("plain-16", "residual-16"), ("resnet18", "resnet50"),
    ),
    "bwn": Study(
        "Does the order matter to weights alone?",
        ("BWN, forward", "BWN, global", "BWN, reverse"),
        ("plain-16", "residual-16"), ("resnet18", "resnet50"),
    ),
    "depth": Study(
        "Does the gain grow with depth?",
        ("vanilla STE", "clipped STE", "forward", "forward + clipped"),
        ("plain-8", "plain-16", "plain-32", "residual-8", "residual-16", "residual-32"),
        ("resnet18", "resnet34", "resnet50"),
    ),
    "regime": Study(
        "Which gradient should a frozen entry get?",
        ("forward", "forward + identity", "forward + clipped", "forward + polynomial", "forward + tanh",
         "forward + reste"),
        ("plain-16", "residual-16"), ("resnet18", "resnet50"),
    ),
    "shape": Study(
        "Along which curve?",
        ("forward", "linear", "quadratic", "flipped quadratic", "cosine"),
        ("plain-16",), ("resnet18",),
    ),
    "refresh": Study(
        "How fast a refresh?",
        ("forward", "refresh 1/5", "refresh 1/100", "refresh 1/1000", "no refresh"),
        ("plain-16",), ("resnet18",),
    ),
}  # fmt: skip
