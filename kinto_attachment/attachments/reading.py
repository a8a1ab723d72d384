"""The stored file that a record references, or that has a name, for those who may read it.

Only reads: takes no lock, and hooks nothing to the end of the transaction.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kinto_attachment.attachments.file_row import is_consistent
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.links import Target, verify
from kinto_attachment.attachments.lookup import Lookup
from kinto_attachment.attachments.readers import Readers
from kinto_attachment.database.location_index import IndexMissing
from kinto_attachment.database.rows import Row
from kinto_attachment.errors import InvalidLink, NoAttachment, UnknownFile, UnknownRecord
from kinto_attachment.settings import Settings
from kinto_attachment.storage.media_types import DEFAULT, is_media_type
from kinto_attachment.storage.names import is_private

_REVALIDATE = "private, no-cache"
# https://www.rfc-editor.org/rfc/rfc8246
_IMMUTABLE = re.compile(r"\bimmutable\b", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ReadableFile:
    """A stored file, and what a response says of it.

    ``hash`` is the SHA-256 digest in lower-case hex, ``None`` if it is not known, as of some files
    of earlier versions. ``cache_control`` is for ``Cache-Control``. With ``save``, browsers save
    the file, whatever it is.
    """

    name: str
    filename: str
    mimetype: str
    hash: str | None
    cache_control: str
    save: bool = False

    @property
    def is_private(self) -> bool:
        """Whether it is for those alone who may read a record that shows it."""
        return is_private(self.name)

    @property
    def target(self) -> Target:
        """What links to it are bound to."""
        return Target(self.name, self.hash or "")

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
            _REVALIDATE if is_private(name) else cache_control,
        )


class ReadableFiles:
    """Finds the files that the user of ``readers`` may read."""

    def __init__(self, kinto_storage: Any, settings: Settings, readers: Readers) -> None:
        self._lookup = Lookup(kinto_storage, settings)
        self._settings = settings
        self._readers = readers

    def attached_to(self, holder: Holder) -> ReadableFile:
        """Return the file of a record that the user may read, with the record's own metadata.

        Raises ``UnknownRecord``, and ``NoAttachment``, also where ``attachment`` is plain data.
        """
        record, row = self._lookup.attached_to(holder)
        if record is None:
            raise UnknownRecord(holder.record_id)
        if row is None or not is_consistent(row):
            raise NoAttachment()
        # What is written without an event makes nobody a reader of a private file.
        is_named = not is_private(row["name"]) or holder.uri in row["holders"]
        if not is_named and not self._may_read(row):
            raise NoAttachment()
        metadata = {**row, **record["attachment"], "hash": row["hash"]}
        cache_control = self._cache_control(holder)
        if _IMMUTABLE.search(cache_control):
            # The record may have another file soon, at the same URL.
            cache_control = _REVALIDATE
        return ReadableFile.of(row["name"], metadata, cache_control)

    def named(self, name: str) -> ReadableFile:
        """Return the file of that name: a private one if the user may read a record that shows it,
        a public one if ``serve_files`` is true.

        Raises ``UnknownFile``.
        """
        # Before anything is looked up.
        self._readers.identify()
        row = self._lookup.file(name)
        if row is None or not is_consistent(row):
            raise UnknownFile()
        # Who has not asked for it may have a reason why nobody reads the public store.
        if not (self._may_read(row) if is_private(name) else self._settings.serve_files):
            raise UnknownFile()
        return self._by_name(row)

    def linked(self, name: str, token: str) -> ReadableFile:
        """Return the file of that name, if ``token`` is of a link to it, and a record shows it.

        Raises ``InvalidLink``.
        """
        row = self._lookup.file(name)
        if row is None or not is_consistent(row):
            raise InvalidLink()
        file, download = self._by_name(row), self._settings.download
        link = verify(token, download.secrets, file.target, time.time(), download.link_expires)
        if link is None or not self._is_shown(row):
            raise InvalidLink()
        return replace(file, save=link.save)

    def _may_read(self, row: Row) -> bool:
        """Whether the user may read a record that the row names, and that shows the file."""
        try:
            showing = self._showing(row)
        except IndexMissing:
            # One by one, but not for a stranger.
            named = [Holder.at(uri) for uri in row["holders"]]
            return self._readers.may_read(named) and any(
                self._readers.may_read([each]) and self._shows(each, row) for each in named
            )
        return bool(showing) and self._readers.may_read(showing)

    def _is_shown(self, row: Row) -> bool:
        """Whether a record that the row names shows the file."""
        try:
            return bool(self._showing(row))
        except IndexMissing:
            return any(self._shows(Holder.at(uri), row) for uri in row["holders"])

    def _showing(self, row: Row) -> list[Holder]:
        """Return the records that the row names and that show the file. Raises
        ``IndexMissing``."""
        name, named = row["name"], set(row["holders"])
        found = self._lookup.showing([name]).get(name, ()) if named else ()
        return [holder for holder, _ in found if holder.uri in named]

    def _shows(self, holder: Holder, row: Row) -> bool:
        return self._lookup.referenced_by(holder) == row["name"]

    def _by_name(self, row: Row) -> ReadableFile:
        of_first = self._cache_control(*map(Holder.at, row["holders"][:1]))
        return ReadableFile.of(row["name"], row, of_first)

    def _cache_control(self, holder: Holder | None = None) -> str:
        """Return what the settings of the holder's collection say, else those of all."""
        settings = self._settings.defaults
        if holder is not None:
            settings = self._settings.for_collection(holder.bucket_id, holder.collection_id)
        return settings.cache_control or _REVALIDATE
