"""Files follow the request's transaction: new ones go if it aborts, old ones once it has
committed.

Hooks run when Kinto's storage cannot be used any more, and whatever they raise is lost: they only
delete files, and log what they could not delete, which ``kinto-attachment gc`` finds.
"""

from __future__ import annotations

import logging
import sys

import transaction

from kinto_attachment.storage import FileStorage, State

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
