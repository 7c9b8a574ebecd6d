"""Random crops, flips and holes, for a whole batch at once on the device that holds it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pixels(images: Tensor) -> Tensor:
    """uint8 images as floats in 0..1, which every network here reads."""
    return images.float() / 255


def shift(images: Tensor, padding: int) -> Tensor:
    """Crop anew from images padded by reflection, each by its own offset, and mirror half of them.

    Nothing is padded: each pixel is fetched from the row and the column that it would have come from. `images`
    `[n, c, h, w]` of any dtype; `padding` in pixels, less than h and w.
    """
    n, c, h, w = images.shape
    rows = _reflected(_offsets(n, padding, images.device) + torch.arange(h, device=images.device), h)
    columns = _reflected(_offsets(n, padding, images.device) + torch.arange(w, device=images.device), w)
    columns = torch.where(_half(n, images.device), columns.flip(1), columns)
    each, channel = torch.arange(n, device=images.device), torch.arange(c, device=images.device)
    return images[each[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def zoom(images: Tensor, smallest: float = 0.35) -> Tensor:
    """Crop a random rectangle, at least `smallest` of the area, of a width to height of 3/4 to 4/3, scale it to the
    whole, and mirror half of them: the usual crop for ImageNet. Images `[n, c, h, w]` in float.
    """
    n, device = len(images), images.device
    area = torch.empty(n, device=device).uniform_(smallest, 1)
    ratio = torch.empty(n, device=device).uniform_(-1, 1).mul(torch.log(torch.tensor(4 / 3))).exp()
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=1)
    centres = (1 - sides) * torch.empty(n, 2, device=device).uniform_(-1, 1)
    mirrored = torch.where(_half(n, device)[:, 0], -1.0, 1.0)
    affine = torch.zeros(n, 2, 3, device=device)
    affine[:, 0, 0], affine[:, 1, 1], affine[:, :, 2] = sides[:, 0] * mirrored, sides[:, 1], centres
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def cutout(images: Tensor, side: int) -> Tensor:
    """Fill a square of `side` pixels around a random pixel, cut off at the edges, with the mean colour of the batch.

    DeVries and Taylor, arXiv 1708.04552. Images `[n, c, h, w]` in float.
    """
    n, _, h, w = images.shape
    hole = _around(n, h, side, images.device)[:, :, None] & _around(n, w, side, images.device)[:, None, :]
    return torch.where(hole[:, None], images.mean((0, 2, 3))[:, None, None], images)


def _offsets(n: int, padding: int, device: torch.device) -> Tensor:
    return torch.randint(-padding, padding + 1, (n, 1), device=device)


def _half(n: int, device: torch.device) -> Tensor:
    return torch.rand(n, 1, device=device) < 0.5


def _reflected(index: Tensor, size: int) -> Tensor:
    """Indices beyond an edge, mirrored at it; the edge itself is not repeated."""
    return (size - 1) - ((size - 1) - index.abs()).abs()


def _around(n: int, size: int, side: int, device: torch.device) -> Tensor:
    start = torch.randint(0, size, (n, 1), device=device) - side // 2
    index = torch.arange(size, device=device)
    return (index >= start) & (index < start + side)
