"""Which records hold which file.

Two kinds of rows in Kinto's own storage backend keep that. A *file row*, under the digest of the
file's name, has what is known of the file and the URIs of the records that hold it; a *holding*,
under the digest of the record's URI, has the name of the file that the record holds. Rows are only
ever read by their key, so nothing here slows as files add up.

``sync()`` makes the rows match a record as it is now. Whoever changes who holds a file locks its
row first and then looks, so that of two who do it at once the second sees what the first did. The
row of a file that went stays, marked ``gone``: who copied the record in the meantime is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from kinto.core.storage.exceptions import ObjectNotFoundError
from kinto.core.utils import msec_time

from kinto_attachment.locks import lock
from kinto_attachment.settings import Settings
from kinto_attachment.transaction import FileChanges
from kinto_attachment.uploads import Metadata

# Kinto's counters plugin counts the objects of this name.
FILES = "attachments"
HOLDINGS = "attachments-holdings"

_PARENT = "__attachments__"
_ROW = "row"


class Forgery(Exception):
    """The record shows something else in the place of the file that it holds."""


class FileGone(Exception):
    """The record shows a file that has been deleted since its metadata was read."""


@dataclass(frozen=True)
class Holder:
    """A record that may hold a file."""

    bucket_id: str
    collection_id: str
    record_id: str

    @classmethod
    def at(cls, uri: str) -> Holder:
        """The record with that URI."""
        _, _, bucket_id, _, collection_id, _, record_id = uri.split("/")
        return cls(bucket_id, collection_id, record_id)

    @classmethod
    def of(cls, ids: Mapping[str, str]) -> Holder:
        """The record that a request's path names."""
        return cls(ids["bucket_id"], ids["collection_id"], ids["id"])

    @property
    def parent_id(self) -> str:
        """Under which Kinto's storage has the record."""
        return f"/buckets/{self.bucket_id}/collections/{self.collection_id}"

    @property
    def uri(self) -> str:
        return f"{self.parent_id}/records/{self.record_id}"


