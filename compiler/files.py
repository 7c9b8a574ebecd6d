"""Files are written whole or not at all: beside their place first, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from frostline.errors import FileError, Offence


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the context ends well, and vanishes when it does not.

    Raises FileError when the folder does not exist or cannot be written, or the disk is full.
    """
    path = Path(path)
    if not path.parent.is_dir():
        remedy = f"create {path.parent} first"
        raise FileError(f"cannot write {path}", [Offence(f"there is no folder {path.parent}", remedy=remedy)])
    if path.is_dir():
        raise FileError(f"cannot write {path}", [Offence("it is a folder", remedy="give the name of a file")])
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise FileError(f"cannot write {path}", [Offence(error.strerror or str(error))]) from error
    try:
        yield Path(name)
        with open(name, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except OSError as error:
        raise FileError(f"cannot write {path}", [Offence(error.strerror or str(error))]) from error
    finally:
        with suppress(OSError):
            os.unlink(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
