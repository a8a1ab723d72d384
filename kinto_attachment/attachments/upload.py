"""A file on its way in: counted, hashed and stored in one pass over its chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import Any

from kinto_attachment.http.multipart import FilePart
from kinto_attachment.settings import CollectionSettings
from kinto_attachment.storage import FileStorage, NewFile, StagedFile
from kinto_attachment.storage.media_types import media_type
from kinto_attachment.storage.resumable import State

# What a form around the file may take: its headers, its boundaries, and small fields.
_FORM_OVERHEAD = 64 * 1024
# What the common file systems allow.
_MAX_FOLDER_BYTES = 255


class ExtensionNotAllowed(Exception):
    """The ``extensions`` setting does not allow the file."""


class FolderTooLong(Exception):
    """A folder of the stored name would be longer than 255 bytes."""


class TooLarge(Exception):
    """The file is larger than ``max_size_bytes``."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The attachment is larger than {limit} bytes.")


@dataclass(frozen=True)
class Metadata:
    """What the record says of its file, but where it is. ``size`` is in bytes."""

    filename: str
    hash: str
    mimetype: str
    size: int

    def attachment(self, location: str) -> dict[str, Any]:
        """The ``attachment`` attribute of the record."""
        return {
            "filename": self.filename,
            "hash": self.hash,
            "location": location,
            "mimetype": self.mimetype,
            "size": self.size,
        }


class Destination:
    """Where the file for a record goes."""

    def __init__(
        self,
        storage: FileStorage,
        settings: CollectionSettings,
        ids: Mapping[str, str],
        size: int | None = None,
    ) -> None:
        """``ids`` holds the record's ``bucket_id``, ``collection_id`` and ``id``; ``size`` is the
        expected size in bytes, a hint. Raises ``TooLarge``, ``FolderTooLong``."""
        limit = settings.max_size_bytes
        if limit and size is not None and size > limit + _FORM_OVERHEAD:
            raise TooLarge(limit)
        self._storage = storage
        self._settings = settings
        self._record_id = ids["id"]
        self._size = size
        self._folder = settings.folder.fill(
            bucket_id=ids["bucket_id"], collection_id=ids["collection_id"]
        )
        if any(len(part) > _MAX_FOLDER_BYTES for part in self._folder.split("/")):
            raise FolderTooLong(self._folder)

    def open(self, part: FilePart) -> Upload:
        """Start the file. Raises ``ExtensionNotAllowed``, ``StorageUnavailable``."""
        mimetype = self.mimetype(part)
        staged = self._storage.stage(self._new_file(part, mimetype))
        return Upload(staged, part.filename, mimetype, self._settings.max_size_bytes)

    def create(self, part: FilePart, mimetype: str) -> State:
        """Start a file that several requests send; return its first state.

        Raises ``StorageUnavailable``.
        """
        return self._storage.create(self._new_file(part, mimetype))

    def mimetype(self, part: FilePart) -> str:
        """What the file is stored as. Raises ``ExtensionNotAllowed``."""
        extensions = self._settings.extensions
        if extensions and not self._storage.filename_allowed(part.filename, extensions):
            raise ExtensionNotAllowed(part.filename)
        return media_type(part.filename, part.content_type, self._settings.mimetypes)

    def _new_file(self, part: FilePart, mimetype: str) -> NewFile:
        return NewFile(
            self._wanted_name(part.filename),
            folder=self._folder,
            randomize=self._settings.randomize,
            content_type=mimetype,
            size=self._size,
        )

    def _wanted_name(self, filename: str) -> str:
        path = PurePosixPath(filename)
        stem = self._settings.filename_pattern.fill(
            filename=path.stem,
            datetime=datetime.now(timezone.utc).strftime("%Y%m%d%H%M%S"),
            rid=self._record_id,
        )
        return f"{stem}{path.suffix}"


class Upload:
    """Receives one file into the storage. A context manager: unless ``finish()`` was called,
    nothing of the file is left on exit."""

    def __init__(self, staged: StagedFile, filename: str, mimetype: str, limit: int) -> None:
        """``limit`` is the largest size in bytes, 0 if there is none."""
        self._staged = staged
        self._filename = filename
        self._mimetype = mimetype
        self._limit = limit
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, chunk: bytes) -> None:
        """Take one chunk. Raises ``TooLarge`` as soon as the limit is passed, and
        ``StorageUnavailable``."""
        self._size += len(chunk)
        if self._limit and self._size > self._limit:
            raise TooLarge(self._limit)
        self._digest.update(chunk)
        self._staged.write(chunk)

    def finish(self) -> tuple[str, Metadata]:
        """Make the file durable; return its relative name, and what is known of it.

        Raises ``StorageUnavailable``.
        """
        name = self._staged.finish()
        return name, Metadata(
            filename=self._filename,
            hash=self._digest.hexdigest(),
            mimetype=self._mimetype,
            size=self._size,
        )

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._staged.discard()
