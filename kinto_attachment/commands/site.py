"""One server's records, files and settings, as the commands work on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transaction

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.references import References
from kinto_attachment.commands.inventory import Inventory, take_inventory
from kinto_attachment.commands.patterns import Patterns
from kinto_attachment.commands.scope import Scope
from kinto_attachment.database.scan import is_postgresql
from kinto_attachment.settings import Settings
from kinto_attachment.storage.files import Files
from kinto_attachment.tus.store import ResumableUpload, UploadStore

NO_PRIVATE_STORE = (
    "there are private files, and the settings have no store for them: set"
    " kinto.attachment.private.base_path, kinto.attachment.aws.private_bucket or"
    " kinto.attachment.gcloud.private_bucket_name to where they are."
)


class Refused(Exception):
    """The command cannot run; the message says what to change."""


class Site:
    """Gives access to a server's storages from a process beside it."""

    def __init__(self, registry: Any) -> None:
        """Raises ``Refused`` unless all the server's records can be read from here."""
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
        self.files: Files = registry.attachment_files

    @contextmanager
    def inventory(self, excluded: Patterns, scope: Scope | None = None) -> Iterator[Inventory]:
        """Take an inventory of the files in ``scope`` (by default all), marking those that are
        ``excluded``.

        Raises ``Refused`` if a store is missing in the settings.
        """
        sides = (self.kinto_storage, self.settings, self.files)
        with take_inventory(*sides, excluded, scope or Scope([])) as inventory:
            if self.files.private is None and inventory.has_private_rows():
                raise Refused(NO_PRIVATE_STORE)
            yield inventory

    @contextmanager
    def references(self) -> Iterator[References]:
        """Open the rows in a transaction of their own, which deletes no files."""
        with transaction.manager:
            references = References(self.kinto_storage, self.settings, FileChanges(self.files))
            yield references
            references.settle_usage(enforce=False)

    def needed(self) -> frozenset[str]:
        """Return what resumable uploads need now: see ``ResumableUpload.needs()``."""
        with transaction.manager:
            uploads = UploadStore(self.kinto_storage).below("*")
            return frozenset(name for upload in uploads for name in upload.needs(self.files))

    def terminate(self, upload: ResumableUpload) -> None:
        """Terminate a resumable upload, and delete what is stored of it, but no file that a record
        references."""
        with transaction.manager:
            changes = FileChanges.current(self.files)
            UploadStore(self.kinto_storage).terminate(upload, changes)
            references = References(self.kinto_storage, self.settings, changes)
            references.keep_referenced()
            references.settle_usage(enforce=False)
