"""Files follow the request's transaction: new ones go if it aborts, old ones once it has
committed.

Hooks run when Kinto's storage cannot be used any more, and whatever they raise is lost: they only
delete files, and log what they could not delete, which ``kinto-attachment gc`` finds.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import transaction
from kinto.core.storage.exceptions import BackendError
from kinto.core.utils import sqlalchemy

from kinto_attachment.storage import FileStorage
from kinto_attachment.storage.resumable import State

logger = logging.getLogger(__name__)


class FileChanges:
    """What happens to files when the current transaction ends."""

    def __init__(self, storage: FileStorage) -> None:
        self._storage = storage
        self._forget()
        self.keepers: set[str] = set()
        """Names that a record let go of in this transaction under ``keep_old_files``."""

    @classmethod
    def current(cls, storage: FileStorage) -> FileChanges:
        """The changes of the current transaction."""
        current = transaction.get()
        try:
            changes: FileChanges = current.data(storage)
        except KeyError:
            changes = cls(storage)
            current.set_data(storage, changes)
            current.addAfterCommitHook(changes._committed)
            # A plain abort does not run the commit hooks.
            current.addAfterAbortHook(changes._aborted)
        return changes

    def discard_if_aborted(self, name: str) -> None:
        """The file is new: it goes unless the transaction commits."""
        self._new.add(name)

    def cancel_if_aborted(self, state: State) -> None:
        """The upload is new: what there is of it goes unless the transaction commits."""
        self._begun.append(state)

    def cancel_if_committed(self, state: State) -> None:
        """The upload is over: what there is of it goes once that is certain."""
        self._ended.append(state)

    def keep_new(self) -> None:
        """What has been written cannot be rolled back: no new file goes any more."""
        self._new.clear()
        self._begun.clear()

    def delete_if_committed(self, name: str) -> None:
        """Nobody shows the file any more: it goes once that is certain."""
        self._old.add(name)

    def spare(self, name: str) -> bool:
        """Take ``delete_if_committed`` back; whether there was something to take back."""
        spared = name in self._old
        self._old.discard(name)
        return spared

    def _committed(self, success: bool) -> None:
        if success:
            self._delete(self._old)
            self._cancel(self._ended)
        elif _outcome_is_unknown(sys.exc_info()[1]):
            logger.error(
                "The database may have committed or not: these new files are left for gc: %s",
                ", ".join(sorted(self._new)),
            )
        else:
            self._undo()
        self._forget()

    def _aborted(self) -> None:
        self._undo()
        self._forget()

    def _undo(self) -> None:
        self._delete(self._new)
        self._cancel(self._begun)

    def _delete(self, names: set[str]) -> None:
        for name, error in self._storage.delete_many(names):
            if error is not None:
                logger.error("%s could not be deleted, and is left for gc.", name, exc_info=error)

    def _cancel(self, states: list[State]) -> None:
        for state in states:
            self._storage.cancel(state)

    def _forget(self) -> None:
        self._new: set[str] = set()
        self._old: set[str] = set()
        self._begun: list[State] = []
        self._ended: list[State] = []


def _outcome_is_unknown(error: BaseException | None) -> bool:
    """Whether the connection was lost while the database committed.

    Then the record may be there, and its file must be too.
    """
    return bool(getattr(error, "connection_invalidated", False))


def is_in_batch(request: Any) -> bool:
    """Whether the request is one of several, which share a transaction."""
    return getattr(_sent(request), "parent", None) is not None


def release(request: Any) -> None:
    """End the read transaction of ``request``, so that it holds no lock and no connection while
    its body comes in, and begin a new one in its place.

    Hooks that others set on the first one are carried over, Kinto's own among them
    (``AfterResourceChanged`` is sent from there). Nothing must have been written yet. Does
    nothing where others may have written: in a batch; and where there are no transactions.
    """
    with aside(request):
        pass


@contextmanager
def aside(request: Any) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """``release()`` with a time in between: ``with aside(request) as short``, and therein
    ``with short():`` for a transaction of its own, committed at its end.

    Raises Kinto's ``BackendError`` if the database does not commit.
    """
    if is_in_batch(request) or not _sent(request).environ.get("tm.active"):
        yield nullcontext
        return
    manager = request.tm
    ended = manager.get()
    before_commit = list(ended.getBeforeCommitHooks())
    after_commit = list(ended.getAfterCommitHooks())
    user, description = ended.user, ended.description
    manager.abort()
    try:
        yield partial(short, manager)
    finally:
        begun = manager.begin()
        begun.user, begun.description = user, description
        for hook, args, kws in before_commit:
            begun.addBeforeCommitHook(hook, args, kws)
        for hook, args, kws in after_commit:
            begun.addAfterCommitHook(hook, args, kws)


@contextmanager
def short(manager: Any) -> Iterator[None]:
    """A transaction that ends with the block. Raises Kinto's ``BackendError`` if the database
    does not commit."""
    manager.begin()
    try:
        yield
        manager.commit()
    except sqlalchemy.exc.SQLAlchemyError as error:
        _abort(manager)
        raise BackendError(original=error) from error
    except BaseException:
        _abort(manager)
        raise


def _abort(manager: Any) -> None:
    # The error that led here is the one to tell.
    with suppress(Exception):
        manager.abort()


def _sent(request: Any) -> Any:
    """The request as it was sent, which may have been through the default bucket's alias."""
    return request.parent if getattr(request, "through_alias", False) else request


def outermost(request: Any) -> Any:
    """The request that a client has sent, be it a batch."""
    while getattr(request, "parent", None) is not None:
        request = request.parent
    return request
