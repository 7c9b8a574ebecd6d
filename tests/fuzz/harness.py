"""Runs atheris over one border for so many seconds, and leaves what breaks it in a folder.

```bash
python -m tests.fuzz.spec --seconds 60
```
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import atheris


def fuzz(border: str, seeds: str, words: Iterable[str]) -> None:
    """Fuzz the function `border` of tests/fuzz/borders.py, from what the function `seeds` returns on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--found", default="build/fuzz/", help="the folder for what breaks it")
    given = parser.parse_args()
    Path(given.found).parent.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["frostline"], enable_loader_override=False):
        borders = importlib.import_module("tests.fuzz.borders")
    beginnings = importlib.import_module("tests.fuzz.seeds")
    with tempfile.TemporaryDirectory() as folder:
        corpus, dictionary = Path(folder) / "corpus", Path(folder) / "words"
        corpus.mkdir()
        for index, seed in enumerate(getattr(beginnings, seeds)()):
            (corpus / str(index)).write_bytes(seed)
        dictionary.write_text("".join(f'"{word}"\n' for word in words))
        options = ["-timeout=60", "-rss_limit_mb=6000", "-max_len=60000", f"-artifact_prefix={given.found}"]
        arguments = [sys.argv[0], f"-max_total_time={given.seconds}", f"-dict={dictionary}", *options, str(corpus)]
        atheris.Setup(arguments, getattr(borders, border))
        atheris.Fuzz()
