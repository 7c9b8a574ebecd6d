from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.compiler.capture import attempts
from frostline.errors import CaptureError, UsageError
from tests.models.small import Attention, Branching, Drawing, LayerDrop, Moody, Spare, Tied, chain


def reasons(model: nn.Module, inputs: object, **kwargs: object) -> str:
    with pytest.raises(CaptureError) as caught:
        fl.capture(model, inputs, **kwargs)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("make", "shape"), [(chain, (2, 3, 8, 8)), (Attention, (2, 5, 8)), (Tied, (2, 4)), (Spare, (2, 4))]
)
def test_the_graph_does_what_the_model_does(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = make()
    graph = fl.capture(model, (torch.randn(shape),))
    assert graph.captured == "fx, proven in eval and train mode at batch 1, 2 and 3"
    x = torch.randn(7, *shape[1:])
    assert torch.equal(graph.module.eval()(x), model.eval()(x))


def test_names_and_their_order_are_the_model_s() -> None:
    for model, shape in ((Tied(), (2, 4)), (Spare(), (2, 4)), (chain(), (2, 3, 8, 8))):
        net = fl.capture(model, (torch.randn(shape),)).module
        assert list(net.state_dict()) == list(model.state_dict())
        assert [name for name, _ in net.named_parameters()] == [name for name, _ in model.named_parameters()]
        assert list(copy.deepcopy(net).state_dict()) == list(model.state_dict())


def test_parameters_are_shared_and_the_model_is_not_touched() -> None:
    model = chain().eval()
    before = copy.deepcopy(model.state_dict())
    graph = fl.capture(model, (torch.randn(2, 3, 8, 8),))
    assert all(one is other for one, other in zip(graph.module.parameters(), model.parameters(), strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    graph.module.train()
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_random_state_is_not_touched() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    before = torch.get_rng_state()
    fl.capture(model, (torch.zeros(2, 4),))
    assert torch.equal(torch.get_rng_state(), before)


def test_keywords_and_defaults() -> None:
    class Scaled(nn.Linear):
        def forward(self, input: torch.Tensor, scale: float = 2.0, shift: torch.Tensor | None = None) -> torch.Tensor:
            y = super().forward(input) * scale
            return y if shift is None else y + shift

    model = Scaled(4, 4)
    x, shift = torch.randn(2, 4), torch.randn(4)
    graph = fl.capture(model, (x,), {"shift": shift})
    assert torch.equal(graph.module(x, shift=shift), model(x, shift=shift))


def test_each_front_end_says_why_it_failed_with_the_user_s_line() -> None:
    fx, recorder, regions = attempts(Branching(), (torch.randn(2, 4),))
    assert [one.front_end for one in (fx, recorder, regions)] == ["fx", "recorder", "regions"]
    assert [one.graph is None for one in (fx, recorder, regions)] == [True, True, False]
    for failed in (fx, recorder):
        (reason,) = failed.reasons
        assert str(reason.where).startswith("tests/models/small.py:")
        assert "no graph can branch on a value" in str(reason.remedy)


def test_a_branch_on_chance_is_not_decided_while_tracing() -> None:
    fx, recorder, regions = attempts(LayerDrop(), (torch.randn(2, 4),))
    assert "tracing would lose, or bake in, random numbers" in str(fx.reasons[0])
    assert recorder.graph is None
    assert regions.graph is not None


def test_a_branch_of_one_mode_is_seen_though_the_example_does_not_take_it() -> None:
    fx, recorder, regions = attempts(EarlyExit(4, 4), (torch.randn(2, 4),))
    assert [one.graph is None for one in (fx, recorder, regions)] == [True, True, True]


def test_a_flag_that_fx_bakes_in_is_noticed() -> None:
    fx, recorder, _ = attempts(Moody(), (torch.randn(2, 4),))
    what = [str(reason) for reason in fx.reasons]
    assert "train mode takes another way than eval mode\n    -> a traced graph has one mode" in what[0]
    assert what[1].startswith("  tests/models/small.py:")
    assert what[1].endswith("it asks self.training here")
    assert recorder.graph is not None


def test_what_no_front_end_takes_is_one_error_with_all_reasons() -> None:
    text = reasons(Drawing(4, 4), (torch.randn(2, 4),))
    assert text.startswith("Drawing cannot be captured")
    assert "fx: in eval mode, the forward draws random numbers from Python or numpy" in text
    assert "recorder: in eval mode, the forward draws random numbers from Python or numpy" in text
    assert "regions: no submodule with parameters can be captured" in text


def test_a_model_that_changes_itself_is_refused() -> None:
    text = reasons(Counting(4, 4), (torch.randn(2, 4),))
    assert "in eval mode, the model changes itself: at a second call output 0 differs" in text


def test_an_example_that_does_not_fit() -> None:
    text = reasons(chain(), (torch.randn(2, 4, 8, 8),))
    assert text.startswith("the model does not run on its example inputs")
    assert "to have 3 channels, but got 4 channels" in text


def test_a_model_of_another_dtype_than_its_example() -> None:
    text = reasons(nn.Linear(4, 4).double(), (torch.randn(2, 4),))
    assert text.startswith("the model does not run on its example inputs")
    assert "the model is of torch.float64, its example of torch.float32\n    -> move or convert" in text


def test_a_model_on_another_device_than_its_example() -> None:
    text = reasons(nn.Linear(4, 4).to("meta"), (torch.randn(2, 4),))
    assert "the model is on meta, its example on cpu" in text


def test_inputs_of_the_wrong_kind() -> None:
    assert "write (x,) for a single tensor" in reasons(chain(), torch.randn(2, 3, 8, 8))
    assert "not a torch.nn.Module" in reasons(len, (torch.randn(2),))  # type: ignore[arg-type]
    assert "example_kwargs is not a mapping" in reasons(nn.Linear(2, 2), (), example_kwargs=[1])


def test_the_meta_device_takes_no_memory_and_proves_nothing() -> None:
    graph = fl.capture(chain().to("meta"), (torch.randn(2, 3, 8, 8, device="meta"),))
    assert graph.captured == "recorder, not proven: on the meta device there are no values to compare"
    assert len(fl.sites(graph)) == 12


@pytest.mark.gpu
def test_capture_on_a_gpu() -> None:
    x = torch.randn(2, 3, 8, 8, device="cuda")
    for attempt in attempts(chain().cuda(), (x,)):
        assert attempt.graph is not None, attempt.reasons
        assert "proven in eval and train mode" in attempt.proof


class Constant(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) + torch.arange(4.0)


class Doubling(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.mul_(2))


class TwoOptions(nn.Linear):
    def forward(
        self, input: torch.Tensor, scale: float | None = None, shift: torch.Tensor | None = None
    ) -> torch.Tensor:
        return super().forward(input) + (0 if shift is None else shift)


class EarlyExit(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        y = super().forward(input)
        if not self.training and float(y.abs().max()) > 1e6:
            return -y
        return y


class Counting(nn.Linear):
    calls = 0

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(input) * self.calls


class EvalOnly(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError("not made for training")
        return super().forward(input)


def test_a_tensor_that_forward_makes_comes_along() -> None:
    model, x = Constant(4, 4), torch.randn(2, 4)
    graph = fl.capture(model, (x,))
    assert torch.equal(graph.module(x), model(x))
    assert list(graph.module.state_dict()) == list(model.state_dict())


def test_the_user_s_example_is_not_changed() -> None:
    x = torch.randn(2, 4)
    before = x.clone()
    fl.capture(Doubling(4, 4), (x,))
    assert torch.equal(x, before)


def test_a_keyword_after_one_that_is_left_out() -> None:
    model, x, shift = TwoOptions(4, 4), torch.randn(2, 4), torch.randn(4)
    graph = fl.capture(model, (x,), {"shift": shift})
    assert torch.equal(graph.module(x, shift=shift), model(x, shift=shift))


def test_a_model_that_does_not_train_is_captured_for_eval_and_says_so() -> None:
    model, x = EvalOnly(4, 4), torch.randn(2, 4)
    net = fl.capture(model.eval(), (x,)).module
    assert torch.equal(net(x), model(x))
    with pytest.raises(UsageError, match=r"eval mode only\n.*not made for training"):
        net.train()(x)