class References:
    """The rows, and what becomes of files when they change."""

    def __init__(self, storage: Any, settings: Settings, changes: FileChanges) -> None:
        """``storage`` is Kinto's storage backend."""
        self._storage = storage
        self._settings = settings
        self._changes = changes

    def add(self, name: str, metadata: Metadata, holder: Holder) -> None:
        """Own a new file, which ``holder`` is about to hold."""
        self._write_file({"name": name, **asdict(metadata), "holders": [holder.uri]})

    def forget(self, name: str) -> None:
        """Take ``add`` back: no record holds the file."""
        self._delete(FILES, name)

    def file(self, name: str) -> dict[str, Any] | None:
        """What is known of the file, ``None`` if it is not, and never was, ours."""
        return self._read(FILES, name)

    def record(self, holder: Holder) -> dict[str, Any] | None:
        """The record as it is now, in this transaction."""
        try:
            record: dict[str, Any] = self._storage.get(
                resource_name="record", parent_id=holder.parent_id, object_id=holder.record_id
            )
        except ObjectNotFoundError:
            return None
        return record

    def held_by(self, holder: Holder) -> str | None:
        """The name of the file that the record holds, as the rows have it."""
        holding = self._read(HOLDINGS, holder.uri)
        return None if holding is None else holding["name"]

    def sync(self, holder: Holder, *, trusted: bool = False) -> None:
        """Make the rows match the record.

        With ``trusted`` any metadata may take the place of the file that the record holds.
        Raises ``Forgery``, ``FileGone``.
        """
        held = self.held_by(holder)
        attachment = (self.record(holder) or {}).get("attachment")
        if attachment is None:
            if held is not None:
                self.release(holder, held)
            return
        name = self._name_of(attachment)
        if name is None:
            if held is not None:
                if not trusted:
                    raise Forgery(holder.uri)
                self.release(holder, held)
        elif name != held:
            self._hold(holder, name)
            if held is not None:
                self._let_go(holder, held)

    def release(self, holder: Holder, held: str) -> None:
        """The record does not hold that file any more, nor another."""
        self._let_go(holder, held)
        self._delete(HOLDINGS, holder.uri)

    def shown_by(self, holder: Holder) -> str | None:
        """The name of the file of ours that the record shows, whatever the rows have."""
        return self._name_of((self.record(holder) or {}).get("attachment"))

    def mend(self, name: str, suspects: Iterable[Holder]) -> None:
        """Make the row of a file, and what is known of ``suspects``, match what records show.

        Those that the row names are looked at as well. No file goes, and none comes back: a row
        that no record is left for says so, and leaves the file to ``kinto-attachment gc``.
        """
        row = self._locked_file(name)
        named = [] if row is None else [Holder.at(uri) for uri in row["holders"]]
        looked_at = {*suspects, *named}
        holders = {holder for holder in looked_at if self.shown_by(holder) == name}
        for holder in looked_at:
            if holder in holders:
                self._write_holding(holder, name)
            elif self.held_by(holder) == name:
                self._delete(HOLDINGS, holder.uri)
        if row is None:
            return
        row["holders"] = sorted(holder.uri for holder in holders)
        if holders:
            row.pop("kept", None)
            row.pop("gone", None)
        elif "kept" not in row and "gone" not in row:
            keep = any(self._keeps_old_files(holder) for holder in named)
            row["kept" if keep else "gone"] = msec_time()
        self._write_file(row)

    def condemn(self, name: str) -> bool:
        """Whether a file that no record shows may be deleted. Who copies its metadata from now
        on is told that it is gone."""
        row = self._locked_file(name)
        if row is None:
            return True
        if any(self.shown_by(Holder.at(uri)) == name for uri in row["holders"]):
            return False
        row.pop("kept", None)
        self._write_file({**row, "holders": [], "gone": msec_time()})
        return True

    def bury(self, name: str) -> None:
        """Forget a file that went, unless there is one of that name again."""
        row = self._locked_file(name)
        if row is not None and "gone" in row:
            self._delete(FILES, name)

    def attachment_held_by(self, holder: Holder) -> dict[str, Any] | None:
        """The ``attachment`` attribute that the record should have, as the rows have it."""
        held = self.held_by(holder)
        row = held and self.file(held)
        if not row:
            return None
        return _metadata(row).attachment(self._settings.location(row["name"]))

    def _name_of(self, attachment: Any) -> str | None:
        """The file of ours that ``attachment`` is exactly the metadata of."""
        if not isinstance(attachment, dict):
            return None
        for name in self._settings.relative_names(attachment.get("location")):
            row = self.file(name)
            if row and is_metadata_of(row, attachment):
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

    def _let_go(self, holder: Holder, name: str) -> None:
        row = self._locked_file(name)
        if row is None:
            # Somebody emptied the tables: whose file this is cannot be told any more.
            return
        row["holders"] = [uri for uri in row["holders"] if uri != holder.uri]
        if self._keeps_old_files(holder):
            self._changes.keepers.add(name)
        if not row["holders"]:
            if name in self._changes.keepers:
                row["kept"] = msec_time()
            else:
                row["gone"] = msec_time()
                self._changes.delete_if_committed(name)
        self._write_file(row)

    def _keeps_old_files(self, holder: Holder) -> bool:
        return self._settings.for_collection(holder.bucket_id, holder.collection_id).keep_old_files

    def _locked_file(self, name: str) -> dict[str, Any] | None:
        lock(self._storage, FILES, _parent(name), _ROW)
        return self.file(name)

    def _read(self, resource_name: str, key: str) -> dict[str, Any] | None:
        try:
            row: dict[str, Any] = self._storage.get(
                resource_name=resource_name, parent_id=_parent(key), object_id=_ROW
            )
        except ObjectNotFoundError:
            return None
        return row

    def _delete(self, resource_name: str, key: str) -> None:
        # Without transactions somebody else may have been faster.
        with suppress(ObjectNotFoundError):
            self._storage.delete(
                resource_name=resource_name,
                parent_id=_parent(key),
                object_id=_ROW,
                with_deleted=False,
            )

    def _write_holding(self, holder: Holder, name: str) -> None:
        self._storage.update(
            resource_name=HOLDINGS,
            parent_id=_parent(holder.uri),
            object_id=_ROW,
            obj={"uri": holder.uri, "name": name},
        )

    def _write_file(self, row: dict[str, Any]) -> None:
        content = {key: value for key, value in row.items() if key not in ("id", "last_modified")}
        self._storage.update(
            resource_name=FILES, parent_id=_parent(row["name"]), object_id=_ROW, obj=content
        )


def is_metadata_of(row: dict[str, Any], attachment: dict[str, Any]) -> bool:
    """Whether ``attachment`` is exactly the metadata of the file, wherever it says that it is."""
    expected = _metadata(row).attachment(attachment["location"])
    # In Python, though not in JSON, 1 is equal to 1.0 and to true.
    return attachment == expected and type(attachment["size"]) is int


def _metadata(row: dict[str, Any]) -> Metadata:
    return Metadata(**{key: row[key] for key in ("filename", "hash", "mimetype", "size")})


def _parent(key: str) -> str:
    # Kinto takes a parent for a pattern when it has a "*", and for a regular expression in memory.
    return f"{_PARENT}/{hashlib.sha256(key.encode()).hexdigest()}"
