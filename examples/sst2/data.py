"""SST-2: is a phrase of a film review positive? 67,349 phrases to train on, 872 sentences to measure on."""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frostline.errors import Offence, UsageError

FILE = "sst2.tsv.xz"
COLUMNS = ["split", "label", "sentence"]
SOURCE = (
    f"make {FILE} from GLUE's SST-2 (https://gluebenchmark.com/tasks): tab-separated columns {', '.join(COLUMNS)}, "
    "splits train and dev, labels 0 and 1, compressed with xz; and name its folder by --data or FROSTLINE_DATA"
)
_SHOWN = 5

Split = list[tuple[str, int]]
"""Sentences with their labels, 1 for positive."""


def read(folder: Path | None) -> tuple[Split, Split]:
    """The splits train and dev of `sst2.tsv.xz` in a folder.

    Raises UsageError, with the file and where to get it, when it is missing, damaged, or not such a table.
    """
    if folder is None:
        raise UsageError("there is no data", [Offence("no folder was named", remedy=SOURCE)])
    path = folder / FILE
    try:
        with lzma.open(path, "rt", encoding="utf-8", newline="\n") as file:
            header, *lines = file.read().rstrip("\n").split("\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}", [Offence(error.strerror or str(error), remedy=SOURCE)]) from error
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged", [Offence(str(error), remedy=SOURCE)]) from error
    if header.split("\t") != COLUMNS:
        raise UsageError(f"{path} has other columns", [Offence(f"its first line is {header[:80]!r}", remedy=SOURCE)])
    rows = [line.split("\t") for line in lines]
    faults = list(_faults(rows, path))
    if faults:
        more = [Offence(f"and {len(faults) - _SHOWN} more")] if len(faults) > _SHOWN else []
        raise UsageError(f"{path} is not SST-2", [*faults[:_SHOWN], *more])
    train, dev = ([(row[2], int(row[1])) for row in rows if row[0] == split] for split in ("train", "dev"))
    if not (train and dev):
        raise UsageError(f"{path} lacks a split", [Offence(f"{len(train)} rows of train, {len(dev)} of dev")])
    return train, dev


def _faults(rows: Sequence[Sequence[str]], path: Path) -> Iterator[Offence]:
    for number, row in enumerate(rows, 2):
        if len(row) != len(COLUMNS):
            yield Offence(f"{len(row)} columns, not {len(COLUMNS)}", f"{path}:{number}")
        elif row[1] not in ("0", "1"):
            yield Offence(f"the label is {row[1]!r}, not 0 or 1", f"{path}:{number}")


@dataclass(frozen=True)
class Encoded:
    """Sentences on one device: `ids` and `mask` `[n, length]`, `labels` `[n]`, all whole numbers."""

    ids: Tensor
    mask: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, chosen: Tensor | slice) -> dict[str, Tensor]:
        """What BERT is called with, for some of the sentences."""
        return {"input_ids": self.ids[chosen], "attention_mask": self.mask[chosen]}


def encode(split: Split, tokenizer: Any, length: int, device: torch.device) -> Encoded:
    """Tokenise once: padded and cut to `length` tokens, and held on the device."""
    sentences = [sentence for sentence, _ in split]
    tokens = tokenizer(sentences, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    labels = torch.tensor([label for _, label in split])
    return Encoded(tokens["input_ids"].to(device), tokens["attention_mask"].to(device), labels.to(device))


def share(split: Split, fraction: float) -> Split:
    """A part of the sentences, the same for every run: evenly spaced."""
    count = round(len(split) * fraction)
    return [split[index * len(split) // count] for index in range(count)]
