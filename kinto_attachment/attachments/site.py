"""Which database and which file storage belong together.

``kinto migrate`` writes a random *site id* into Kinto's ``metadata`` table, where it survives a
flush and goes into backups; servers write it into the storage, as the file ``MARKER``. So
``kinto-attachment gc`` can tell the storage of another site, or an empty database, from its own.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import transaction

from kinto_attachment.database.objects import statement
from kinto_attachment.database.scan import is_postgresql, unpooled
from kinto_attachment.storage import FileStorage, NewFile
from kinto_attachment.storage.files import Files

logger = logging.getLogger(__name__)

MARKER = ".kinto-attachment"
"""The name of the stored file."""

# More than one if a backup was restored into a database that had one.
_IDS = "SELECT value FROM metadata WHERE name = 'kinto_attachment_site' ORDER BY value"
_RETRY_SECONDS = 60
_MAX_BYTES = 1000


def site_ids(connection: Any) -> list[str]:
    """Return the ids of the database, usually one; none before ``kinto migrate`` has run."""
    return [row.value for row in connection.execute(statement(_IDS))]


def marked_site(files: FileStorage) -> str | None:
    """Return the id in the storage's ``MARKER``, ``None`` without one.

    Raises ``StorageUnavailable``.
    """
    try:
        content = b"".join(files.read(MARKER, 0, _MAX_BYTES))
    except FileNotFoundError:
        return None
    return content.decode("utf-8", "replace").strip()


class SiteMark:
    """Writes ``MARKER`` into each store that has none, once per process."""

    def __init__(self, registry: Any, files: Files) -> None:
        self._registry = registry
        self._stores = list(files.stores.values())
        self._next_try: float | None = 0

    def write_after_commit(self) -> None:
        """Write it once the current transaction has committed, which has stored a file."""
        if self._next_try is not None and is_postgresql(self._registry.storage):
            transaction.get().addAfterCommitHook(self._committed)

    def _committed(self, success: bool) -> None:
        # Hooks may not raise, and may not use Kinto's storage.
        if not success or self._next_try is None or time.monotonic() < self._next_try:
            return
        self._next_try = time.monotonic() + _RETRY_SECONDS
        try:
            if self._write():
                self._next_try = None
        except Exception:
            logger.warning("%s could not be written to the file storage.", MARKER, exc_info=True)

    def _write(self) -> bool:
        """Write the id, unless there is one; return whether there is one then."""
        with unpooled(self._registry.storage.client) as connection:
            ids = site_ids(connection)
        if not ids:
            return False
        for files in self._stores:
            marked = marked_site(files)
            if marked is None:
                mark_site(files, ids[0])
            elif marked not in ids:
                logger.error(
                    "The file storage belongs to another database: %s has the site id %r, the"
                    " database %s.",
                    *(MARKER, marked, ids),
                )
        return True


def mark_site(files: FileStorage, site_id: str) -> None:
    """Write ``MARKER``, unless the storage has one. Raises ``StorageUnavailable``."""
    new = NewFile(MARKER, exact_name=True, content_type="text/plain")
    staged = files.stage(new)
    try:
        staged.write(f"{site_id}\n".encode())
        staged.finish()
    except FileExistsError:
        # Another process was faster.
        pass
    finally:
        staged.discard()
