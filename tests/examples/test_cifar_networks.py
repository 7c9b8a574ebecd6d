from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from examples.cifar.networks.build import NETWORKS, Images, build, pretrained
from examples.cifar.networks.parts import Fit
from examples.cifar.networks.resnet import BasicBlock, Bottleneck
from frostline.errors import UsageError

SMALL = Images(10, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
WIDTH = 1 / 16

BINARY = {
    "resnet18": 16, "resnet18-bireal": 16, "resnet50-bireal": 48, "mobilenetv2": 51, "vgg7": 5, "resnet20": 18,
}  # fmt: skip
"""The binary convolutions of each kind of network: all but the first, and those in projection shortcuts."""


@pytest.mark.parametrize("name", BINARY)
def test_every_convolution_but_the_first_and_the_projections_turns_binary(name: str) -> None:
    net = build(name, SMALL, WIDTH)
    graph = fl.capture(net, (torch.rand(2, 3, 32, 32),))
    plan = fl.plan(fl.load_spec("stompp"), fl.sites(graph), 1000)
    turning = [turn.site.name.removesuffix(".weight") for turn in plan.turns if turn.site.kind == "weight"]
    convolutions = [path for path, module in net.named_modules() if isinstance(module, nn.Conv2d)]
    assert len(turning) == BINARY[name]
    assert set(turning) == {path for path in convolutions[1:] if "downsample" not in path}
    assert len(plan.windows) == BINARY[name]  # every one in a window of its own: also Bi-Real's shortcuts add no depth
    never_negative = {site.name for site in plan.constant}
    assert bool(never_negative) == (name == "resnet20")  # what a binary convolution reads is centred without ReLU


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_width(name: str) -> None:
    net = build(name, SMALL, WIDTH)
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    weights = [sum(p.numel() for p in build(name, SMALL, width).parameters()) for width in (WIDTH, 2 * WIDTH)]
    assert weights[0] < weights[1] or name == "mobilenetv2"  # whose channels are multiples of 8


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "vgg7"])
def test_large_images_get_another_stem(name: str) -> None:
    large = Images(10, 96, SMALL.mean, SMALL.std)
    assert build(name, large, WIDTH).eval()(torch.rand(1, 3, 96, 96)).shape == (1, 10)
    strides = [m.stride[0] for m in build(name, large).modules() if isinstance(m, nn.Conv2d)]
    assert strides.count(2) > [m.stride[0] for m in build(name, SMALL).modules() if isinstance(m, nn.Conv2d)].count(2)


def _reads(block: type[BasicBlock] | type[Bottleneck], stride: int, every: bool, x: Tensor) -> dict[str, Tensor]:
    """What each convolution of a block reads when every BatchNorm gives 0: the shortcuts are all that is left."""
    made = block(8, 8 // (block.expansion // 2 or 1), stride, every)
    reads: dict[str, Tensor] = {}
    for name, module in made.named_children():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.weight)
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _, args, name=name: reads.update({name: args[0]}))
    made(x)
    return reads


@pytest.mark.parametrize("stride", [1, 2])
def test_bireal_carries_what_each_convolution_reads_around_it(stride: int) -> None:
    x = torch.rand(2, 8, 6, 6)
    assert _reads(BasicBlock, stride, False, x)["conv2"].abs().max() == 0
    assert _reads(BasicBlock, stride, True, x)["conv2"].abs().max() > 0
    assert _reads(Bottleneck, stride, False, x)["conv3"].abs().max() == 0
    reads = _reads(Bottleneck, stride, True, x)
    assert torch.equal(reads["conv2"], x.unflatten(1, (4, 2)).mean(2))
    assert torch.equal(reads["conv3"], functional.avg_pool2d(reads["conv2"], stride))


def test_a_shortcut_without_weights_halves_what_is_odd_as_a_convolution_does() -> None:
    x = torch.rand(2, 8, 7, 7)
    assert Fit(8, 4, 2)(x).shape == nn.Conv2d(8, 4, 3, 2, 1)(x).shape


def test_pretrained_weights(tmp_path: Path) -> None:
    net = build("resnet20", SMALL)
    arrays = {
        name: value.numpy()
        for name, value in net.state_dict().items()
        if "normalise" not in name and "num_batches" not in name
    }
    np.savez(tmp_path / "resnet20-cifar10.npz", **arrays)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(pretrained("resnet20", SMALL, tmp_path).eval()(x), net.eval()(x))
    with pytest.raises(UsageError, match=r"resnet56-cifar10.npz"):
        pretrained("resnet56", SMALL, tmp_path)
    del arrays["layer2.1.bn1.bias"]
    np.savez(tmp_path / "resnet20-cifar10.npz", **arrays)
    with pytest.raises(UsageError, match=r"holds other weights than ResNet-20's\n  layer2.1.bn1.bias"):
        pretrained("resnet20", SMALL, tmp_path)
    (tmp_path / "resnet20-cifar10.npz").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"cannot start from .*resnet20-cifar10.npz"):
        pretrained("resnet20", SMALL, tmp_path)


def test_an_unknown_network() -> None:
    with pytest.raises(UsageError, match='did you mean "resnet18"'):
        build("resnet19", SMALL)
