"""Let files follow the transaction: delete old ones once it has committed.

Transaction hooks may not use Kinto's storage, and what they raise is lost. So they only delete
files, and log those that could not be deleted, which ``kinto-attachment gc`` finds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Set

import transaction

from kinto_attachment.attachments.quotas import Changes
from kinto_attachment.storage import FileStorage, State

logger = logging.getLogger(__name__)


class FileChanges:
    """Collects what to do with files when the current transaction ends."""

    def __init__(self, files: FileStorage) -> None:
        self._files = files
        self._old: set[str] = set()
        self._ended: list[State] = []
        self.kept: set[str] = set()
        """Names of files that a holder has released in this transaction under ``keep_old_files``:
        they are kept, whoever releases them last."""

        self.released: set[str] = set()
        """Names of files that a holder has released in this transaction."""

        self.usage: Changes = {}
        """How it changes what has a quota."""

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
        return changes

    @classmethod
    def pending(cls, files: FileStorage) -> FileChanges | None:
        """Return the changes of the current transaction, ``None`` if there are none."""
        try:
            changes: FileChanges = transaction.get().data(files)
        except KeyError:
            return None
        return changes

    def cancel_if_committed(self, state: State) -> None:
        """Cancel a resumable upload once the transaction has committed."""
        self._ended.append(state)

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
            for state in self._ended:
                self._files.cancel(state)


def delete_files(files: FileStorage, names: Iterable[str]) -> None:
    """Delete files; log those that could not be deleted."""
    for name, error in files.delete_many(names):
        if error is not None:
            logger.error("%s could not be deleted, and is left for gc.", name, exc_info=error)
