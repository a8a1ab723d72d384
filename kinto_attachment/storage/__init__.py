"""The file storage: where the bytes are, and the promises that every backend keeps.

A file is first *staged*: written chunk by chunk where no reader sees it. ``finish()`` makes it
durable and gives it a name that no other file has, or ever gets; ``discard()`` leaves nothing.
Callers see the exceptions of this module and Python's ``FileNotFoundError``, never those of a
provider.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any


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
    """A file that is being received. Nobody can read it before ``finish()``."""

    @abc.abstractmethod
    def write(self, chunk: bytes) -> None:
        """Append ``chunk``. Memory held is constant, whatever has been written before.

        Raises ``StorageUnavailable``; the file can then only be discarded.
        """

    @abc.abstractmethod
    def finish(self) -> str:
        """Make the file durable and visible; return the relative name that it got.

        Once it returns, the file survives a power cut. Never overwrites: if the wanted name is
        taken, the file gets the next free one (``a.txt``, ``a-1.txt``, ``a-2.txt``...).
        Raises ``StorageUnavailable``, and then nothing is visible.
        """

    @abc.abstractmethod
    def discard(self) -> None:
        """Forget an unfinished file, and release what it holds: memory, descriptors, parts.

        Does nothing on a file that was finished or discarded already. Never raises: what cannot
        be removed now is logged, and left for ``kinto-attachment gc``.
        """


class FileStorage(abc.ABC):
    """What kinto-attachment asks of a backend, on top of pyramid_storage's own methods.

    One instance serves all the threads of a process.
    """

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
        the storage serves it. ``size`` is the expected size in bytes, a hint.
        Raises ``StorageUnavailable``.
        """

    @abc.abstractmethod
    def read(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes ``start`` to ``stop`` (exclusive; to the end if ``None``) in chunks.

        Raises ``FileNotFoundError`` if there is no such file, ``StorageUnavailable``; both when
        called, not at the first chunk.
        """

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

    @abc.abstractmethod
    def exists(self, name: str) -> bool:
        """Whether the file is there. Raises ``StorageUnavailable`` if that cannot be told."""

    @abc.abstractmethod
    def url(self, name: str) -> str:
        """The public URL of the file: ``base_url`` followed by the name."""

    @abc.abstractmethod
    def filename_allowed(self, filename: str, extensions: Any = None) -> bool:
        """Whether the extension of ``filename`` is one of ``extensions`` (pyramid_storage)."""
