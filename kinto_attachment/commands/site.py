"""What the commands work on: Kinto's storage, the file storage, and the settings of one server."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import transaction
from pyramid_storage.interfaces import IFileStorage

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.commands.housekeeping import Housekeeping
from kinto_attachment.commands.inventory import Inventory
from kinto_attachment.commands.report import progress
from kinto_attachment.database.scan import is_postgresql
from kinto_attachment.settings import Settings
from kinto_attachment.storage import FileStorage
from kinto_attachment.tus.store import ResumableUpload, UploadStore


class Refused(Exception):
    """Why the command does not run, and what to change."""


class Site:
    """A server's storages, seen from a process of one's own."""

    def __init__(self, registry: Any) -> None:
        """Raises ``Refused`` unless all of the server's records can be read from here."""
        self.registry = registry
        self.kinto_storage = registry.storage
        if not is_postgresql(self.kinto_storage):
            raise Refused(
                "records can only be read where kinto.storage_backend is PostgreSQL: those of"
                " the memory backend are in the server's own process."
            )
        if not hasattr(registry, "attachment_settings"):
            raise Refused("kinto.includes has no kinto_attachment in this ini file.")
        self.settings: Settings = registry.attachment_settings
        self.files: FileStorage = registry.getUtility(IFileStorage)

    @contextlib.contextmanager
    def inventory(self, excluded: Sequence[str]) -> Iterator[Inventory]:
        """What is there now, without files whose names match one of ``excluded``."""
        with Inventory() as inventory:
            inventory.take(
                self.kinto_storage, self.settings, self.files, matcher(excluded), progress
            )
            yield inventory

    @contextlib.contextmanager
    def rows(self) -> Iterator[Housekeeping]:
        """The rows, in a transaction of their own. No file follows it."""
        with transaction.manager:
            yield Housekeeping(self.kinto_storage, self.settings, FileChanges(self.files))

    def end(self, upload: ResumableUpload) -> None:
        """Cancel a resumable upload, with what is stored of it."""
        with transaction.manager:
            rows = UploadStore(self.kinto_storage)
            rows.terminate(upload, FileChanges.current(self.files))


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Tells whether a name matches one of ``patterns``, as a shell understands them."""

    def matches(name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    return matches
