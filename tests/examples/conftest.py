from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

GRID, SIDE = 32, 32


def write_mosaics(folder: Path, labels: list[int], classes: int) -> np.ndarray:
    """A small data set in the format of `cifar10/`: an image's colour tells its label. Returns its images."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 40, (len(labels), SIDE, SIDE, 3), np.uint8)
    images = (noise + np.array([[20, 200, 90, 140][label % 4] for label in labels])[:, None, None, None]).astype(
        np.uint8
    )
    for index, start in enumerate(range(0, len(labels), GRID**2)):
        tiles = np.zeros((GRID**2, SIDE, SIDE, 3), np.uint8)
        tiles[: len(labels) - start] = images[start : start + GRID**2]
        mosaic = tiles.reshape(GRID, GRID, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(GRID * SIDE, GRID * SIDE, 3)
        Image.fromarray(mosaic).save(folder / f"{index:02}.webp", lossless=True, method=0)
    np.save(folder / "labels.npy", np.array(labels, np.uint8))
    (folder / "classes.txt").write_text("".join(f"class{index}\n" for index in range(classes)))
    return images


@pytest.fixture
def mosaics(tmp_path: Path) -> Path:
    """A data folder with a `cifar10` of four classes, 80 training and 16 test images."""
    write_mosaics(tmp_path / "data" / "cifar10", [index % 4 for index in range(96)], 4)
    return tmp_path / "data"
