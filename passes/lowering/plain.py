"""What the exporter does not know, or not in every form, in plain operations, for inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from frostline.compiler.operations import GROUPED_MM, of_function
from frostline.errors import LoweringError


class InPlainOperations(TorchFunctionMode):
    """Within this context torch runs the functions of this file in place of its own, whoever calls them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        plain = _PLAIN.get(of_function(func) or func) or func
        return plain(*args, **(kwargs or {}))


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`scaled_dot_product_attention`, `[..., tokens, width]`: softmax(q k^T / sqrt(width) + mask) v.

    A query that may look at nothing gives zeros, as there.

    >>> q = torch.randn(2, 3, 4)
    >>> torch.allclose(attend(q, q, q), torch.nn.functional.scaled_dot_product_attention(q, q, q), atol=1e-6)
    True
    """
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (each.repeat_interleave(repeats, -3) for each in (key, value))
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if attn_mask is None:
        return scores.softmax(-1) @ value
    if attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, -math.inf)
    scores = scores + attn_mask
    nowhere = (scores == -math.inf).all(-1, keepdim=True)
    return scores.masked_fill(nowhere, 0.0).softmax(-1).masked_fill(nowhere, 0.0) @ value


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.silu`, x / (1 + exp(-x)), which keeps its sign.

    The exporter's x sigmoid(x) does not: below -18 ONNX Runtime's sigmoid is 0, and 0 is not negative.
    """
    result = input / (1 + torch.exp(-input))
    return input.copy_(result) if inplace else result


def grouped_mm(
    rows: Tensor, matrices: Tensor, offs: Tensor | None = None, bias: Tensor | None = None, out_dtype: Any = None
) -> Tensor:
    """`torch.nn.functional.grouped_mm`: rows `[n, inputs]`, a matrix `[inputs, outputs]` a group, to `[n, outputs]`.

    The rows of group i end before `offs[i]`; rows after the last give zeros. Every row is multiplied by every matrix:
    a file cannot choose sizes.

    >>> rows, matrices = torch.ones(3, 1), torch.tensor([[[2.0]], [[5.0]]])
    >>> grouped_mm(rows, matrices, torch.tensor([1, 3])).flatten()
    tensor([2., 5., 5.])
    """
    if offs is None:
        product = rows @ matrices
    elif (rows.dim(), matrices.dim()) != (2, 3):
        raise LoweringError("grouped_mm of groups that are no rows")
    else:
        product = ((rows @ matrices) * _groups(offs, rows.shape[0]).unsqueeze(2)).sum(0)
    return product if bias is None else product + bias


def _groups(ends: Tensor, count: int) -> Tensor:
    """For every group, whether each of `count` rows is in it: those before its end and not before the last one's."""
    group = (torch.arange(count, device=ends.device).unsqueeze(1) >= ends).sum(1)
    return group == torch.arange(ends.shape[0], device=ends.device).unsqueeze(1)


def histc(values: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """`torch.histc`: how many values lie in each of `bins` equal parts of `[min, max]`, or of their own range.

    >>> histc(torch.tensor([0.0, 1.0, 1.0, 3.0, 9.0]), 4, 0, 3)
    tensor([1., 2., 0., 1.])
    """
    low, high = (values.min(), values.max()) if min == max else (torch.tensor(min), torch.tensor(max))
    alike = (low == high).to(values.dtype)
    low, high = low - alike, high + alike
    bin_ = ((values - low) * bins / (high - low)).floor().clamp(max=bins - 1)
    counted = (bin_.flatten() == torch.arange(bins).unsqueeze(1)) & (values <= high).flatten()
    return counted.sum(1).to(values.dtype)


def sort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    """`torch.sort`. The exporter knows it only without `stable`; what it makes of it is stable."""
    return torch.sort(input, dim, descending)


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "") -> Tensor:
    """`torch.cdist`, `[..., m, width]` and `[..., n, width]` to `[..., m, n]`: the p-norms of all differences."""
    difference = (x1.unsqueeze(-2) - x2.unsqueeze(-3)).abs()
    if p == 2:
        return difference.square().sum(-1).sqrt()
    if p == 0:
        return (difference != 0).to(x1.dtype).sum(-1)
    return difference.amax(-1) if p == math.inf else difference.pow(p).sum(-1).pow(1 / p)


def cumprod(values: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """`torch.cumprod`, entry i of a dimension being the product of the entries up to i."""
    if not values.dim():
        return values.to(dtype or values.dtype)
    last = values.to(dtype or values.dtype).movedim(dim, -1)
    upto = torch.ones(last.shape[-1], last.shape[-1], dtype=torch.bool, device=values.device).tril()
    return torch.where(upto, last.unsqueeze(-2), 1).prod(-1).movedim(-1, dim)


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """`embedding_bag` without `max_norm`: sums, means or maxima of rows of `weight`, a bag from each offset on."""
    if max_norm is not None:
        raise LoweringError("embedding_bag with max_norm")
    if padding_idx is not None:
        padding_idx %= weight.shape[0]
    rows = weight[input]
    if offsets is None:
        held = torch.ones_like(input, dtype=torch.bool) if padding_idx is None else input != padding_idx
    else:
        starts = offsets[1:-1] if include_last_offset else offsets[1:]
        ends = torch.cat([starts, torch.ones_like(offsets[:1]) * input.shape[0]])
        held = _groups(ends, input.shape[0])
        held = held if padding_idx is None else held & (input != padding_idx)
        rows = rows.unsqueeze(0)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    if mode == "max":
        highest = rows.masked_fill(~held.unsqueeze(2), -math.inf).amax(1)
        return torch.where(held.any(1, keepdim=True), highest, 0.0)
    summed = (rows * held.unsqueeze(2)).sum(1)
    return summed / held.sum(1, keepdim=True).clamp(min=1) if mode == "mean" else summed


def _adaptive_max_pool(dimensions: int) -> Callable[..., Any]:
    """`adaptive_max_pool{1,2,3}d`: bin i of s begins at floor(i n / s) and ends before ceil((i + 1) n / s).

    Never with indices: for those torch calls another function.
    """

    def pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
        sizes = [output_size] * dimensions if isinstance(output_size, int) else list(output_size)
        for axis, size in enumerate(sizes, start=-dimensions):
            whole = input.shape[axis]
            count = size or whole
            bins = [(index * whole // count, -(-(index + 1) * whole // count)) for index in range(count)]
            input = torch.cat([input.narrow(axis, a, b - a).amax(axis, keepdim=True) for a, b in bins], axis)
        return input

    return pool


_PLAIN: dict[Any, Callable[..., Any]] = {
    functional.scaled_dot_product_attention: attend,
    functional.silu: silu,
    GROUPED_MM: grouped_mm,
    torch.histc: histc,
    torch.sort: sort,
    torch.cdist: cdist,
    torch.cumprod: cumprod,
    Tensor.cumprod: cumprod,
    functional.embedding_bag: embedding_bag,
    functional.adaptive_max_pool1d: _adaptive_max_pool(1),
    functional.adaptive_max_pool2d: _adaptive_max_pool(2),
    functional.adaptive_max_pool3d: _adaptive_max_pool(3),
}
"""By the function of torch, or the operation that several functions are."""
