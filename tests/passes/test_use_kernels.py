"""UseKernels: the net computes in PyTorch what the frozen one did, on packed weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import frostline as fl
from frostline.compiler.kernels import prepared
from frostline.errors import PassError
from frostline.passes import FREEZING, PackWeights, UseKernels
from tests.models.integers import BiReal, Flattened, Residual, Tokens, Written
from tests.models.resnet import resnet18
from tests.models.small import ZERO_ONE, Attention, LayerDrop, Tied, chain, positive_chain, spec

CONV, LINEAR = torch.ops.frostline.binary_conv.default, torch.ops.frostline.binary_linear.default
ALL: dict[str, Any] = {"binarize__keep_float": []}


class Padded(nn.Module):
    """Convolutions of one to three dimensions, and every spelling of padding: `[n, 4, 8, 8]` to `[n, 3]`."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Conv2d(4, 32, 3, 2, 1)
        self.pair = nn.Conv2d(32, 64, (3, 2), (2, 1), (1, 0), groups=2)
        self.same = nn.Conv2d(64, 64, 4, padding="same", groups=4)
        self.far = nn.Conv2d(64, 8, (2, 3), padding="same", dilation=(1, 2))
        self.around = nn.Conv2d(8, 5, 3, padding=1, padding_mode="circular")
        self.line = nn.Conv1d(5, 33, 3, padding="valid", bias=False)
        self.space = nn.Conv3d(1, 3, (3, 1, 2), padding=(2, 0, 1), dilation=(2, 1, 1))
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.number, self.pair, self.same, self.far, self.around):
            x = torch.tanh(conv(x))
        x = torch.tanh(self.line(x.flatten(2)))
        return self.head(self.space(x[:, None, None]).mean((2, 3, 4)))


def frozen(model: nn.Module, shape: tuple[int, ...], **edits: object) -> fl.Graph:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
    program = fl.compile(model, spec(**edits), (torch.randn(shape),), total_steps=20)
    program.driver.resume(20)
    return program.freeze()


def called(graph: fl.Graph) -> list[Any]:
    return [node.target for part in graph.parts() for node in part.nodes if node.op == "call_function"]


MODELS: list[tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any], int]] = [
    (chain, (2, 3, 8, 8), {}, 4), (Attention, (2, 3, 8), {}, 4), (Tied, (2, 4), {}, 4),
    (Residual, (2, 8, 9, 9), ALL, 4), (BiReal, (2, 4, 8, 8), ALL, 4), (Flattened, (2, 4, 6, 6), ALL, 2),
    (Tokens, (2, 3, 5), ALL, 2), (Written, (2, 4, 6, 6), ALL, 6), (Padded, (2, 4, 8, 8), ALL, 8),
    (lambda: resnet18(8), (2, 3, 16, 16), {}, 16),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "edits", "products"), MODELS)
def test_the_net_gives_what_the_frozen_one_gives(
    make: Callable[[], nn.Module], shape: tuple[int, ...], edits: dict[str, Any], products: int
) -> None:
    before = frozen(make(), shape, **edits)
    after = fl.run(before, [UseKernels()])
    assert sum(target in (CONV, LINEAR) for target in called(after)) == products
    for batch in (0, 1, 5):
        x = torch.randn(batch, *shape[1:])
        assert torch.equal(after.module(x), before.module(x))


def test_every_product_of_signs_runs_on_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[bool] = []
    sums = prepared.sums

    def noted(*given: Any) -> Tensor | None:
        result = sums(*given)
        ran.append(result is not None)
        return result

    monkeypatch.setattr(prepared, "sums", noted)
    fl.run(frozen(Padded(), (2, 4, 8, 8), **ALL), [UseKernels()]).module(torch.randn(3, 4, 8, 8))
    assert ran == [True] * 8


def test_a_depthwise_convolution_stays_on_its_row_of_bits() -> None:
    graph = frozen(nn.Sequential(nn.Conv2d(4, 20, 1), nn.Conv2d(20, 20, 3, groups=20)), (2, 4, 8, 8), **ALL)
    held = graph.module.state_dict()
    assert held["1.weight_bits"].shape == (1, 24)  # 180 signs, in words of 32
    after = fl.run(graph, [UseKernels()])
    assert [target in (CONV, LINEAR) for target in called(after)].count(True) == 1
    x = torch.randn(3, 4, 8, 8)
    assert torch.equal(after.module(x), graph.module(x))


