"""Files that several requests send one after the other, maybe to several processes.

A *state* describes what has arrived: a dict that can be stored as JSON, from which any process on
any node resumes the file. It never leaves the server: clients neither see nor set it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from kinto_attachment.storage.cleanup import best_effort
from kinto_attachment.storage.staged import IsUsed

State = dict[str, Any]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class IncompleteUpload:
    """An unfinished upload that ``FileStorage.list()`` does not yield.

    ``name`` is that of the file or of a hidden one, ``id`` the storage's own for the upload;
    ``started`` is an aware datetime in UTC. Later writes do not change it.
    """

    name: str
    id: str
    started: datetime


class ResumableFile(abc.ABC):
    """An unfinished file, opened by one request. Nobody can read it before ``finish()``.

    Belongs to one thread at a time, and the file to one ``ResumableFile`` at a time: the caller
    holds a lease. (Two at once write the same bytes to the same places, as long as their clients
    send the same.) Any error closes it, and loses nothing of a checkpoint: the file continues
    from there with ``FileStorage.resume()``.
    A backend implements the methods with an underscore.
    """

    _closed = False
    _finished = False

    def __init__(self, offset: int) -> None:
        self.offset = offset
        """Bytes of the file, those written since the last checkpoint included."""

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``. Memory is constant, whatever was written before.

        Raises ``StorageUnavailable``; ``FileNotFoundError`` if the file was finished or discarded
        meanwhile; ``ValueError`` if it is closed.
        """
        self._or_close(self._write, chunk)
        self.offset += len(chunk)

    def checkpoint(self) -> State:
        """Make durable what was written; return the state to resume from.

        Three states can be resumed, each at its own offset: this one, the previous checkpoint's,
        and the one passed to ``resume()``. Persist each state before taking another checkpoint.
        Raises what ``write()`` raises.
        """
        return self._or_close(self._checkpoint)

    def finish(self, is_used: IsUsed | None = None) -> str:
        """Make the file durable and visible; return its relative name.

        Promises what ``StagedFile.finish()`` does: it survives a power cut, has overwritten
        nothing and has no name that ``is_used``. Raises what ``write()`` raises, and what
        ``is_used`` raises.
        After an error or a kill the file can be resumed and finished again, and becomes visible
        once, under the name that it may have got already, unless ``is_used`` refuses that now.
        Take a checkpoint of all bytes and persist its state first: from an earlier state
        ``resume()`` may raise ``FileNotFoundError``. Persist the name, and only then anything
        that makes ``is_used`` true for it: once this has returned, only a random one is found
        again.
        """
        name = self._or_close(self._finish, is_used)
        self._finished = True
        self.close()
        return name

    def discard(self) -> None:
        """Remove everything of the file, unless ``finish()`` has returned. May be called on a
        closed file. Never raises; see ``FileStorage.cancel()``."""
        if not self._finished:
            self.close()
            best_effort("discard an upload", self._discard)

    def close(self) -> None:
        """Release memory and descriptors. Drops what was written since the last checkpoint. May
        be repeated. Never raises."""
        if not self._closed:
            self._closed = True
            best_effort("close an upload", self._close)

    def _or_close(self, step: Callable[..., _Result], *args: Any) -> _Result:
        if self._closed:
            raise ValueError("the file is closed")
        try:
            return step(*args)
        except BaseException:
            self.close()
            raise

    @abc.abstractmethod
    def _write(self, chunk: bytes) -> None: ...

    @abc.abstractmethod
    def _checkpoint(self) -> State: ...

    @abc.abstractmethod
    def _finish(self, is_used: IsUsed | None) -> str: ...

    @abc.abstractmethod
    def _discard(self) -> None: ...

    @abc.abstractmethod
    def _close(self) -> None: ...
