"""Files follow the request's transaction: new ones go if it aborts, old ones once it has
committed.

Hooks run when Kinto's storage cannot be used any more, and whatever they raise is lost: they only
delete files, and log what they could not delete, which ``kinto-attachment gc`` finds.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import transaction

from kinto_attachment.storage import FileStorage, StorageUnavailable

logger = logging.getLogger(__name__)


class FileChanges:
    """What happens to files when the current transaction ends."""

    def __init__(self, storage: FileStorage) -> None:
        self._storage = storage
        self._new: set[str] = set()
        self._old: set[str] = set()
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

    def keep_new(self) -> None:
        """What has been written cannot be rolled back: no new file goes any more."""
        self._new.clear()

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
        elif _outcome_is_unknown(sys.exc_info()[1]):
            logger.error(
                "The database may have committed or not: these new files are left for gc: %s",
                ", ".join(sorted(self._new)),
            )
        else:
            self._delete(self._new)
        self._forget()

    def _aborted(self) -> None:
        self._delete(self._new)
        self._forget()

    def _delete(self, names: set[str]) -> None:
        for name in names:
            try:
                self._storage.delete(name)
            except StorageUnavailable:
                logger.exception("%s could not be deleted, and is left for gc.", name)

    def _forget(self) -> None:
        self._new = set()
        self._old = set()


def _outcome_is_unknown(error: BaseException | None) -> bool:
    """Whether the connection was lost while the database committed.

    Then the record may be there, and its file must be too.
    """
    return bool(getattr(error, "connection_invalidated", False))


def release(request: Any) -> None:
    """End the read transaction of ``request``, so that it holds no lock and no connection while
    its body comes in, and begin a new one in its place.

    Hooks that others set on the first one are carried over, Kinto's own among them
    (``AfterResourceChanged`` is sent from there). Nothing must have been written yet: the caller
    makes sure that the request is not part of a batch.
    """
    manager = request.tm
    ended = manager.get()
    before_commit = list(ended.getBeforeCommitHooks())
    after_commit = list(ended.getAfterCommitHooks())
    user, description = ended.user, ended.description
    manager.abort()
    begun = manager.begin()
    begun.user, begun.description = user, description
    for hook, args, kws in before_commit:
        begun.addBeforeCommitHook(hook, args, kws)
    for hook, args, kws in after_commit:
        begun.addAfterCommitHook(hook, args, kws)
