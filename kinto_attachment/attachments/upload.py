"""A file on its way in: accepted or refused by its name and size, named, received.

Whatever limits uploads has its place in ``UploadPolicy``, whether a file comes in one request or
in several.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import PurePosixPath

from kinto_attachment.attachments.inspection import Inspection, Metadata
from kinto_attachment.attachments.quotas import Room
from kinto_attachment.errors import ExtensionNotAllowed, FileTooLarge, FolderTooLong
from kinto_attachment.http.multipart import FilePart
from kinto_attachment.settings import CollectionSettings
from kinto_attachment.storage import FileStorage, NewFile
from kinto_attachment.storage.media_types import media_type

# The headers and boundaries of a form around the file, and small fields.
_FORM_OVERHEAD = 64 * 1024
# What the common file systems allow.
_MAX_FOLDER_BYTES = 255


class UploadPolicy:
    """Which files a record accepts, and how they are stored."""

    def __init__(
        self,
        settings: CollectionSettings,
        ids: Mapping[str, str],
        storage_limit: int | None = None,
    ) -> None:
        """``ids`` are the record's ``bucket_id``, ``collection_id`` and ``id``; ``storage_limit``
        is the storage's ``max_size``.

        Raises ``FolderTooLong``.
        """
        self._settings = settings
        self.max_size = min(filter(None, [settings.max_size_bytes, storage_limit]), default=None)
        """The size of the largest file in bytes, ``None`` without a limit."""
        self._record_id = ids["id"]
        self._folder = settings.folder.fill(
            bucket_id=ids["bucket_id"], collection_id=ids["collection_id"]
        )
        if any(len(segment) > _MAX_FOLDER_BYTES for segment in self._folder.split("/")):
            raise FolderTooLong(limit=_MAX_FOLDER_BYTES)

    def check_size(self, size: int | None) -> None:
        """Raise ``FileTooLarge`` if a file of ``size`` bytes is; ``None`` is not known yet."""
        if self.max_size is not None and size is not None and size > self.max_size:
            raise FileTooLarge(limit=self.max_size)

    def check_form_length(self, length: int | None) -> None:
        """Raise ``FileTooLarge`` if the file in a form of ``length`` bytes surely is."""
        self.check_size(least_size(length))

    def accept(self, part: FilePart, size: int | None = None) -> IncomingFile:
        """Name a file of about ``size`` bytes. Raises ``ExtensionNotAllowed``."""
        extension = posixpath.splitext(part.filename)[1].removeprefix(".").lower()
        if self._settings.extensions and extension not in self._settings.extensions:
            raise ExtensionNotAllowed()
        mimetype = media_type(
            part.filename,
            part.content_type,
            self._settings.mimetypes,
            # An allowed extension would be worth nothing: "cat.jpg", served as HTML.
            believe_scripts=not self._settings.extensions,
        )
        new = self.new_file(part.filename, mimetype, size)
        return IncomingFile(part.filename, mimetype, new, self.max_size)

    def new_file(self, filename: str, mimetype: str, size: int | None = None) -> NewFile:
        """Name a file, whether or not it would be accepted."""
        path, pattern = PurePosixPath(filename), self._settings.filename_pattern
        # Without a random part, names repeat: the storage looks which are taken.
        private = self._settings.private
        randomize = private or (self._settings.randomize and "{filename}" in pattern.text)
        stem = pattern.fill(
            filename="{filename}" if randomize else path.stem,
            datetime=datetime.now(timezone.utc).strftime("%Y%m%d%H%M%S"),
            rid=self._record_id,
        )
        if randomize and "{filename}" not in stem:
            stem = NewFile.random_name
        return NewFile(
            filename if randomize else f"{stem}{path.suffix}",
            folder=self._folder,
            randomize=randomize,
            random_name=stem if randomize else NewFile.random_name,
            content_type=mimetype,
            cache_control=self._settings.cache_control,
            private=private,
            size=size,
        )


def least_size(length: int | None) -> int:
    """Return how many bytes the file in a form of ``length`` bytes has at least."""
    return max(0, (length or 0) - _FORM_OVERHEAD)


@dataclass(frozen=True)
class IncomingFile:
    """A file that the policy accepts; ``new`` is how the storage takes it."""

    filename: str
    mimetype: str
    new: NewFile
    max_size: int | None

    def inspection(self) -> Inspection:
        """Start the look at its content."""
        return Inspection(self.filename, self.mimetype, self.max_size)


class StagedUpload:
    """Receives a file that one request sends.

    A context manager: leaves nothing of the file on exit unless ``finish()`` has returned.
    """

    def __init__(self, files: FileStorage, file: IncomingFile, room: Room | None = None) -> None:
        """Raises ``StorageUnavailable``."""
        self._room = room
        self._size = 0
        self._inspection = file.inspection()
        self._staged = files.stage(file.new)

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``. Raises ``FileTooLarge``, ``QuotaExceeded``, ``StorageUnavailable``."""
        if self._room is not None:
            self._size += len(chunk)
            self._room.check(self._size)
        self._inspection.update(chunk)
        self._staged.write(chunk)

    def finish(self, is_used: Callable[[str], bool]) -> tuple[str, Metadata]:
        """Make the file durable; return its relative name and its metadata.

        ``is_used(name)`` tells names that must not come back. Raises ``StorageUnavailable``.
        """
        return self._staged.finish(is_used), self._inspection.metadata()

    def __enter__(self) -> StagedUpload:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._staged.discard()
