"""Convolutions in all their forms, and what stands beside them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner


class Transposed(nn.Module):
    """Transposed convolutions, one with an output size asked for at the call."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1)
        self.sharpen = nn.ConvTranspose2d(8, 3, 3, padding=1, output_padding=0, groups=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.sharpen(self.up(self.down(x).relu(), output_size=x.shape[-2:]))


class GroupedAndShuffled(nn.Module):
    """Grouped convolutions with a channel shuffle between (ShuffleNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 1, groups=2)
        self.second = nn.Conv2d(8, 8, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous().view(batch, -1, height, width)
        return self.second(F.channel_shuffle(x, 4))


class Depthwise(nn.Module):
    """A depthwise and a pointwise convolution, with a gate on the channels (MobileNetV3)."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(3, 12, 1, bias=False)
        self.depth = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 4, 1), nn.ReLU(), nn.Conv2d(4, 12, 1))
        self.project = nn.Conv2d(12, 3, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.depth(F.relu6(self.expand(x))))
        return x + self.project(y * F.hardsigmoid(self.gate(y)))


class Dilated(nn.Module):
    """Parallel dilated branches and a pooled one, enlarged to the size of the input (ASPP)."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(3, 4, 3, padding=rate, dilation=rate) for rate in (1, 2, 3))
        self.pooled = nn.Conv2d(3, 4, 1)
        self.merge = nn.Conv2d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.interpolate(self.pooled(x.mean((2, 3), keepdim=True)), x.shape[2:], mode="bilinear")
        return self.merge(torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1))


class PaddingModes(nn.Module):
    """Padding by name and by repetition: same, circular, reflect, replicate."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(3, 8, (3, 5), padding="same", dilation=2)
        self.circular = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
        self.reflect = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.replicate = nn.Conv2d(8, 8, 3, padding=(2, 1), padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        return self.replicate(self.reflect(self.circular(self.same(x))))


class PadsBySize(nn.Module):
    """Padding is computed from the size in Python (EfficientNet's "same")."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for size in reversed(x.shape[-2:]):
            needed = max((-(-size // 2) - 1) * 2 + 3 - size, 0)
            sides += [needed // 2, needed - needed // 2]
        return self.conv(F.pad(x, sides))


class OneDimension(nn.Module):
    """Causal dilated convolutions over time with gates (WaveNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 8, 1)
        self.convs = nn.ModuleList(nn.Conv1d(8, 16, 2, dilation=2**level) for level in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(8, 8, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for level, (conv, skip) in enumerate(zip(self.convs, self.skips, strict=True)):
            signal, gate = conv(F.pad(x, (2**level, 0))).chunk(2, dim=1)
            y = torch.tanh(signal) * torch.sigmoid(gate)
            skips.append(skip(y))
            x = x + y
        return F.relu(torch.stack(skips).sum(0))


class ThreeDimensions(nn.Module):
    """Video: a convolution over space, then one over time."""

    def __init__(self) -> None:
        super().__init__()
        self.space = nn.Conv3d(3, 8, (1, 3, 3), padding=(0, 1, 1))
        self.time = nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0))
        self.norm = nn.BatchNorm3d(8)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool3d(self.norm(self.time(self.space(x).relu())), 1).flatten(1)


class PixelShuffled(nn.Module):
    """Channels become pixels and back (super-resolution)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.conv(F.pixel_unshuffle(x, 2))) + x


class UnfoldedConvolution(nn.Module):
    """A convolution by unfold, a product and fold: the site is a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(27, 8))
        self.back = nn.Parameter(torch.randn(8, 27))

    def forward(self, x: Tensor) -> Tensor:
        columns = F.unfold(x, 3, padding=1).transpose(1, 2)
        y = torch.relu(columns @ self.weight) @ self.back
        return F.fold(y.transpose(1, 2), x.shape[-2:], 3, padding=1)


class TensorUnfold(nn.Module):
    """Windows by Tensor.unfold, which has the windows last."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3 * 4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.unfold(1, 4, 2).flatten(2))


class SpatialTransformer(nn.Module):
    """A sampling grid is computed from the image."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Linear(3, 6)
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        identity = torch.tensor([1.0, 0, 0, 0, 1, 0], device=x.device)
        theta = (0.1 * self.locate(x.mean((2, 3))) + identity).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.size()), align_corners=False)
        return self.conv(F.grid_sample(x, grid, align_corners=False))


class PoolsWithIndices(nn.Module):
    """Pooling returns its indices, which unpooling uses (SegNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)
        self.decode = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encode(x)
        pooled, indices = self.pool(x)
        return self.decode(self.unpool(pooled, indices, output_size=x.size()))


class BlursWithBuffer(nn.Module):
    """A fixed filter in a buffer is expanded to the channels: a convolution that is no site."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", torch.outer(row, row) / 16)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        return F.conv2d(x, self.kernel.expand(x.size(1), 1, -1, -1), stride=2, padding=1, groups=x.size(1))


class ChannelsLast(nn.Module):
    """Images in channels-last memory, permuted around linear layers (ConvNeXt)."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.scale = nn.Parameter(torch.full((8,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y = self.scale * self.mlp(self.norm(self.depth(x).permute(0, 2, 3, 1)))
        return x + y.permute(0, 3, 1, 2)


ENTRIES = [
    corner(Transposed, (2, 3, 9, 10)),
    corner(GroupedAndShuffled, (2, 4, 6, 6)),
    corner(Depthwise, (2, 3, 8, 8)),
    corner(Dilated, (2, 3, 8, 8)),
    corner(PaddingModes, (2, 3, 8, 8)),
    corner(PadsBySize, (2, 3, 9, 10)),
    corner(OneDimension, (2, 3, 12)),
    corner(ThreeDimensions, (2, 3, 4, 8, 8)),
    corner(PixelShuffled, (2, 3, 8, 8)),
    corner(UnfoldedConvolution, (2, 3, 8, 8)),
    corner(TensorUnfold, (2, 10, 3)),
    corner(SpatialTransformer, (2, 3, 8, 8)),
    corner(PoolsWithIndices, (2, 3, 8, 8)),
    corner(BlursWithBuffer, (2, 3, 8, 8)),
    corner(ChannelsLast, (2, 8, 7, 7)),
]
