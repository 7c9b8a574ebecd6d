"""scikit-learn's 1,797 handwritten digits of 8x8 pixels: 1,300 to train, 497 to test."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

TRAINING = 1300
BATCH = 64


def tensors() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and test images `[n, 1, 8, 8]` in [-1, 1] with their labels, in one fixed shuffle."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 8 - 1, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(digits)
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    train, test = shuffled[:TRAINING], shuffled[TRAINING:]
    return (images[train], labels[train]), (images[test], labels[test])


def loaders() -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """Training batches in a new order every epoch, and the test set in one batch."""
    train, test = tensors()
    return (
        DataLoader(TensorDataset(*train), BATCH, shuffle=True),
        DataLoader(TensorDataset(*test), len(test[1])),
    )
