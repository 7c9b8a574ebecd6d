"""Training on several ranks: what each turns for itself, and nets whose parameters are spread over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from torch import Tensor, nn

from frostline.compiler.net import Net, mask_buffers
from frostline.errors import Offence, UsageError

_GATHER = "gather its full state dict, then `program.freeze(values=state)` on one rank: docs/distribute.md"


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, of which this rank may hold a part only."""
    return hasattr(tensor, "full_tensor")


def beside(tensor: Tensor) -> AbstractContextManager[None]:
    """Within this context, plain tensors that are equal on all ranks can be combined with a sharded one."""
    if not is_sharded(tensor):
        return nullcontext()
    from torch.distributed.tensor.experimental import implicit_replication  # slow to import

    return implicit_replication()


def leave_to_ranks(module: nn.Module, model: nn.Module) -> None:
    """Keep DistributedDataParallel from what a model says, and from the masks, also where the whole is no net."""
    own = getattr(model, "_ddp_params_and_buffers_to_ignore", ())
    masks = () if isinstance(module, Net) else mask_buffers(module)
    cast(Any, module)._ddp_params_and_buffers_to_ignore = [*own, *masks]


def check_values(net: nn.Module, values: Mapping[str, Tensor] | None) -> None:
    """Raise UsageError where a net is sharded and no values stand in for its own, or where they are of another net."""
    if values is None:
        sharded = [name for name, parameter in net.named_parameters() if is_sharded(parameter)]
        if sharded:
            others = f" and {len(sharded) - 1} more are" if len(sharded) > 1 else " is"
            raise UsageError("the net is sharded", [Offence(f"{sharded[0]}{others} spread over ranks", None, _GATHER)])
        return
    faults = list(_misfits(net.state_dict(), values))
    if faults:
        raise UsageError("the values are not a whole state dict of the net", faults)


def _misfits(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Iterator[Offence]:
    yield from (Offence(f"{name} is missing") for name in own if name not in values)
    yield from (Offence(f"the net has no {name}") for name in values if name not in own)
    for name, value in ((name, value) for name, value in values.items() if name in own):
        if is_sharded(value):
            yield Offence(f"{name} is spread over ranks", None, _GATHER)
        elif value.shape != own[name].shape:
            yield Offence(f"{name} has shape {list(value.shape)}, and {list(own[name].shape)} in the net")
