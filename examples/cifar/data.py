"""Images as uint8 tensors: CIFAR-10 and CIFAR-100 from mosaics, Imagenette, and any folder of images.

A data folder holds what is read from it:

- `cifar10/`, `cifar100/`: lossless mosaics `00.webp`, `01.webp`, ... of 32 by 32 images of 32 by 32 pixels, row by row,
  `labels.npy` (uint8), and `classes.txt`. The last sixth of the images is the test set; the last mosaic is padded with
  black. CIFAR is by A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html.
- `imagenette128-train.npz`, `imagenette128-val.npz`: Imagenette at 128 x 128; `data` (all files one after the other),
  `end` (where each ends), `label`.
- a folder of images is itself the data folder: `train/CLASS/*.jpg` and `val/CLASS/*.jpg`.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from frostline.errors import Offence, UsageError, nearest

Bytes = npt.NDArray[np.uint8]

GRID, SIDE = 32, 32
"""Images a side of a mosaic, and pixels a side of its images."""

SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenette": IMAGENET,
    "folder": IMAGENET,
}
"""Mean and standard deviation of each colour in 0..1, by data set."""


@dataclass(frozen=True)
class Split:
    """Images `[n, 3, size, size]` in uint8, and their labels `[n]` in int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def share(self, fraction: float) -> Split:
        """The first images of every class, the same share of each, but one at least; in their own order."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        for label in self.labels.unique():
            own = (self.labels == label).nonzero().flatten()
            chosen[own[: max(1, round(fraction * len(own)))]] = True
        return Split(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Data:
    """A data set in memory."""

    train: Split
    test: Split
    classes: int

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.train.images.shape[-1]


def load(name: str, folder: Path, size: int | None = None) -> Data:
    """Read a data set; `size` scales photographs to so many pixels a side, and CIFAR is 32.

    Raises UsageError, naming every file that is missing or damaged.
    """
    if name not in STATISTICS:
        raise UsageError(f'there is no data set "{name}"', [Offence("unknown name", remedy=nearest(name, STATISTICS))])
    if not folder.is_dir():
        remedy = "give the data folder with --data, or in FROSTLINE_DATA"
        raise UsageError(f"cannot read {name}", [Offence(f"there is no folder {folder}", remedy=remedy)])
    if name == "imagenette":
        return _imagenette(folder, size or 128)
    if name == "folder":
        return _folder(folder, size or 224)
    if size not in (None, SIDE):
        raise UsageError(f"the images of {name} have {SIDE} pixels a side, not {size}")
    return _cifar(folder / name)


def _cifar(folder: Path) -> Data:
    def damaged(what: str, path: Path) -> UsageError:
        remedy = f"the official source is {SOURCE}; examples/cifar/data.py describes the mosaics made from it"
        return UsageError(f"cannot read {folder.name}", [Offence(what, str(path), remedy)])

    path = folder / "labels.npy"
    try:
        labels = np.load(path)
        path = folder / "classes.txt"
        classes = len(path.read_text(encoding="utf-8").split())
    except (OSError, ValueError, EOFError) as error:
        raise damaged(_reason(error), path) from error
    path = folder / "labels.npy"
    if labels.dtype != np.uint8 or labels.ndim != 1 or not len(labels) or len(labels) % 6:
        raise damaged(f"{labels.dtype}{list(labels.shape)} is not uint8, six for five training images and a test", path)
    if set(labels.tolist()) != set(range(classes)):
        raise damaged(f"the labels are not all of 0..{classes - 1}, as classes.txt has {classes} lines", path)
    names = [f"{index:02}.webp" for index in range(-(-len(labels) // GRID**2))]
    if extra := sorted({path.name for path in folder.glob("*.webp")} - set(names)):
        raise damaged(f"{len(labels)} labels are for {len(names)} mosaics, but there is {extra[0]} as well", path)
    mosaics: list[Bytes] = []
    for name in names:
        try:
            mosaics.append(_tiles(folder / name))
        except (OSError, ValueError) as error:
            raise damaged(_reason(error), folder / name) from error
    images = np.concatenate(mosaics)
    if images[len(labels) :].any():
        raise damaged(f"there are images without a label after the {len(labels)}th", path)
    whole = _split(images[: len(labels)], labels)
    training = len(labels) // 6 * 5
    return Data(
        Split(whole.images[:training], whole.labels[:training]),
        Split(whole.images[training:], whole.labels[training:]),
        classes,
    )


def _tiles(path: Path) -> Bytes:
    """The images `[1024, 32, 32, 3]` of one mosaic."""
    with Image.open(path) as mosaic:
        pixels = np.asarray(mosaic.convert("RGB"))
    if pixels.shape != (GRID * SIDE, GRID * SIDE, 3):
        raise ValueError(f"it has {pixels.shape[1]} x {pixels.shape[0]} pixels, not {GRID * SIDE} x {GRID * SIDE}")
    tiles = pixels.reshape(GRID, SIDE, GRID, SIDE, 3).transpose(0, 2, 1, 3, 4)
    return tiles.reshape(GRID**2, SIDE, SIDE, 3)


def _imagenette(folder: Path, size: int) -> Data:
    def read(part: str) -> Split:
        path = folder / f"imagenette128-{part}.npz"
        try:
            with np.load(path) as arrays:
                content, ends, labels = arrays["data"], arrays["end"].tolist(), arrays["label"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UsageError("cannot read imagenette", [Offence(_reason(error), str(path))]) from error
        if len(ends) != len(labels) or ends[-1:] != [len(content)] or ends != sorted(ends):
            raise UsageError("cannot read imagenette", [Offence("its ends do not fit data and labels", str(path))])
        pieces = [content[start:end].tobytes() for start, end in zip([0, *ends], ends, strict=False)]
        return _split(_decode(pieces, lambda piece: io.BytesIO(piece), size, str(path)), labels)

    train, test = read("train"), read("val")
    return Data(train, test, int(train.labels.max()) + 1)


def _folder(folder: Path, size: int) -> Data:
    classes = {part: sorted(path.name for path in (folder / part).glob("*/")) for part in ("train", "val")}
    if not classes["train"] or classes["train"] != classes["val"]:
        what = f"train/ has {len(classes['train'])} classes and val/ {len(classes['val'])}, or others"
        remedy = "both hold one folder of images for each class, of the same names"
        raise UsageError("cannot read the images", [Offence(what, str(folder), remedy)])

    def read(part: str) -> Split:
        names = classes[part]
        files = {name: sorted(path for path in (folder / part / name).iterdir() if path.is_file()) for name in names}
        if empty := [name for name in names if not files[name]]:
            raise UsageError("classes without an image", [Offence("is empty", f"{folder / part / n}") for n in empty])
        labels = np.repeat(np.arange(len(names)), [len(files[name]) for name in names])
        paths = [path for name in names for path in files[name]]
        return _split(_decode(paths, lambda path: path, size, str(folder / part)), labels)

    return Data(read("train"), read("val"), len(classes["train"]))


def _decode(sources: Sequence[Any], opened: Callable[[Any], Any], size: int, where: str) -> Bytes:
    """Images `[n, size, size, 3]`, scaled to the shorter side and cut at the centre, in as many threads as cores."""
    need, there = len(sources) * size * size * 3, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > there:
        what = f"{len(sources)} images of {size} x {size} take {need / 2**30:.0f} GiB of {there / 2**30:.0f}"
        raise UsageError("the images do not fit into memory", [Offence(what, where, "give a smaller --size")])
    images = np.empty((len(sources), size, size, 3), np.uint8)

    def decode(index: int) -> Offence | None:
        try:
            with Image.open(opened(sources[index])) as image:
                fitted = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
                images[index] = np.asarray(fitted)
        except (OSError, UnidentifiedImageError, ValueError) as error:
            source = sources[index] if isinstance(sources[index], Path) else f"{where}, image {index}"
            return Offence(_reason(error), str(source))
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = [fault for fault in pool.map(decode, range(len(sources))) if fault]
    if faults:
        raise UsageError(f"{len(faults)} images are damaged", faults[:10])
    return images


def _split(images: Bytes, labels: Iterable[int]) -> Split:
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return Split(pixels, torch.from_numpy(np.asarray(labels, np.int64)))


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    return (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0] or type(error).__name__
