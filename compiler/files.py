"""Files are written whole or not at all: beside their place first, then renamed."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from frostline.errors import FileError, Offence


def whole(path: str | Path) -> bytes:
    """What a file holds. Raises OSError, also for what is no file, such as a device without end."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(errno.EINVAL, "it is no file")
        return Path(path).read_bytes()
    except ValueError as error:
        raise OSError(errno.EINVAL, "this cannot be the name of a file") from error
    except MemoryError as error:
        raise OSError(errno.ENOMEM, "it is larger than the memory") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the context ends well, and vanishes when it does not.

    Raises FileError when the folder does not exist or cannot be written, or the disk is full.
    """
    path = Path(path)
    if not _is_folder(path.parent):
        remedy = f"create {path.parent} first"
        raise FileError(f"cannot write {path}", [Offence(f"there is no folder {path.parent}", remedy=remedy)])
    if _is_folder(path):
        raise FileError(f"cannot write {path}", [Offence("it is a folder", remedy="give the name of a file")])
    try:
        handle, name = _part(path)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot write {path}", [Offence(getattr(error, "strerror", None) or str(error))]) from error
    try:
        yield Path(name)
        with open(name, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
        _settle(path.parent)
    except OSError as error:
        raise FileError(f"cannot write {path}", [Offence(error.strerror or str(error))]) from error
    finally:
        with suppress(OSError):
            os.unlink(name)
        os.close(handle)


def sweep(folder: str | Path, names: str = "*") -> None:
    """Remove what killed processes left half written of files whose names match; what is being written stays."""
    for left in Path(folder).glob(f".{names}.????????.part"):
        with suppress(OSError), open(left, "rb") as part:
            if _lock(part.fileno()):
                left.unlink()


def _part(path: Path) -> tuple[int, str]:
    """A new empty part, locked. The lock ends with the process, however that ends: `sweep` tells by it what is left."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        _lock(handle, wait=True)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # swept away before it was locked


def _lock(handle: int, wait: bool = False) -> bool:
    """Whether a file is locked for us now. Where files cannot be locked none is, and nothing is ever swept away."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True


def _settle(folder: Path) -> None:
    """Let a rename survive a loss of power, too; some file systems do not take it, and need not."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, or a folder that may not be read
        return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
