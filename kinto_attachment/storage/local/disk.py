"""Errors of the local disk as the storage's own, and folders that survive a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from kinto_attachment.storage import names
from kinto_attachment.storage.base import StorageUnavailable

_Result = TypeVar("_Result")

_ATTEMPTS = 10

# The system's errors for a name that no file has, or can have.
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}


@contextlib.contextmanager
def disk_errors(doing: str, name: str | None = None) -> Iterator[None]:
    """Turn ``OSError`` into ``StorageUnavailable`` ("cannot (doing)"); with a ``name``, into
    ``FileNotFoundError`` if there is no file of that name."""
    try:
        yield
    except OSError as error:
        if name is not None and error.errno in _NO_SUCH_FILE:
            raise names.no_such_file(name) from error
        raise unavailable(doing, error) from error


def unavailable(doing: str, error: OSError) -> StorageUnavailable:
    """Return the storage's own error: "cannot (doing)"."""
    wrapped = StorageUnavailable(f"cannot {doing}: {error.strerror}")
    wrapped.__cause__ = error
    return wrapped


def in_folder(folder: Path, action: Callable[[], _Result]) -> _Result:
    """Create ``folder`` if it is missing, then return ``action()``. Retries if another process
    removes the empty folder in between."""
    attempts_left = _ATTEMPTS
    while True:
        attempts_left -= 1
        try:
            _make_folder(folder)
            return action()
        except FileNotFoundError:
            if not attempts_left:
                raise


def _make_folder(folder: Path) -> None:
    """``mkdir -p``, durably. Raises ``NotADirectoryError`` if a file has the name: callers take
    ``FileExistsError`` for a taken file name."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if os.path.lexists(folder) and not folder.is_dir():
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)
            ) from None
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
