"""Which record references which file, according to the rows (see references.py) and to the records
themselves.

Only reads: takes no lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from kinto_attachment.attachments.file_row import meant, metadata_matches, metadata_of
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.locations import last_segments, names_in
from kinto_attachment.database.location_index import records_ending_with
from kinto_attachment.database.objects import Object, get, is_transactional
from kinto_attachment.database.rows import Row, Rows
from kinto_attachment.settings import Settings

# Kinto's counters plugin counts the objects of this name.
FILES = "attachments"
HOLDINGS = "attachments-holdings"


class Lookup:
    """Asks rows and records, as they are in the current transaction."""

    def __init__(self, kinto_storage: Any, settings: Settings) -> None:
        self._kinto_storage = kinto_storage
        self._settings = settings
        self._rows = Rows(kinto_storage)

    def file(self, name: str) -> Row | None:
        """Return the file's row, ``None`` if the plugin does not know the file."""
        return self._rows.get(FILES, name)

    def is_used(self, name: str) -> bool:
        """Whether a file has, or had, that name."""
        return self.file(name) is not None

    def record(self, holder: Holder) -> Object | None:
        """Return the record as it is in this transaction, ``None`` if it does not exist."""
        return get(self._kinto_storage, holder.key)

    def held_by(self, holder: Holder) -> str | None:
        """Return the name of the file that the record holds, according to its holding."""
        holding = self._rows.get(HOLDINGS, holder.uri)
        return None if holding is None else holding["name"]

    def referenced_by(self, holder: Holder) -> str | None:
        """Return the name of the file that the record references, whatever base URL its location
        has."""
        holding, record = self._rows.get_with_object(HOLDINGS, holder.uri, holder.key)
        attachment = (record or {}).get("attachment")
        if not isinstance(attachment, dict):
            return None
        names = names_in(attachment.get("location"))
        return meant(attachment, holding, self._files(names))

    def attached_to(self, holder: Holder) -> tuple[Object | None, Row | None]:
        """Return the record, and the row of the file whose content is its attachment's; ``None``
        for a record that does not exist, and where ``attachment`` is plain data.

        The record as it is now decides: it references the file that it holds, or another one that
        a plugin has written into it without an event.
        """
        holding, record = self._rows.get_with_object(HOLDINGS, holder.uri, holder.key)
        attachment = (record or {}).get("attachment")
        if not isinstance(attachment, dict):
            return record, None
        held = None if holding is None else holding["name"]
        candidates = names_in(attachment.get("location"))
        files = self._files([name for name in candidates if name == held])
        name = meant(attachment, holding, files)
        if name is not None:
            return record, files[name]
        name = self._accepted(attachment, holding)
        # Without a holding, it may be plain data that was there before the file: other names than
        # random ones can be told.
        if name is None or (holding is None and not self._settings.is_random(name)):
            return record, None
        return record, self.file(name)

    def showing(
        self, names: Collection[str], *, scan: bool = False
    ) -> dict[str, list[tuple[Holder, Object]]]:
        """Return the records that reference these files, each with its ``attachment``.

        Asks the records themselves. With ``scan``, also without the index, at the price of reading
        them all. Raises ``IndexMissing``.
        """
        segments = {segment for name in names for segment in last_segments(name)}
        found = [
            (Holder.under(record.parent_id, record.id), record.attachment)
            for record in records_ending_with(self._kinto_storage, segments, scan=scan)
        ]
        if not found:
            return {}
        wanted = set(names)
        candidates = [names_in(attachment.get("location")) for _, attachment in found]
        files = self._files({name for each in candidates for name in each} | wanted)
        holdings = self._get_many(HOLDINGS, {holder.uri for holder, _ in found})
        showing: dict[str, list[tuple[Holder, Object]]] = {}
        for (holder, attachment), each in zip(found, candidates, strict=True):
            known = {name: files[name] for name in each if name in files}
            # Files without a row, as gc finds them.
            known.update({name: {} for name in each if name in wanted and name not in known})
            name = meant(attachment, holdings.get(holder.uri), known)
            if name in wanted and name is not None:
                showing.setdefault(name, []).append((holder, attachment))
        return showing

    def attachment_held_by(self, holder: Holder) -> dict[str, Any] | None:
        """Return the ``attachment`` attribute that the record should have, according to the
        rows."""
        holding = self._rows.get(HOLDINGS, holder.uri)
        row = holding and self.file(holding["name"])
        if not holding or not row:
            return None
        metadata = holding.get("shown", metadata_of(row))
        location = holding.get("location", self._settings.location(row["name"]))
        return {**metadata, "location": location}

    def _accepted(self, attachment: Any, holding: Row | None) -> str | None:
        """Return the name of the file that a client may write ``attachment`` for, into the record
        of ``holding``: that is the metadata of the file, with a location that a record of it had,
        or that begins with a base URL of the settings."""
        if not isinstance(attachment, dict):
            return None
        location: Any = attachment.get("location")
        if holding is not None and location is not None and location == holding.get("location"):
            names: Iterable[str] = [holding["name"]]
        else:
            names = self._settings.relative_names(location)
        for name in names:
            row = self.file(name)
            if row and metadata_matches(attachment, row, holding):
                return name
        for name, row in self._files(names_in(location)).items():
            if metadata_matches(attachment, row, None) and self._is_shown(row, location):
                return name
        return None

    def _is_shown(self, row: Row, location: str) -> bool:
        """Whether a holder of the file has that location."""
        holdings = self._get_many(HOLDINGS, row["holders"]).values()
        return any(holding.get("location") == location for holding in holdings)

    def _files(self, names: Collection[str]) -> dict[str, Row]:
        return self._get_many(FILES, names)

    def _get_many(self, resource_name: str, keys: Collection[str]) -> dict[str, Row]:
        if not keys:
            return {}
        if is_transactional(self._kinto_storage):
            return self._rows.get_many(resource_name, keys)
        rows = {key: self._rows.get(resource_name, key) for key in keys}
        return {key: row for key, row in rows.items() if row is not None}
