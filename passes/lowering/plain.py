"""What the exporter does not know, or not in every form, in plain operations, for inference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from frostline.compiler import ties
from frostline.compiler.operations import GROUPED_MM, operation_of


def in_plain_operations(node: fx.Node) -> Callable[..., Any] | None:
    """The function here that does what a node does, or None."""
    if operation_of(node) is GROUPED_MM:
        return grouped_mm
    return _PLAIN.get(node.target) if node.op == "call_function" and callable(node.target) else None


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
    if offs is None or rows.dim() != 2 or matrices.dim() != 3:
        product = rows @ matrices
    else:
        group = (torch.arange(rows.shape[0], device=rows.device).unsqueeze(1) >= offs).sum(1)
        mine = group == torch.arange(len(matrices), device=rows.device).unsqueeze(1)
        product = ((rows @ matrices) * mine.unsqueeze(2)).sum(0)
    return product if bias is None else product + bias


def histc(values: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """`torch.histc`: how many values lie in each of `bins` equal parts of `[min, max]`, or of their own range.

    >>> histc(torch.tensor([0.0, 1.0, 1.0, 3.0, 9.0]), 4, 0, 3)
    tensor([1., 2., 0., 1.])
    """
    low, high = (values.min(), values.max()) if min == max == 0 else (torch.tensor(min), torch.tensor(max))
    bin_ = ((values - low) * bins / (high - low)).floor().clamp(max=bins - 1)
    counted = (bin_.flatten() == torch.arange(bins).unsqueeze(1)) & (values <= high).flatten()
    return counted.sum(1).to(values.dtype)


def _sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    return torch.sort(input, dim, descending)


def _argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    return torch.sort(input, dim, descending).indices


_PLAIN: dict[Any, Callable[..., Any]] = {
    functional.scaled_dot_product_attention: attend,
    torch.histc: histc,
    ties.topk: torch.topk,  # ONNX takes the first of equal values anyway
    ties.sort: _sort,
    ties.argsort: _argsort,
}
