"""Which records hold which file.

Two kinds of rows in Kinto's own storage backend keep that. A *file row*, under the digest of the
file's name, has what is known of the file and the URIs of the records that hold it; a *holding*,
under the digest of the record's URI, has the name of the file that the record holds. Rows are only
ever read by their key, so nothing here slows as files add up.

Files of earlier versions come with what their records said of them, which may be less or more: a
file row then lacks something (``None``), or has more under ``extra``; a holding has under
``shown`` what its record alone says.

``sync()`` makes the rows match a record as it is now. Whoever changes who holds a file locks its
row first and then looks, so that of two who do it at once the second sees what the first did. The
row of a file that went stays, marked ``gone``: who copied the record in the meantime is told.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, fields
from typing import Any

from kinto.core.utils import msec_time

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.upload import Metadata
from kinto_attachment.database.objects import Object, get, is_transactional
from kinto_attachment.database.rows import Row, Rows
from kinto_attachment.settings import Settings

# Kinto's counters plugin counts the objects of this name.
FILES = "attachments"
HOLDINGS = "attachments-holdings"


class Forgery(Exception):
    """The record shows something else in the place of the file that it holds."""


class FileGone(Exception):
    """The record shows a file that has been deleted since its metadata was read."""


class References:
    """The rows, and what becomes of files when they change."""

    def __init__(self, storage: Any, settings: Settings, changes: FileChanges) -> None:
        """``storage`` is Kinto's storage backend."""
        self._storage = storage
        self._rows = Rows(storage)
        self._settings = settings
        self._changes = changes

    def add(self, name: str, metadata: Metadata, holder: Holder) -> None:
        """Own a new file, which ``holder`` is about to hold."""
        self._write_file({"name": name, **asdict(metadata), "holders": [holder.uri]})

    def forget(self, name: str) -> None:
        """Take ``add`` back: no record holds the file."""
        self._rows.delete(FILES, name)

    def file(self, name: str) -> Row | None:
        """What is known of the file, ``None`` if it is not, and never was, ours."""
        return self._rows.get(FILES, name)

    def record(self, holder: Holder) -> Object | None:
        """The record as it is now, in this transaction."""
        return get(self._storage, holder.key)

    def held_by(self, holder: Holder) -> str | None:
        """The name of the file that the record holds, as the rows have it."""
        holding = self._rows.get(HOLDINGS, holder.uri)
        return None if holding is None else holding["name"]

    def sync(self, holder: Holder, *, trusted: bool = False) -> None:
        """Make the rows match the record.

        With ``trusted`` any metadata may take the place of the file that the record holds.
        Raises ``Forgery``, ``FileGone``.
        """
        holding, record = self._rows.get_beside(HOLDINGS, holder.uri, holder.key)
        held = None if holding is None else holding["name"]
        attachment = (record or {}).get("attachment")
        if attachment is None:
            if held is not None:
                self._release(holder, held)
            return
        name = self._name_of(attachment, holding)
        if name is None:
            if held is not None:
                if not trusted:
                    raise Forgery(holder.uri)
                self._release(holder, held)
        elif name != held:
            # Two records that swap their files lock both in one order.
            for each in sorted({name, held or name}):
                self._locked_file(each)
            self._hold(holder, name)
            if held is not None:
                self._let_go(holder, held)

    def release_many(self, holders: Collection[Holder]) -> None:
        """The records do not hold a file any more."""
        if not is_transactional(self._storage):
            # One by one: others may write to the same rows between reading and writing one.
            for holder in holders:
                held = self.held_by(holder)
                if held is not None:
                    self._release(holder, held)
            return
        by_uri = {holder.uri: holder for holder in holders}
        holdings = self._rows.get_many(HOLDINGS, by_uri)
        if not holdings:
            return
        rows = self._rows.many_locked(FILES, {row["name"] for row in holdings.values()})
        for uri, holding in holdings.items():
            # Without one, see _let_go().
            if row := rows.get(holding["name"]):
                self._take_from(by_uri[uri], row)
        self._rows.replace_many(FILES, rows)
        self._rows.delete_many(HOLDINGS, holdings)

    def shown_by(self, holder: Holder) -> str | None:
        """The name of the file of ours that the record shows, whatever the rows have."""
        holding, record = self._rows.get_beside(HOLDINGS, holder.uri, holder.key)
        return self._name_of((record or {}).get("attachment"), holding)

    def attachment_held_by(self, holder: Holder) -> dict[str, Any] | None:
        """The ``attachment`` attribute that the record should have, as the rows have it."""
        holding = self._rows.get(HOLDINGS, holder.uri)
        row = holding and self.file(holding["name"])
        if not holding or not row:
            return None
        shown = holding.get("shown", _shown_by_holders(row))
        return {**shown, "location": self._settings.location(row["name"])}

    def _name_of(self, attachment: Any, holding: Row | None) -> str | None:
        """The file of ours that ``attachment`` is exactly the metadata of, in any record, or in
        the one of ``holding``."""
        if not isinstance(attachment, dict):
            return None
        for name in self._settings.relative_names(attachment.get("location")):
            row = self.file(name)
            if row and is_metadata_of(attachment, row, holding):
                return name
        return None

    def _hold(self, holder: Holder, name: str) -> None:
        row = self._locked_file(name)
        if row is None or ("gone" in row and not self._changes.spare(name)):
            raise FileGone(name)
        if holder.uri not in row["holders"] or "gone" in row or "kept" in row:
            row.pop("gone", None)
            row.pop("kept", None)
            row["holders"] = sorted({*row["holders"], holder.uri})
            self._write_file(row)
        self._write_holding(holder, name)

    def _release(self, holder: Holder, held: str) -> None:
        """The record does not hold that file any more, nor another."""
        self._let_go(holder, held)
        self._rows.delete(HOLDINGS, holder.uri)

    def _let_go(self, holder: Holder, name: str) -> None:
        row = self._locked_file(name)
        if row is None:
            # Somebody emptied the tables: whose file this is cannot be told any more.
            return
        self._take_from(holder, row)
        self._write_file(row)

    def _take_from(self, holder: Holder, row: Row) -> None:
        """Change the row of a file that ``holder`` has held."""
        name = row["name"]
        row["holders"] = [uri for uri in row["holders"] if uri != holder.uri]
        if self._keeps_old_files(holder):
            self._changes.keepers.add(name)
        if not row["holders"]:
            if name in self._changes.keepers:
                row["kept"] = msec_time()
            else:
                row["gone"] = msec_time()
                self._changes.delete_if_committed(name)

    def _keeps_old_files(self, holder: Holder) -> bool:
        return self._settings.for_collection(holder.bucket_id, holder.collection_id).keep_old_files

    def _locked_file(self, name: str) -> Row | None:
        return self._rows.locked(FILES, name)

    def _write_holding(self, holder: Holder, name: str) -> None:
        self._rows.put(HOLDINGS, holder.uri, {"uri": holder.uri, "name": name})

    def _write_file(self, row: Row) -> None:
        self._rows.put(FILES, row["name"], row)


def is_metadata_of(attachment: dict[str, Any], row: Row, holding: Row | None) -> bool:
    """Whether ``attachment`` is exactly the metadata of the file of ``row``, wherever it says that
    it is; ``holding`` is that of its record, if there is one."""
    metadata = {key: value for key, value in attachment.items() if key != "location"}
    if _is_same(metadata, _shown_by_holders(row)):
        return True
    own = holding.get("shown") if holding and holding["name"] == row["name"] else None
    return own is not None and _is_same(metadata, own)


def _is_same(one: Any, other: Any) -> bool:
    # In Python, though not in JSON, 1 is equal to 1.0 and to true.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _shown_by_holders(row: Row) -> dict[str, Any]:
    """The ``attachment`` attribute of the file's holders, without its location."""
    known = {field.name: row[field.name] for field in fields(Metadata)}
    shown = {key: value for key, value in known.items() if value is not None}
    return {**shown, **row.get("extra", {})}
