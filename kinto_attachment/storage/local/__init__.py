"""The local disk as file storage.

An unfinished file is hidden in ``base_path``; ``finish()`` links it to its name and syncs both:
readers find the whole file, or none. Needs a file system with hard links.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime, timezone
from io import FileIO
from pathlib import Path
from stat import S_ISREG

from pyramid_storage.local import LocalFileStorage

from kinto_attachment.storage import names
from kinto_attachment.storage.base import CHUNK_SIZE, FileStorage, OnUnreadable, StoredFile
from kinto_attachment.storage.local import resumable as local_resumable
from kinto_attachment.storage.local.disk import disk_errors, unavailable
from kinto_attachment.storage.local.hidden_file import is_same_file
from kinto_attachment.storage.local.staged import LocalStagedFile
from kinto_attachment.storage.resumable import ResumableFile, State
from kinto_attachment.storage.staged import NewFile, StagedFile

# Linux's PATH_MAX has the NUL at the end, too.
_MAX_PATH_BYTES = 4095


class LocalStorage(FileStorage, LocalFileStorage):
    """Files below the folder ``base_path``, which is created with the first one.

    Only regular files count, no symbolic links. See ``PyramidStorage`` for ``base_url`` and
    ``extensions``.
    """

    has_folders = True

    def __init__(
        self,
        base_path: str | os.PathLike[str],
        base_url: str = "",
        extensions: str | Iterable[str] = "default",
    ) -> None:
        super().__init__(base_url, extensions)
        self._root = Path(base_path).absolute()
        self.base_path = str(self._root)

    def folds_case(self) -> bool:
        with disk_errors(f"look at {self._root}"):
            # A new folder may be empty, or missing: then those around it tell.
            for folder in (self._root, *self._root.parents):
                if (folds_case := _folds_case(folder)) is not None:
                    return folds_case
        return False

    def refuses(self, name: str) -> str | None:
        if any(len(segment.encode()) > names.MAX_BYTES for segment in name.split("/")):
            return f"has more than {names.MAX_BYTES} bytes between two slashes"
        if len(os.fsencode(f"{self.base_path}/{name}")) > _MAX_PATH_BYTES:
            return f"makes a path of more than {_MAX_PATH_BYTES} bytes"
        return None

    def stage(self, new: NewFile) -> StagedFile:
        return LocalStagedFile(self._root, _without_acl(new))

    def create(self, new: NewFile) -> State:
        return local_resumable.create(self._root, _without_acl(new))

    def resume(self, state: State) -> ResumableFile:
        return local_resumable.LocalResumableFile(self._root, state)

    def used_by(self, state: State) -> frozenset[str]:
        return local_resumable.used_by(state)

    def _cancel(self, state: State) -> None:
        local_resumable.cancel(self._root, state)

    def _chunks(self, name: str, start: int, stop: int | None) -> Generator[bytes, None, None]:
        # Not the public method: who measures the storage's methods would count one read as two.
        with self._opened(name) as file, disk_errors(f"read {file.name}", name):
            yield b""
            position = file.seek(start)
            while stop is None or position < stop:
                rest = CHUNK_SIZE if stop is None else stop - position
                chunk = file.read(min(CHUNK_SIZE, rest))
                if not chunk:
                    break
                position += len(chunk)
                yield chunk

    def open_on_disk(self, name: str) -> FileIO:
        return self._opened(name)

    def _opened(self, name: str) -> FileIO:
        path = self._existing_path(name)
        with disk_errors(f"read {path}", name):
            file = _open(path)
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise names.no_such_file(name)
        return file

    def stat(self, name: str) -> StoredFile:
        path = self._existing_path(name)
        with disk_errors(f"look up {path}", name):
            found = path.lstat()
        if not S_ISREG(found.st_mode):
            raise names.no_such_file(name)
        return _describe(name, found)

    def list(
        self, on_unreadable: OnUnreadable | None = None, prefix: str = ""
    ) -> Iterator[StoredFile]:
        with disk_errors(f"list {self.base_path}"):
            yield from _walk(self.base_path, "", prefix, on_unreadable)

    def delete(self, name: str) -> bool:
        try:
            self.stat(name)
            path = self._existing_path(name)
            with disk_errors(f"delete {path}", name):
                path.unlink()
        except FileNotFoundError:
            return False
        return True

    def _existing_path(self, name: str) -> Path:
        if not names.is_valid(name, "surrogateescape"):
            raise names.no_such_file(name)
        return self._root / name


def _without_acl(new: NewFile) -> NewFile:
    if new.acl is not None:
        raise TypeError("files on the local disk have no acl")
    return new


def _open(path: Path) -> FileIO:
    """Open for reading: do not wait for a FIFO's writer, do not follow a symbolic link
    (``ELOOP``)."""
    return FileIO(
        str(path), opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    )


def _describe(name: str, found: os.stat_result) -> StoredFile:
    modified = datetime.fromtimestamp(found.st_mtime, timezone.utc)
    return StoredFile(name=name, size=found.st_size, modified=modified)


def _folds_case(folder: Path) -> bool | None:
    """Whether an entry of the folder has its name in the other case as well; ``None`` if there is
    none that tells."""
    with contextlib.suppress(FileNotFoundError, PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            other = entry.name.swapcase()
            if entry.name.isascii() and other != entry.name:
                return is_same_file(folder / other, entry.stat(follow_symlinks=False))
    return None


def _walk(
    folder: str, parent: str, prefix: str, on_unreadable: OnUnreadable | None
) -> Iterator[StoredFile]:
    """Yield the files below ``folder`` whose names, ``parent`` and the rest, start with
    ``prefix``. Raises ``PermissionError`` if it is unreadable itself."""
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            name = f"{parent}{entry.name}"
            if not f"{name}/".startswith(prefix) and not prefix.startswith(f"{name}/"):
                continue
            if entry.is_dir(follow_symlinks=False):
                try:
                    yield from _walk(entry.path, f"{name}/", prefix, on_unreadable)
                except PermissionError as error:
                    if on_unreadable is None:
                        raise
                    on_unreadable(name, unavailable(f"list {entry.path}", error))
            elif entry.is_file(follow_symlinks=False) and name.startswith(prefix):
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # deleted since scandir() saw it
                    continue
                yield _describe(name, found)
