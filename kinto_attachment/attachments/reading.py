"""The stored file that a record references, or that has a name, as far as a response needs it.

Only reads: takes no lock, and hooks nothing to the end of the transaction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.references import References
from kinto_attachment.errors import NoAttachment, UnknownFile, UnknownRecord
from kinto_attachment.settings import Settings
from kinto_attachment.storage import FileStorage
from kinto_attachment.storage.media_types import DEFAULT, is_media_type

_REVALIDATE = "private, no-cache"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ReadableFile:
    """A stored file, and what a response says of it.

    ``hash`` is the SHA-256 digest in lower-case hex, ``None`` if it is not known, as of some files
    of earlier versions. ``cache_control`` is for ``Cache-Control``.
    """

    name: str
    filename: str
    mimetype: str
    hash: str | None
    cache_control: str

    @classmethod
    def of(cls, name: str, metadata: Mapping[str, Any], cache_control: str) -> ReadableFile:
        """Take what ``metadata`` has of a file, which in earlier versions anybody wrote."""
        filename, mimetype, digest = (
            str(metadata.get(key) or "") for key in ("filename", "mimetype", "hash")
        )
        return cls(
            name,
            filename or name.rpartition("/")[2],
            mimetype if is_media_type(mimetype) else DEFAULT,
            digest if _SHA256.fullmatch(digest) else None,
            cache_control,
        )


class ReadableFiles:
    """Finds the files to read."""

    def __init__(self, kinto_storage: Any, settings: Settings, files: FileStorage) -> None:
        # Changes of no transaction: there will be none.
        self._references = References(kinto_storage, settings, FileChanges(files))
        self._settings = settings

    def attached_to(self, holder: Holder) -> ReadableFile:
        """Return the file of the record, with the record's own metadata.

        Raises ``UnknownRecord``, and ``NoAttachment``, also where ``attachment`` is plain data.
        """
        record, row = self._references.attached_to(holder)
        if record is None:
            raise UnknownRecord(holder.record_id)
        if row is None:
            raise NoAttachment()
        metadata = {**row, **record["attachment"], "hash": row["hash"]}
        return ReadableFile.of(row["name"], metadata, self._cache_control(holder))

    def named(self, name: str) -> ReadableFile:
        """Return the file of that name. Raises ``UnknownFile``."""
        row = self._references.file(name)
        if row is None:
            raise UnknownFile()
        return ReadableFile.of(name, row, self._cache_control(*map(Holder.at, row["holders"][:1])))

    def _cache_control(self, holder: Holder | None = None) -> str:
        """Return what the settings of the holder's collection say, else those of all."""
        settings = self._settings.defaults
        if holder is not None:
            settings = self._settings.for_collection(holder.bucket_id, holder.collection_id)
        return settings.cache_control or _REVALIDATE