def test_latent_weights_are_gone_and_bits_take_their_place() -> None:
    model = chain(width=32)
    latent = {
        name: weight for name, weight in model.state_dict().items() if name.split(".")[0] in ("3", "6", "9", "12")
    }
    weights = [weight for name, weight in latent.items() if name.endswith(".weight")]
    net = fl.run(frozen(model, (2, 3, 8, 8)), [UseKernels()]).module
    held = net.state_dict()
    assert not {name for name in latent if name.endswith(".weight")} & held.keys()
    bits = [tensor for name, tensor in held.items() if name.endswith("_bits")]
    assert [32 * tensor.nbytes for tensor in bits] == [weight.nbytes for weight in weights]


def test_only_products_of_signs_are_exchanged() -> None:
    for graph in (
        frozen(positive_chain(), (2, 3, 8, 8), overrides=ZERO_ONE),
        frozen(chain(), (2, 3, 8, 8), binarize__activations=False),
    ):
        after = fl.run(graph, [UseKernels()])
        assert called(after) == called(graph)


def test_what_autocast_rounds_stays() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 700), nn.Linear(700, 700)

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.b(torch.tanh(self.a(x)))

    graph, x = frozen(Half(), (2, 4), **ALL), torch.randn(3, 4)
    after = fl.run(graph, [UseKernels()])
    assert LINEAR not in called(after)
    assert torch.equal(after.module(x), graph.module(x))


def test_the_net_under_autocast() -> None:
    net, x = fl.run(frozen(chain(), (2, 3, 8, 8)), [UseKernels()]).module, torch.randn(3, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        result = net(x)
    assert result.isfinite().all()


def test_bits_that_change_are_seen() -> None:
    before = frozen(chain(width=32), (2, 3, 8, 8))  # as many channels as a word has bits
    after, x = fl.run(before, [UseKernels()]), torch.randn(4, 3, 8, 8)
    first = after.module(x)
    with torch.no_grad():
        dict(before.module.named_buffers())["3.weight_bits"].bitwise_not_()  # both graphs hold it
    assert not torch.equal(after.module(x), first)
    assert torch.equal(after.module(x), before.module(x))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile(backend: str) -> None:
    before = frozen(BiReal(), (2, 4, 8, 8), **ALL)
    net = torch.compile(fl.run(before, [UseKernels()]).module, backend=backend, fullgraph=True)
    for batch in (2, 5):
        x = torch.randn(batch, 4, 8, 8)
        assert torch.equal(net(x), before.module(x))


def test_a_copy_and_a_state_dict() -> None:
    one, other = (fl.run(frozen(chain(), (2, 3, 8, 8)), [UseKernels()]).module for _ in range(2))
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(copy.deepcopy(one)(x), one(x))
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


def test_regions() -> None:
    program = fl.compile(LayerDrop(), spec(), (torch.randn(2, 4),), total_steps=20)
    program.driver.resume(20)
    before, x = program.freeze(), torch.randn(3, 4)
    after = fl.run(before, [UseKernels()])
    assert called(after).count(LINEAR) == 2
    assert torch.equal(after.module.eval()(x), before.module.eval()(x))


def test_a_file_of_it_is_the_same_and_no_kernel_runs_while_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr(prepared, "sums", refuse)
    graph = frozen(chain(layers=1), (2, 3, 8, 8))
    own, written = (fl.lower(each) for each in (fl.run(graph, [UseKernels()]), graph))
    assert own.SerializeToString(deterministic=True) == written.SerializeToString(deterministic=True)
    assert [node.op_type for node in own.graph.node].count("BinaryConv") == 1


def test_a_graph_whose_weights_are_not_packed_is_refused() -> None:
    program = fl.compile(chain(), spec(), (torch.randn(2, 3, 8, 8),), total_steps=20)
    program.driver.resume(20)
    unpacked = fl.run(program.graph, [one for one in FREEZING if not isinstance(one, PackWeights)])
    with pytest.raises(PassError, match="UseKernels cannot run: the graph is not packed"):
        fl.run(unpacked, [UseKernels()])


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    before = frozen(BiReal(), (2, 4, 8, 8), **ALL)
    net, x = fl.run(before, [UseKernels()]).module.cuda(), torch.randn(5, 4, 8, 8, device="cuda")
    with torch.backends.cudnn.flags(allow_tf32=False):
        assert torch.equal(net(x), before.module.cuda()(x))
