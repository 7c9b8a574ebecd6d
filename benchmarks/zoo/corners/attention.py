"""Attention, from torch's modules and by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner, tokens


class SelfAttention(nn.Module):
    """nn.MultiheadAttention with time first and its weights returned, averaged over the heads."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 4, dropout=0.1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.transpose(0, 1)
        y, weights = self.attention(x, x, x)
        return y.transpose(0, 1), weights


class CrossAttention(nn.Module):
    """nn.MultiheadAttention whose keys and values have sizes of their own: three weights, no joint one."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 4, kdim=6, vdim=5, batch_first=True, bias=False)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return x + self.attention(x, keys, values, need_weights=False)[0]


class MaskedAttention(nn.Module):
    """nn.MultiheadAttention under a causal mask and a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 4, batch_first=True, add_bias_kv=True, add_zero_attn=True)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        causal = torch.ones(x.size(1), x.size(1), dtype=torch.bool, device=x.device).triu(1)
        return self.attention(x, x, x, key_padding_mask=padding, attn_mask=causal, average_attn_weights=False)[0]


class TransformerEncoder(nn.Module):
    """nn.TransformerEncoder: in evaluation torch takes one fused operation that hides every site."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.TransformerEncoderLayer(12, 4, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, 2, norm=nn.LayerNorm(12))
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class TransformerEncoderMasked(nn.Module):
    """nn.TransformerEncoder with a padding mask made from the tokens, without nested tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        block = nn.TransformerEncoderLayer(12, 4, 16, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(12, 4)

    def forward(self, numbers: Tensor) -> Tensor:
        x = self.encoder(self.embed(numbers), src_key_padding_mask=numbers.eq(0))
        return self.head(x[:, 0])


class TransformerDecoder(nn.Module):
    """nn.TransformerDecoder, norm first, with torch's own causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        block = nn.TransformerDecoderLayer(12, 4, 16, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(block, 2)

    def forward(self, numbers: Tensor, memory: Tensor) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(numbers.size(1))
        return self.decoder(self.embed(numbers), memory, tgt_mask=causal, tgt_is_causal=True)


class WholeTransformer(nn.Module):
    """nn.Transformer, both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(12, 4, 1, 1, 16, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.transformer(source, target)


class CausalByHand(nn.Module):
    """A joint projection, heads, a triangle cut from a buffer, masked_fill with -inf (minGPT)."""

    triangle: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.joint = nn.Linear(12, 36)
        self.project = nn.Linear(12, 12)
        self.drop = nn.Dropout(0.1)
        self.register_buffer("triangle", torch.tril(torch.ones(1, 1, 16, 16)))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.size()
        query, key, value = (
            each.view(batch, length, 4, width // 4).transpose(1, 2) for each in self.joint(x).split(width, dim=2)
        )
        scores = (query @ key.transpose(-2, -1)) * (1.0 / key.size(-1) ** 0.5)
        scores = scores.masked_fill(self.triangle[:, :, :length, :length] == 0, float("-inf"))
        y = self.drop(F.softmax(scores, dim=-1)) @ value
        return self.project(y.transpose(1, 2).contiguous().view(batch, length, width))


class MaskFromLengths(nn.Module):
    """The mask is made from the lengths of the sentences."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.query, self.key, self.value = (nn.Linear(12, 12) for _ in range(3))

    def forward(self, numbers: Tensor, lengths: Tensor) -> Tensor:
        x = self.embed(numbers)
        mask = torch.arange(numbers.size(1), device=numbers.device)[None, :] < lengths[:, None]
        bias = torch.where(mask, 0.0, torch.finfo(x.dtype).min)[:, None]
        return F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x), attn_mask=bias)


class FusedAttention(nn.Module):
    """scaled_dot_product_attention, causal, with dropout given by the mode and fewer keys than queries."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(12, 16)
        self.key_value = nn.Linear(12, 16)

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).unflatten(-1, (4, 4)).transpose(1, 2)
        key, value = self.key_value(x).unflatten(-1, (2, 2, 4)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(
            query, key, value, dropout_p=0.1 if self.training else 0.0, is_causal=True, enable_gqa=True
        )
        return y.transpose(1, 2).flatten(2)


class SlopesByHead(nn.Module):
    """Biases grow with distance, one slope for each head, from the length (ALiBi)."""

    def __init__(self) -> None:
        super().__init__()
        self.joint = nn.Linear(12, 36)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.joint(x).unflatten(-1, (3, 4, 3)).permute(2, 0, 3, 1, 4).unbind(0)
        slopes = 2.0 ** -torch.arange(1, 5, device=x.device)
        steps = torch.arange(x.size(1), device=x.device)
        bias = -(steps[:, None] - steps[None]).abs() * slopes.view(-1, 1, 1)
        return (torch.softmax(query @ key.mT + bias, -1) @ value).transpose(1, 2).flatten(-2)


class LinearAttention(nn.Module):
    """Attention without softmax, as running sums over time."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(12, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        query, key = F.elu(self.query(x)) + 1, F.elu(self.key(x)) + 1
        sums = torch.einsum("bti,btj->btij", key, self.value(x)).cumsum(1)
        weights = torch.einsum("bti,bti->bt", query, key.cumsum(1)).clamp(min=1e-6)
        return torch.einsum("bti,btij->btj", query, sums) / weights.unsqueeze(-1)


class RotaryByHalves(nn.Module):
    """Queries are turned by their position: halves swapped and negated."""

    rates: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(12, 8)
        self.key = nn.Linear(12, 8)
        self.register_buffer("rates", 1.0 / 100 ** (torch.arange(0, 8, 2) / 8), persistent=False)

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        angles = torch.outer(positions.to(x.dtype), self.rates).repeat(1, 2)
        left, right = x.chunk(2, dim=-1)
        return x * angles.cos() + torch.cat((-right, left), dim=-1) * angles.sin()

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)
        return self.rotate(self.query(x), positions) @ self.rotate(self.key(x), positions).transpose(1, 2)


ENTRIES = [
    corner(SelfAttention, (2, 5, 12)),
    corner(CrossAttention, (2, 5, 12), (2, 7, 6), (2, 7, 5)),
    corner(MaskedAttention, (2, 5, 12), lambda: torch.arange(5) >= torch.tensor([[5], [3]])),
    corner(TransformerEncoder, (2, 5, 12)),
    corner(TransformerEncoderMasked, tokens(2, 5)),
    corner(TransformerDecoder, tokens(2, 5), (2, 7, 12)),
    corner(WholeTransformer, (2, 7, 12), (2, 5, 12)),
    corner(CausalByHand, (2, 5, 12)),
    corner(MaskFromLengths, tokens(2, 5), lambda: torch.tensor([5, 3])),
    corner(FusedAttention, (2, 5, 12)),
    corner(SlopesByHead, (2, 5, 12)),
    corner(LinearAttention, (2, 5, 12)),
    corner(RotaryByHalves, (2, 5, 12)),
]
