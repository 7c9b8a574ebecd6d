"""Models as binary files, as if they were trained: BatchNorm has seen some inputs, and its weights are random."""

from __future__ import annotations

import onnx
import torch
from torch import nn

import frostline as fl
from tests.models.small import spec


def lowered(model: nn.Module, shape: tuple[int, ...], keep: list[str], target: str = "portable") -> onnx.ModelProto:
    torch.manual_seed(0)
    program = fl.compile(model, spec(binarize__keep_float=keep), (torch.randn(2, *shape),), 9)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    program.net.train()
    program.net(torch.randn(16, *shape))
    program.driver.resume(9)
    return fl.lower(program.freeze(), target)
