"""Regions: for a model that no front end takes whole, the largest submodules that one does take.

The model's own Python goes on running between them, with all its branches. One eager run shows what each submodule is
given; each is then captured and proven alone, and stands in its own place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from frostline.compiler.capture.eager import Trial
from frostline.compiler.graph import Example, Graph
from frostline.compiler.net import Net, duplicate, share
from frostline.compiler.tensors import holds_tensor, outline

_SHAPES = 6
"""As many different calls of a submodule are kept and proven."""


def capture_regions(
    model: nn.Module, trials: list[Trial], whole: Callable[[nn.Module, list[Example]], Graph | None]
) -> tuple[nn.Module, dict[str, Graph]]:
    """The model over its own parameters with its largest capturable submodules captured, and those by their path.

    What the submodules are given is seen when the `trials` of the model are run again. `whole` captures a submodule,
    and proves it for each of its calls; it returns None where it cannot.
    """
    calls = _calls(model, trials)
    tree = share(model)
    running = list(calls)
    regions = dict(sorted(_largest(tree, "", calls, whole, set()), key=lambda item: running.index(item[0])))
    for path, region in regions.items():
        original = tree.get_submodule(path)
        net = region.module
        assert isinstance(net, Net)
        net.stands_for(original)
        for parent in list(tree.modules()):
            for name, child in parent._modules.items():
                if child is original:
                    parent._modules[name] = net
    return tree, regions


def _largest(
    module: nn.Module,
    path: str,
    calls: Mapping[str, list[Example]],
    whole: Callable[[nn.Module, list[Example]], Graph | None],
    seen: set[int],
) -> Iterator[tuple[str, Graph]]:
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if id(child) in seen or next(child.parameters(), None) is None:
            continue
        seen.add(id(child))
        graph = whole(child, calls[inner]) if inner in calls else None
        if graph is not None:
            yield inner, graph
        else:
            yield from _largest(child, inner, calls, whole, seen)


def _calls(model: nn.Module, trials: list[Trial]) -> dict[str, list[Example]]:
    """What each submodule is given in runs of the model: every call of another shape, in the order of running.

    Those are calls in eval mode, unless it is called in train mode only.
    """
    found: dict[str, dict[str, Example]] = {}
    for training in (False, True):
        here: dict[str, dict[str, Example]] = {}
        for example in (trial.inputs for trial in trials if trial.training is training):
            twin = duplicate(model).train(training)
            for path, module in twin.named_modules():
                if path:
                    module.register_forward_pre_hook(_keep(path, here, example), with_kwargs=True)
            inputs = example.copied()
            with suppress(Exception), torch.no_grad(), torch.random.fork_rng():
                twin(*inputs.args, **inputs.kwargs)
        found |= {path: calls for path, calls in here.items() if path not in found}
    return {path: list(calls.values()) for path, calls in found.items()}


def _keep(path: str, here: dict[str, dict[str, Example]], example: Example) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls = here.get(path, {})
        shown = outline((args, kwargs), example.batch_size())
        if shown not in calls and len(calls) < _SHAPES and holds_tensor((args, kwargs)):
            here.setdefault(path, calls)[shown] = Example(args, dict(kwargs)).copied()

    return hook
