from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from examples.cifar.data import Split, load
from frostline.errors import UsageError
from tests.examples.conftest import write_mosaics


def test_images_stand_row_by_row_and_the_last_sixth_is_the_test_set(tmp_path: Path) -> None:
    labels = [index % 3 for index in range(1026)]
    images = write_mosaics(tmp_path / "cifar100", labels, 3)
    found = load("cifar100", tmp_path)
    assert (len(found.train), len(found.test), found.classes, found.size) == (855, 171, 3, 32)
    read = torch.cat([found.train.images, found.test.images]).numpy().transpose(0, 2, 3, 1)
    assert np.array_equal(read, images)
    assert torch.cat([found.train.labels, found.test.labels]).tolist() == labels


def _shorter(folder: Path) -> None:
    np.save(folder / "labels.npy", np.load(folder / "labels.npy")[:90])


def _of_another_type(folder: Path) -> None:
    np.save(folder / "labels.npy", np.load(folder / "labels.npy").astype(np.float32))


def _out_of_range(folder: Path) -> None:
    np.save(folder / "labels.npy", np.load(folder / "labels.npy") + np.uint8(1))


def _truncated(folder: Path) -> None:
    path = folder / "00.webp"
    path.write_bytes(path.read_bytes()[:200])


def _smaller(folder: Path) -> None:
    Image.new("RGB", (64, 32)).save(folder / "00.webp")


DAMAGES: dict[Callable[[Path], object], str] = {
    lambda folder: (folder / "00.webp").unlink(): r"00.webp: it is not there",
    lambda folder: (folder / "labels.npy").unlink(): r"labels.npy: it is not there",
    lambda folder: (folder / "labels.npy").write_bytes(b""): r"labels.npy: ",
    lambda folder: (folder / "classes.txt").unlink(): r"classes.txt: it is not there",
    lambda folder: (folder / "01.webp").write_bytes(b""): r"96 labels are for 1 mosaics, but there is 01.webp",
    _shorter: r"labels.npy: there are images without a label after the 90th",
    _of_another_type: r"labels.npy: float32\[96\] is not uint8",
    _out_of_range: r"labels.npy: the labels are not all of 0..3",
    _truncated: r"00.webp: ",
    _smaller: r"00.webp: it has 64 x 32 pixels, not 1024 x 1024",
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.items(), ids=range(len(DAMAGES)))
def test_damage_is_named_with_the_file_and_the_source(
    mosaics: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(mosaics / "cifar10")
    with pytest.raises(UsageError, match=message) as caught:
        load("cifar10", mosaics)
    assert "cs.toronto.edu/~kriz/cifar.html" in str(caught.value)


def test_what_is_not_there(mosaics: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*\n.*--data"):
        load("cifar10", mosaics / "elsewhere")
    with pytest.raises(UsageError, match=r"labels.npy: it is not there"):
        load("cifar100", mosaics)
    with pytest.raises(UsageError, match=r"imagenette128-train.npz: it is not there"):
        load("imagenette", mosaics)
    with pytest.raises(UsageError, match='did you mean "cifar10"'):
        load("cifar-10", mosaics)
    with pytest.raises(UsageError, match="32 pixels a side, not 64"):
        load("cifar10", mosaics, 64)


def test_a_share_takes_the_first_of_every_class() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 0, 1, 1, 2])
    split = Split(torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 3, 2, 2), labels)
    assert split.share(0.5).images[:, 0, 0, 0].tolist() == [0, 1, 4, 5, 9]
    assert len(split.share(1)) == 10


def _webp(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (128, 128), colour).save(file, "webp")
    return file.getvalue()


def test_imagenette_is_decoded_and_scaled(tmp_path: Path) -> None:
    files = [_webp((250, 10, 10)), _webp((10, 10, 250))]
    ends = np.cumsum([len(file) for file in files]).astype(np.uint32)
    content = np.frombuffer(b"".join(files), np.uint8)
    for part in ("train", "val"):
        np.savez(tmp_path / f"imagenette128-{part}.npz", data=content, end=ends, label=np.array([0, 1], np.uint8))
    found = load("imagenette", tmp_path, 64)
    assert found.train.images.shape == (2, 3, 64, 64)
    assert found.test.images.float().mean((2, 3)).argmax(1).tolist() == [0, 2]
    np.savez(tmp_path / "imagenette128-val.npz", data=content[:-1], end=ends, label=np.array([0, 1], np.uint8))
    with pytest.raises(UsageError, match=r"imagenette128-val.npz: its ends do not fit"):
        load("imagenette", tmp_path, 64)
    broken = np.concatenate([content[: ends[0]], np.zeros(ends[1] - ends[0], np.uint8)])
    np.savez(tmp_path / "imagenette128-val.npz", data=broken, end=ends, label=np.array([0, 1], np.uint8))
    with pytest.raises(UsageError, match=r"1 images are damaged\n.*imagenette128-val.npz, image 1: "):
        load("imagenette", tmp_path, 64)


def test_a_folder_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("train", "val"):
        for index, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("L", (50, 40), 200 * index).save(tmp_path / part / name / "one.jpg")
    found = load("folder", tmp_path, 24)
    assert (found.classes, found.train.images.shape) == (2, (2, 3, 24, 24))
    assert found.train.labels[found.train.images.float().mean((1, 2, 3)) > 100].tolist() == [1]
    monkeypatch.setattr(os, "sysconf", lambda name: 40)
    with pytest.raises(UsageError, match=r"do not fit into memory\n.*\n.*give a smaller --size"):
        load("folder", tmp_path, 24)
    monkeypatch.undo()
    (tmp_path / "val" / "dog" / "one.jpg").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"1 images are damaged\n.*val/dog/one.jpg: cannot identify"):
        load("folder", tmp_path, 24)
    (tmp_path / "val" / "dog").rename(tmp_path / "val" / "wolf")
    with pytest.raises(UsageError, match="train/ has 2 classes and val/ 2, or others"):
        load("folder", tmp_path, 24)
