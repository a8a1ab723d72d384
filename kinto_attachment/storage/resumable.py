"""Files that several requests send, maybe to several processes, one after the other.

What has arrived is described by a *state*, a dict that goes into JSON: whoever has it, here or on
another node, takes the file up again. The state is the server's own: no client sees or sets it.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

State = dict[str, Any]

_Result = TypeVar("_Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IncompleteUpload:
    """What a storage holds of an unfinished file where ``list()`` does not see it.

    ``name`` is that of the file or of a hidden one, ``id`` the storage's own for the upload;
    ``started`` is an aware datetime in UTC. Something may have been written since.
    """

    name: str
    id: str
    started: datetime


class ResumableFile(abc.ABC):
    """A file that is being received, as one request has it. Nobody can read it before
    ``finish()``.

    Belongs to one thread at a time, and the file to one ``ResumableFile`` at a time: the caller
    holds a lock. (Two at once would still write the same bytes to the same places, as long as
    their clients send the same.) Any error closes it, and nothing of a checkpoint is lost: the
    file goes on from there with ``FileStorage.resume()``.
    A backend implements the methods with an underscore.
    """

    _closed = False
    _finished = False

    def __init__(self, offset: int) -> None:
        self.offset = offset
        """How many bytes the file has, those written since the last checkpoint included."""

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``. Memory held is constant, whatever has been written before.

        Raises ``StorageUnavailable``; ``FileNotFoundError`` if somebody finished or discarded the
        file meanwhile; ``ValueError`` if it is closed.
        """
        self._attempt(self._write, chunk)
        self.offset += len(chunk)

    def checkpoint(self) -> State:
        """Make durable what was written, and return the state from which to go on after it.

        Three states can be resumed, the file then having the length that it had: this one, that
        of the checkpoint before, and the one that ``resume()`` took. So save one before you ask
        for the next but one. Raises what ``write()`` raises.
        """
        return self._attempt(self._checkpoint)

    def finish(self) -> str:
        """Make the file durable and visible; return the relative name that it got.

        Promises what ``StagedFile.finish()`` does: it survives a power cut and has overwritten
        nothing. Raises what ``write()`` raises.
        A process that is killed meanwhile, or hears of an error, leaves a file that can be
        resumed and finished again, and that then becomes visible once: under the name that it may
        have got already. This holds for the state of a checkpoint of all bytes; from an earlier
        one, ``resume()`` may raise ``FileNotFoundError``. So save the last state first. Once
        this has returned, only a random name is found again; another one the caller has to keep.
        """
        name = self._attempt(self._finish)
        self._finished = True
        self.close()
        return name

    def discard(self) -> None:
        """Remove everything of the file, unless ``finish()`` has returned. May be called on a
        closed one. Never raises; see ``FileStorage.cancel()``."""
        if not self._finished:
            self.close()
            attempt("discard an upload", self._discard)

    def close(self) -> None:
        """Release memory and descriptors. Keeps what the last checkpoint has made durable; what
        was written since is lost. May be repeated. Never raises."""
        if not self._closed:
            self._closed = True
            attempt("close an upload", self._close)

    def _attempt(self, step: Callable[..., _Result], *args: Any) -> _Result:
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
    def _finish(self) -> str: ...

    @abc.abstractmethod
    def _discard(self) -> None: ...

    @abc.abstractmethod
    def _close(self) -> None: ...


class ResumableStorage(abc.ABC):
    """What a file storage does for files that several requests send."""

    @abc.abstractmethod
    def create(
        self,
        filename: str,
        *,
        folder: str = "",
        randomize: bool = True,
        content_type: str = "application/octet-stream",
        size: int | None = None,
    ) -> State:
        """Start a file; return its first state. The arguments are those of ``stage()``.

        ``size`` is a hint, but without it parts on S3 differ in size, which Cloudflare's refuses
        above 5,000 MiB. Raises ``StorageUnavailable``; ``ValueError`` if ``folder`` leads out of
        the storage.
        """

    @abc.abstractmethod
    def resume(self, state: State) -> ResumableFile:
        """Go on with a file where ``state`` was taken; what was written after it is dropped.

        The caller closes what is returned. A file that somebody has finished, as far as that can
        be known, takes no more bytes, and ``finish()`` returns its name.
        Raises ``FileNotFoundError`` if something of it is gone: it was finished or discarded, or
        is that of another storage. Raises ``StorageUnavailable``.
        """

    def cancel(self, state: State) -> None:
        """Remove everything of an unfinished file: also what was written after ``state``, and
        the rest where a part is gone already. What is visible stays.

        Never raises: what cannot be removed now is logged, and left for ``kinto-attachment gc``.
        """
        attempt("discard an upload", self._cancel, state)

    @abc.abstractmethod
    def needed(self, state: State) -> frozenset[str]:
        """What an unfinished file still needs of that which looks like a leftover: names that
        ``list()`` may yield, and ``id`` of what ``incomplete()`` may."""

    def incomplete(self) -> Iterator[IncompleteUpload]:
        """Yield every upload that has not become a file and that ``list()`` does not yield,
        those of ``stage()`` and of other programs included. Raises ``StorageUnavailable``."""
        return iter(())

    def abort(self, upload: IncompleteUpload) -> None:  # noqa: B027 - most storages have none
        """Remove such an upload; one that is gone is no error. Raises ``StorageUnavailable``."""

    @abc.abstractmethod
    def _cancel(self, state: State) -> None: ...


def attempt(what: str, step: Callable[..., object], *args: Any) -> bool:
    """Call ``step(*args)``; log what it raises, and then return ``False``."""
    try:
        step(*args)
    except Exception:
        logger.warning("Could not %s entirely", what, exc_info=True)
        return False
    return True
