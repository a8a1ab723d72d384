"""The file storage: where the bytes are, and the promises that every backend keeps.

A file is first *staged*: written chunk by chunk where no reader sees it. ``finish()`` makes it
durable and gives it a name that no other file has; ``discard()`` leaves nothing. Where several
requests send it, it is *created*, and each of them *resumes* it (see ``resumable``).
Callers see the exceptions of this module and Python's ``FileNotFoundError``, never those of a
provider.
"""

from __future__ import annotations

import abc
import logging
import mimetypes
import os
import posixpath
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

from pyramid_storage.exceptions import FileNotAllowed
from pyramid_storage.extensions import resolve_extensions

from kinto_attachment.storage import names
from kinto_attachment.storage.resumable import ResumableStorage

logger = logging.getLogger(__name__)

_CHUNK_SIZE = 256 * 1024
_DELETED_AT_ONCE = 8
_DELETED_IN_TURN = 100
_Result = TypeVar("_Result")


class StorageUnavailable(Exception):
    """The storage cannot do its work now (disk full, server down, credentials refused).

    The message says what was tried; ``__cause__`` is the provider's own error.
    """


@dataclass(frozen=True)
class StoredFile:
    """A finished file as the storage knows it.

    ``name`` is relative, with ``/`` between folder and file; ``size`` is in bytes; ``modified``
    is an aware datetime in UTC.
    """

    name: str
    size: int
    modified: datetime


class StagedFile(abc.ABC):
    """A file that is being received. Nobody can read it before ``finish()``.

    Belongs to one thread at a time. A backend implements ``_write``, ``_finish`` and
    ``_discard``; each is called at most as the public methods promise.
    """

    _closed = False

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``. Memory held is constant, whatever has been written before.

        Raises ``StorageUnavailable``, and then the file is discarded. Raises ``ValueError`` on a
        file that was finished or discarded.
        """
        self._attempt(self._write, chunk)

    def finish(self) -> str:
        """Make the file durable and visible; return the relative name that it got.

        Once it returns, the file survives a power cut. Never overwrites: if the wanted name is
        taken, the file gets the next free one (``a.txt``, ``a-1.txt``, ``a-2.txt``...).
        Raises ``StorageUnavailable``, and then the file is discarded and nothing is visible.
        Raises ``ValueError`` on a file that was finished or discarded.
        """
        name = self._attempt(self._finish)
        self._closed = True
        return name

    def discard(self) -> None:
        """Forget an unfinished file, and release what it holds: memory, descriptors, parts.

        Does nothing on a file that was finished or discarded already. Never raises: what cannot
        be removed now is logged, and left for ``kinto-attachment gc``.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._discard()
        except Exception:
            logger.warning("An upload could not be discarded entirely", exc_info=True)

    def _attempt(self, step: Callable[..., _Result], *args: Any) -> _Result:
        if self._closed:
            raise ValueError("the staged file was finished or discarded")
        try:
            return step(*args)
        except BaseException:
            self.discard()
            raise

    @abc.abstractmethod
    def _write(self, chunk: bytes) -> None: ...

    @abc.abstractmethod
    def _finish(self) -> str: ...

    @abc.abstractmethod
    def _discard(self) -> None: ...


