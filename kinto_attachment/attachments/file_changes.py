"""Let files follow the transaction: delete new ones if it aborts, old ones once it has committed.

Transaction hooks may not use Kinto's storage, and what they raise is lost. So they only delete
files, and log those that could not be deleted, which ``kinto-attachment gc`` finds.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Set

import transaction

from kinto_attachment.storage import FileStorage, State

logger = logging.getLogger(__name__)


class FileChanges:
    """Collects what to do with files when the current transaction ends."""

    def __init__(self, files: FileStorage) -> None:
        self._files = files
        self._forget()
        self.kept: set[str] = set()
        """Names of files that a holder has released in this transaction under ``keep_old_files``:
        they are kept, whoever releases them last."""

    @classmethod
    def current(cls, files: FileStorage) -> FileChanges:
        """Return the changes of the current transaction, hooked to its end."""
        current = transaction.get()
        try:
            changes: FileChanges = current.data(files)
        except KeyError:
            changes = cls(files)
            current.set_data(files, changes)
            current.addAfterCommitHook(changes._committed)
            # A plain abort does not run the commit hooks.
            current.addAfterAbortHook(changes._aborted)
        return changes

    @classmethod
    def pending(cls, files: FileStorage) -> FileChanges | None:
        """Return the changes of the current transaction, ``None`` if there are none."""
        try:
            changes: FileChanges = transaction.get().data(files)
        except KeyError:
            return None
        return changes

    def discard_if_aborted(self, name: str) -> None:
        """Delete a new file if the transaction aborts."""
        self._new.add(name)

    def cancel_if_aborted(self, state: State) -> None:
        """Cancel a new resumable upload if the transaction aborts."""
        self._begun.append(state)

    def cancel_if_committed(self, state: State) -> None:
        """Cancel a resumable upload once the transaction has committed."""
        self._ended.append(state)

    def keep_new(self) -> None:
        """Keep new files and uploads even if the transaction aborts, where writes cannot be rolled
        back."""
        self._new.clear()
        self._begun.clear()

    def delete_if_committed(self, name: str) -> None:
        """Delete an old file once the transaction has committed."""
        self._old.add(name)

    def given_up(self, most: int, *, but: Set[str]) -> list[str]:
        """Return up to ``most`` names of old files to be deleted, without those of ``but``."""
        return sorted(self._old - but)[:most]

    def leave(self, names: Iterable[str]) -> None:
        """Leave old files for gc: the records cannot be asked whether they reference them."""
        self._old.difference_update(names)
        logger.warning(
            "Files are left for gc, since the index of locations is missing (kinto migrate): %s",
            ", ".join(names),
        )

    def revoke_deletion(self, name: str) -> bool:
        """Undo ``delete_if_committed``; return whether there was something to undo."""
        revoked = name in self._old
        self._old.discard(name)
        return revoked

    def _committed(self, success: bool) -> None:
        if success:
            delete_files(self._files, self._old)
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
        delete_files(self._files, self._new)
        self._cancel(self._begun)

    def _cancel(self, states: list[State]) -> None:
        for state in states:
            self._files.cancel(state)

    def _forget(self) -> None:
        self._new: set[str] = set()
        self._old: set[str] = set()
        self._begun: list[State] = []
        self._ended: list[State] = []


def delete_files(files: FileStorage, names: Iterable[str]) -> None:
    """Delete files; log those that could not be deleted."""
    for name, error in files.delete_many(names):
        if error is not None:
            logger.error("%s could not be deleted, and is left for gc.", name, exc_info=error)


def _outcome_is_unknown(error: BaseException | None) -> bool:
    """Whether the connection was lost during COMMIT: the record may exist, and needs its file."""
    return bool(getattr(error, "connection_invalidated", False))
