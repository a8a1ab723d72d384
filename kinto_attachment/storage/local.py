"""The local disk as file storage.

A staged file lies hidden in ``base_path``; finishing syncs it and links it into place, so that a
reader finds the whole file under its name, or nothing. Needs a file system with hard links.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import datetime, timezone
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import TypeVar

from pyramid_storage.local import LocalFileStorage

from kinto_attachment.storage import FileStorage, StagedFile, StorageUnavailable, StoredFile, names

_Result = TypeVar("_Result")

_CHUNK_SIZE = 256 * 1024
_ATTEMPTS = 10

# What the system answers where there is no file, or cannot be one.
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}


class LocalStorage(FileStorage, LocalFileStorage):
    """Files below the folder ``base_path``, which is made when the first one comes.

    Only regular files count: folders and symbolic links are no files of the storage. See
    ``FileStorage`` for ``base_url`` and ``extensions``.
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str],
        base_url: str = "",
        extensions: str | Iterable[str] = "default",
    ) -> None:
        super().__init__(base_url, extensions)
        self._root = Path(base_path).absolute()
        self.base_path = str(self._root)

    def stage(
        self,
        filename: str,
        *,
        folder: str = "",
        randomize: bool = True,
        content_type: str = "application/octet-stream",
        size: int | None = None,
    ) -> StagedFile:
        name = names.randomized(filename) if randomize else names.safe(filename)
        return _LocalStagedFile(self._root, names.join(folder, name))

    def _chunks(self, name: str, start: int, stop: int | None) -> Generator[bytes, None, None]:
        path = self._existing_path(name)
        with _disk_errors(f"read {path}", name), _open(path) as file:
            if not S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _no_such_file(name)
            yield b""
            position = file.seek(start)
            while stop is None or position < stop:
                rest = _CHUNK_SIZE if stop is None else stop - position
                chunk = file.read(min(_CHUNK_SIZE, rest))
                if not chunk:
                    break
                position += len(chunk)
                yield chunk

    def stat(self, name: str) -> StoredFile:
        path = self._existing_path(name)
        with _disk_errors(f"look up {path}", name):
            found = path.lstat()
        if not S_ISREG(found.st_mode):
            raise _no_such_file(name)
        return _describe(name, found)

    def list(self) -> Iterator[StoredFile]:
        with _disk_errors(f"list {self.base_path}"):
            yield from _walk(self.base_path, "")

    def delete(self, name: str) -> bool:
        try:
            self.stat(name)
            path = self._existing_path(name)
            with _disk_errors(f"delete {path}", name):
                path.unlink()
        except FileNotFoundError:
            return False
        return True

    def _existing_path(self, name: str) -> Path:
        if not names.is_inside(name, "surrogateescape"):
            raise _no_such_file(name)
        return self._root / name


class _LocalStagedFile(StagedFile):
    """A hidden file in ``root`` itself, so that the link stays in one file system."""

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._name = name
        self._part = root / names.part()
        self._linked: Path | None = None
        # Not tempfile's mode 0600: whoever serves the files may be another user.
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        with _disk_errors(f"write to {root}"):
            self._fd = _in_folder(root, lambda: os.open(self._part, flags, 0o666))

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        with _disk_errors(f"write to {self._part}"):
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    def _finish(self) -> str:
        with _disk_errors(f"store {self._name} in {self._root}"):
            os.fsync(self._fd)
            # Some file systems report a failed write only here.
            self._close()
            name = names.claim(self._name, self._link, self._taken)
            self._part.unlink(missing_ok=True)
            # Every folder up to the root: one of them may have been made by another process,
            # that has not come to syncing its parent yet.
            folder = (self._root / name).parent
            _sync_folder(folder)
            while folder != self._root:
                folder = folder.parent
                _sync_folder(folder)
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # every one of them, whichever fails
            if self._linked is not None:
                steps.callback(self._linked.unlink, missing_ok=True)
            steps.callback(self._part.unlink, missing_ok=True)
            steps.callback(self._close)

    def _link(self, name: str) -> bool:
        """Give the file this name as well, unless it is taken: the kernel decides, atomically."""
        path = self._root / name
        try:
            _in_folder(path.parent, lambda: path.hardlink_to(self._part))
        except FileExistsError:
            return False
        self._linked = path
        return True

    def _taken(self, name: str) -> bool:
        return os.path.lexists(self._root / name)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def _disk_errors(doing: str, name: str | None = None) -> Iterator[None]:
    """Turn the system's errors into the storage's; where ``name`` is given, those that mean that
    it is no file into ``FileNotFoundError``."""
    try:
        yield
    except OSError as error:
        if name is not None and error.errno in _NO_SUCH_FILE:
            raise _no_such_file(name) from error
        raise StorageUnavailable(f"cannot {doing}: {error.strerror}") from error


def _no_such_file(name: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _open(path: Path) -> FileIO:
    """Open for reading, without waiting for a FIFO's writer; ``ELOOP`` for a symbolic link."""
    return FileIO(
        str(path), opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    )


def _describe(name: str, found: os.stat_result) -> StoredFile:
    modified = datetime.fromtimestamp(found.st_mtime, timezone.utc)
    return StoredFile(name=name, size=found.st_size, modified=modified)


def _walk(folder: str, prefix: str) -> Iterator[StoredFile]:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # it went while we were listing
                    continue
                yield _describe(f"{prefix}{entry.name}", found)


def _in_folder(folder: Path, action: Callable[[], _Result]) -> _Result:
    """Make ``folder`` if it is missing, then call ``action()``; again if somebody has removed
    the empty folder in between."""
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
    """``mkdir -p``, durably. Raises ``NotADirectoryError`` where a file has the name: an EEXIST
    from here must not pass for a taken file name."""
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
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