class FileStorage(ResumableStorage):
    """What kinto-attachment asks of a backend; pyramid_storage's own methods stand on top of it.

    One instance serves all the threads of a process.

    ``base_url`` is where the files are served, and ends with a slash unless it is empty.
    ``extensions`` are those that pyramid_storage's ``save`` methods let through by default:
    pyramid_storage's notation (``images+txt``), or a collection of lower-case extensions without
    dots. An empty one lets every file through.
    """

    def __init__(self, base_url: str = "", extensions: str | Iterable[str] = "default") -> None:
        self.base_url = base_url if not base_url or base_url.endswith("/") else f"{base_url}/"
        self.extensions = _resolve(extensions)

    @abc.abstractmethod
    def stage(
        self,
        filename: str,
        *,
        folder: str = "",
        randomize: bool = True,
        content_type: str = "application/octet-stream",
        size: int | None = None,
    ) -> StagedFile:
        """Start a new file.

        ``filename`` is what the file should be called; the stored name is made safe (ASCII
        letters, digits, ``_.-``), keeps its extension, and is cut to 255 bytes. With
        ``randomize`` only the extension is taken from it, and the rest is a UUID4. ``folder`` is a
        relative path with ``/``, trusted. ``content_type`` is what the file is served as, where
        the storage serves it: ASCII, without control characters. ``size`` is the expected size in
        bytes, a hint.
        Raises ``StorageUnavailable``; ``ValueError`` if ``folder`` leads out of the storage.
        """

    def read(
        self, name: str, start: int = 0, stop: int | None = None
    ) -> Generator[bytes, None, None]:
        """Yield the bytes ``start`` to ``stop`` (exclusive; to the end if ``None``) in chunks.

        ``start`` is not negative; past the end there is nothing. Whoever stops before the end
        calls ``close()`` on what is returned. Raises ``FileNotFoundError`` if there is no such
        file, ``StorageUnavailable``; both when called, not at the first chunk.
        """
        chunks = self._chunks(name, start, stop)
        # The first, empty chunk comes once the file is open: errors are raised here, and from
        # now on close() reaches the generator's clean-up, which it would not before the start.
        next(chunks)
        return chunks

    @abc.abstractmethod
    def _chunks(self, name: str, start: int, stop: int | None) -> Generator[bytes, None, None]:
        """Open the file, yield ``b""``, then its chunks; release it when closed."""

    @abc.abstractmethod
    def stat(self, name: str) -> StoredFile:
        """Describe the file. Raises ``FileNotFoundError``, ``StorageUnavailable``."""

    @abc.abstractmethod
    def list(self) -> Iterator[StoredFile]:
        """Yield every file of the storage, in constant memory, leftovers of killed uploads
        included. Raises ``StorageUnavailable``."""

    @abc.abstractmethod
    def delete(self, name: str) -> bool:
        """Delete the file. Returns ``False`` if it was not there (S3 may not know: ``True``).

        Raises ``StorageUnavailable``.
        """

    def delete_many(self, names: Iterable[str]) -> Iterator[tuple[str, StorageUnavailable | None]]:
        """Delete files, several at a time, in constant memory.

        Yields the name of each, in their order, with the reason if it could not be deleted.
        """
        iterator = iter(names)
        with ThreadPoolExecutor(_DELETED_AT_ONCE, "kinto-attachment-delete") as threads:
            while some := list(islice(iterator, _DELETED_IN_TURN)):
                # One alone is not worth a thread.
                each = threads.map if len(some) > 1 else map
                yield from zip(some, each(self._why_not_deleted, some), strict=True)

    def _why_not_deleted(self, name: str) -> StorageUnavailable | None:
        try:
            self.delete(name)
        except StorageUnavailable as error:
            return error
        return None

    def exists(self, name: str) -> bool:
        """Whether the file is there. Raises ``StorageUnavailable`` if that cannot be told."""
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    def url(self, name: str) -> str:
        """The public URL of the file: ``base_url`` followed by the name, percent-encoded."""
        return self.base_url + quote(name)

    def filename_allowed(
        self, filename: str, extensions: str | Iterable[str] | None = None
    ) -> bool:
        """Whether the extension of ``filename`` is one of ``extensions`` (the storage's own if
        ``None``; any is if they are empty), in whatever case."""
        return self.extension_allowed(posixpath.splitext(filename)[1], extensions)

    def extension_allowed(self, ext: str, extensions: str | Iterable[str] | None = None) -> bool:
        """The same for an extension, with or without its dot."""
        allowed = self.extensions if extensions is None else _resolve(extensions)
        return not allowed or ext.removeprefix(".").lower() in allowed

    def save(self, fs: Any, *args: Any, **kwargs: Any) -> str:
        """Store the upload ``fs`` (``fs.file``, ``fs.filename``); see ``save_file``."""
        return self.save_file(fs.file, fs.filename, *args, **kwargs)

    def save_filename(self, filename: str, *args: Any, **kwargs: Any) -> str:
        """Store a copy of the local file at the path ``filename``; see ``save_file``."""
        with open(filename, "rb") as file:  # noqa: PTH123 - its errors are the caller's
            return self.save_file(file, filename, *args, **kwargs)

    def save_file(
        self,
        file: BinaryIO,
        filename: str,
        folder: str | None = None,
        randomize: bool = False,
        extensions: str | Iterable[str] | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> str:
        """Store the seekable binary ``file``, from its start; return its relative name.

        It is served as ``headers["Content-Type"]``, or as what the extension says. ``options``
        are those of the backend's ``stage`` (``acl`` on S3); an unknown one is a ``TypeError``.
        Raises ``pyramid_storage.exceptions.FileNotAllowed``, ``StorageUnavailable``.
        """
        if not self.filename_allowed(filename, extensions):
            raise FileNotAllowed()
        # Not of the raw name: guess_type() reads a type out of a name that starts with "data:".
        guessed = mimetypes.guess_type(names.safe(filename))[0]
        content_type = (headers or {}).get("Content-Type") or guessed
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        staged = self.stage(
            filename,
            folder=folder or "",
            randomize=randomize,
            content_type=content_type or "application/octet-stream",
            size=size,
            **options,
        )
        try:
            while chunk := file.read(_CHUNK_SIZE):
                staged.write(chunk)
            return staged.finish()
        finally:
            staged.discard()


def _resolve(extensions: str | Iterable[str]) -> frozenset[str]:
    return frozenset(resolve_extensions(extensions) if isinstance(extensions, str) else extensions)
