"""The file storage: the promises that every backend keeps.

A file is first *staged*: written chunk by chunk where no reader sees it. ``finish()`` makes it
durable and gives it a name that no other file has; ``discard()`` leaves nothing. A file that
several requests send is *created* once, and each request *resumes* it (see ``resumable``).
Callers see the exceptions of this module and Python's ``FileNotFoundError``, never those of a
provider.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from io import FileIO
from itertools import islice

from kinto_attachment.storage.cleanup import best_effort
from kinto_attachment.storage.pyramid import PyramidStorage
from kinto_attachment.storage.resumable import IncompleteUpload, ResumableFile, State
from kinto_attachment.storage.staged import NewFile, StagedFile

CHUNK_SIZE = 256 * 1024
"""Bytes that are read from a file at once."""

OnUnreadable = Callable[[str, "StorageUnavailable"], object]

_CHECK_CONTENT = b"Heartbeat of kinto-attachment."
_DELETE_THREADS = 8
_DELETE_BATCH = 100


class StorageUnavailable(Exception):
    """The storage cannot do its work now (disk full, server down, credentials refused).

    The message says what was tried; ``__cause__`` is the provider's own error.
    """


class FileTooLargeForStorage(StorageUnavailable):
    """The storage can never take the file: it exceeds a limit on objects or parts, or a quota."""


@dataclass(frozen=True)
class StoredFile:
    """A finished file as the storage knows it.

    ``name`` is relative, with ``/`` between folder and file; ``size`` is in bytes; ``modified``
    is an aware datetime in UTC. Only ``stat()`` tells what follows, and only where the storage
    keeps it.
    """

    name: str
    size: int
    modified: datetime
    content_type: str | None = field(default=None, compare=False)
    """What another program may have written: no header before it is checked."""
    sha256: str | None = field(default=None, compare=False)
    """``NewFile.sha256`` of this very content."""


class FileStorage(PyramidStorage):
    """What kinto-attachment asks of a backend. One instance serves all the threads of a process.

    See ``PyramidStorage`` for ``base_url``, ``extensions`` and the methods of pyramid_storage.
    """

    max_size: int | None = None
    """The size of the largest file in bytes, ``None`` if it is not known. A larger one raises
    ``FileTooLargeForStorage`` on the way."""
    has_folders = False
    """Whether a file cannot have the name of a folder that holds another one."""

    def folds_case(self) -> bool:
        """Whether names that only differ in case are one name. Raises ``StorageUnavailable``."""
        return False

    @abc.abstractmethod
    def refuses(self, name: str) -> str | None:
        """Return why no file here can have this name, valid as it is (see ``names.is_valid``):
        what is said of the name, after "it". ``None`` if one can."""

    @abc.abstractmethod
    def stage(self, new: NewFile) -> StagedFile:
        """Start a file that one request sends.

        Raises ``StorageUnavailable``; ``ValueError`` if ``new.folder`` leads out of the storage.
        """

    @abc.abstractmethod
    def create(self, new: NewFile) -> State:
        """Start a file that several requests send; return its first state.

        Raises what ``stage()`` raises.
        """

    @abc.abstractmethod
    def resume(self, state: State) -> ResumableFile:
        """Open the file where ``state`` was taken; drop what was written after it.

        The caller closes what is returned. A file that was finished meanwhile, as far as that
        can be known, takes no more bytes, and ``finish()`` returns its name.
        Raises ``FileNotFoundError`` if the file was finished or discarded, even partly, or is in
        another storage. Raises ``StorageUnavailable``.
        """

    def cancel(self, state: State) -> None:
        """Remove an unfinished file, with what was written after ``state``, or what is left if
        a part of it is gone already. Keeps a finished one.

        Never raises: what cannot be removed now is logged, and left for ``kinto-attachment gc``.
        """
        best_effort("discard an upload", self._cancel, state)

    @abc.abstractmethod
    def _cancel(self, state: State) -> None: ...

    @abc.abstractmethod
    def used_by(self, state: State) -> frozenset[str]:
        """Return what the unfinished file of ``state`` uses: names that ``list()`` may yield, and
        the ``id`` of what ``incomplete()`` may yield. The name of the finished file is among them
        if it is random: it may become visible at any moment."""

    def incomplete(self) -> Iterator[IncompleteUpload]:
        """Yield every unfinished upload that ``list()`` does not yield, those of ``stage()`` and
        of other programs included. Raises ``StorageUnavailable``."""
        return iter(())

    def abort(self, upload: IncompleteUpload) -> None:  # noqa: B027 - most storages have none
        """Remove an upload of ``incomplete()``. Does nothing if it is gone. Raises
        ``StorageUnavailable``."""

    def watch_retries(  # noqa: B027 - a disk has none
        self, on_retry: Callable[[], object]
    ) -> None:
        """Call ``on_retry()`` from now on whenever a request to the provider is repeated."""

    def check(self) -> None:
        """Raise ``StorageUnavailable`` if files cannot be stored, read and deleted."""
        staged = self.stage(NewFile("heartbeat.txt", content_type="text/plain"))
        try:
            staged.write(_CHECK_CONTENT)
            name = staged.finish()
        finally:
            staged.discard()
        try:
            content = b"".join(self.read(name))
        except FileNotFoundError as error:
            raise StorageUnavailable(f"{name!r} is not there although it was stored") from error
        finally:
            self.delete(name)
        if content != _CHECK_CONTENT:
            raise StorageUnavailable(f"{name!r} has other bytes than were stored")

    def read(
        self, name: str, start: int = 0, stop: int | None = None
    ) -> Generator[bytes, None, None]:
        """Yield the bytes ``start`` to ``stop`` (exclusive; to the end if ``None``) in chunks.

        ``start`` is not negative; past the end there is nothing. A caller that stops early calls
        ``close()`` on the generator. Raises ``FileNotFoundError`` if there is no such file,
        ``StorageUnavailable``; both when called, not at the first chunk.
        """
        chunks = self._chunks(name, start, stop)
        # The first, empty chunk comes once the file is open: errors are raised here, and from
        # now on close() reaches the generator's clean-up, which it would not before the start.
        next(chunks)
        return chunks

    @abc.abstractmethod
    def _chunks(self, name: str, start: int, stop: int | None) -> Generator[bytes, None, None]:
        """Open the file, yield ``b""``, then its chunks; release it when closed."""

    def open_on_disk(self, name: str) -> FileIO | None:
        """Open the file for a caller who sends it without reading it, and closes it. ``None`` if
        it is not on this machine. Raises ``FileNotFoundError``, ``StorageUnavailable``.
        """
        return None

    @abc.abstractmethod
    def stat(self, name: str) -> StoredFile:
        """Describe the file. Raises ``FileNotFoundError``, ``StorageUnavailable``."""

    def presigned_url(
        self,
        name: str,
        expires_in: int,
        content_type: str,
        disposition: str,
        cache_control: str,
    ) -> str | None:
        """Return a URL of the provider's that serves the file to whoever has it, for
        ``expires_in`` seconds, with these values of ``Content-Type``, ``Content-Disposition`` and
        ``Cache-Control``; ``None`` if the storage has no such URLs.

        Does not look whether the file is there. Raises ``StorageUnavailable``, and
        ``FileNotFoundError`` for what is no name of a file.
        """
        return None

    def plain_url(self, name: str) -> str | None:
        """Return the file's URL at the provider, without credentials; ``None`` if it has none.

        Raises what ``presigned_url()`` raises.
        """
        return None

    def exists(self, name: str) -> bool:
        """Whether the file is there. Raises ``StorageUnavailable``."""
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    @abc.abstractmethod
    def list(
        self, on_unreadable: OnUnreadable | None = None, prefix: str = ""
    ) -> Iterator[StoredFile]:
        """Yield every file whose name starts with ``prefix``, hidden ones of unfinished uploads
        included, in constant memory. A prefix saves listing the rest of the storage.

        ``on_unreadable(name, error)`` is called for each folder that may not be read, with its
        relative name; the rest is yielded. Raises ``StorageUnavailable``; without the callback
        also for such a folder.
        """

    @abc.abstractmethod
    def delete(self, name: str) -> bool:
        """Delete the file. Return ``False`` if it was not there (AWS does not say so of a random
        name: ``True``).

        Raises ``StorageUnavailable``.
        """

    def delete_many(self, names: Iterable[str]) -> Iterator[tuple[str, StorageUnavailable | None]]:
        """Delete files, several at a time, in constant memory.

        Yields the name of each, in their order, with the error if it could not be deleted.
        """
        iterator = iter(names)
        with ThreadPoolExecutor(_DELETE_THREADS, "kinto-attachment-delete") as threads:
            while batch := list(islice(iterator, _DELETE_BATCH)):
                # One file is not worth a thread.
                run = threads.map if len(batch) > 1 else map
                yield from zip(batch, run(self._delete, batch), strict=True)

    def _delete(self, name: str) -> StorageUnavailable | None:
        try:
            self.delete(name)
        except StorageUnavailable as error:
            return error
        return None
