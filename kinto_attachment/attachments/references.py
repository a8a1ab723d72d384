"""Which records hold which file, in two kinds of rows of the plugin in Kinto's storage backend.

A *file row*, found by the file's name, has the file's metadata and the URIs of its holders. A file
that lost its last holder is marked ``gone`` (deleted, or about to be: copying its metadata is then
refused) or ``kept`` (see ``keep_old_files``), with the time in milliseconds since 1970.

A *holding*, found by a record's URI, has the name of the file that the record holds, and the
``location`` that the record had then.

Rows are only read by their key, so nothing slows down as files add up. Rows migrated from earlier
versions have what their records had: a file row may lack metadata (``None``) or have more
(``extra``), and a holding has ``shown`` if its record's metadata differs from the file row's.
The row of a private file says so (``private``), and which ``collection`` showed it last.

Holders of a file change under a lock on its row. Rows make the usual case cheap, and are not the
truth: other plugins write records without an event. So before files are deleted, the records
themselves are asked (``keep_referenced()``), liberally: see ``locations``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from kinto.core.utils import msec_time

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.file_row import is_consistent, metadata_matches
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.inspection import Metadata
from kinto_attachment.attachments.lookup import FILES, HOLDINGS, Lookup
from kinto_attachment.attachments.quotas import Changes, Quotas, Room
from kinto_attachment.attachments.readers import Readers
from kinto_attachment.database.location_index import IndexMissing
from kinto_attachment.database.objects import Object, is_transactional
from kinto_attachment.database.rows import Row
from kinto_attachment.errors import FileDeleted, Forbidden, MetadataModified, NameTaken
from kinto_attachment.settings import Settings
from kinto_attachment.storage.names import is_private

_PAGE = 1000
"""Names in one question to the records."""


class References(Lookup):
    """Keeps the rows, and schedules the deletion of files that lose their last holder."""

    def __init__(
        self,
        kinto_storage: Any,
        settings: Settings,
        changes: FileChanges,
        readers: Readers | None = None,
    ) -> None:
        """With ``readers``, only those get a copy of a private file's metadata who may read it."""
        super().__init__(kinto_storage, settings)
        self._readers = readers
        self._changes = changes
        self._quotas = Quotas(kinto_storage, FILES, settings.quotas)

    def add(self, name: str, metadata: Metadata, holder: Holder) -> None:
        """Create the row of a new file, before its first ``holder`` is written.

        Where a transaction decides, ``sync()`` or ``keep_referenced()`` write it with other rows.
        Raises ``NameTaken`` if a file has, or had, that name; ``QuotaExceeded`` where nothing
        rolls back.
        """
        # Only names that are not random can come back.
        if not self._settings.is_random(name) and self._locked_file(name) is not None:
            raise NameTaken()
        row = {"name": name, **asdict(metadata), "holders": [holder.uri]}
        row |= {"private": True} if is_private(name) else {}
        self._write_file(row, added=holder, later=True)

    def room(self, holder: Holder, size: int) -> Room:
        """Return how many bytes a new file of the record may have, whose file it replaces. See
        ``Quotas.room()``."""
        changes: Changes = {}
        self._quotas.note(changes, {"holders": [holder.uri]}, [], limited=True)
        self._note_release(changes, holder)
        return self._quotas.room(changes, size)

    def settle_usage(self, *, enforce: bool = True) -> None:
        """Count what the transaction has changed, right before it commits.

        With ``enforce``, raises ``QuotaExceeded`` for what clients have added.
        """
        self._quotas.settle(self._changes.usage, enforce=enforce)

    def add_kept(self, since: Mapping[str, int]) -> int:
        """Create the rows of files that an earlier version has kept, by their names, with the time
        in milliseconds since 1970; not of those that have a row or that records reference. Return
        how many."""
        referenced = self.showing(since, scan=True)
        missing = [name for name in sorted(since) if self._locked_file(name) is None]
        unnamed = [name for name in missing if name not in referenced]
        blank = dict.fromkeys(each.name for each in fields(Metadata))
        for name in unnamed:
            self._write_file({"name": name, **blank, "holders": [], "kept": since[name]})
        return len(unnamed)

    def forget(self, name: str) -> None:
        """Delete the row of a file that no record holds."""
        self._rows.delete(FILES, name)

    def keep_referenced(self) -> None:
        """Look for records that reference the files that this transaction gives up: they become
        holders, and the files stay.

        To be called once all subscribers have run: a later one may write the file back. Locks none
        of the records.
        """
        self._rows.flush()
        seen: set[str] = set()
        # Whoever is adopted may give up another file.
        while some := self._changes.given_up(_PAGE, but=seen):
            seen.update(some)
            try:
                showing = self.showing(some)
            except IndexMissing:
                self._changes.leave(some)
                continue
            for name in sorted(showing):
                self._adopt(name, showing[name])

    def sync(self, holder: Holder, *, trusted: bool = False) -> None:
        """Make the rows match the record as it is now.

        With ``trusted``, any metadata may replace that of the file that the record holds.
        Raises ``MetadataModified``, ``FileDeleted``.
        """
        # An upload replaces the file that the record holds.
        replaced = FILES if self._rows.has_unwritten(FILES) else None
        holding, record = self._rows.get_with_object(
            HOLDINGS, holder.uri, holder.key, lock_named=replaced
        )
        held = None if holding is None else holding["name"]
        attachment: Any = (record or {}).get("attachment")
        name = self._accepted(attachment, holding)
        if name is None and attachment is not None and held is not None and not trusted:
            raise MetadataModified()
        with self._rows.together():
            if name != held:
                # In the order of names: two records may swap their files.
                for each in sorted(filter(None, {name, held})):
                    self._locked_file(each)
                if name is not None:
                    self._add_holder(name, holder)
                if held is not None:
                    self._remove_holder(held, holder)
            if name is None:
                if held is not None:
                    self._rows.delete(HOLDINGS, holder.uri)
            elif (
                holding is None
                or name != held
                or holding.get("location") != attachment["location"]
            ):
                self._write_holding(holder, name, attachment)

    def relocate(self, holder: Holder, former: str, name: str, attachment: Object) -> None:
        """Let a record hold the file ``name``, a copy of ``former``, before it is written with the
        new ``attachment``; release what it has held.

        The row of the copy is created with its first holder. Raises ``FileDeleted`` if one of the
        files has been deleted meanwhile.
        """
        old = {former, *filter(None, [self.held_by(holder)])}
        rows = {each: self._locked_file(each) for each in sorted({*old, name})}
        copy, source = rows[name], rows[former]
        if source is None or (copy is not None and not copy["holders"]):
            raise FileDeleted()
        if copy is None:
            states = ("private", "collection", "kept", "gone")
            copy = {key: value for key, value in source.items() if key not in states}
            copy |= {"name": name, "holders": []}
            copy |= {"private": True} if is_private(name) else {}
        self._write_file({**copy, "holders": sorted({*copy["holders"], holder.uri})})
        for each in old:
            row = rows[each]
            if row is not None and holder.uri in row["holders"]:
                self._drop_holder(row, holder)
                self._write_file(row)
        self._write_holding(holder, name, attachment, copy)

    def release_many(self, holders: Collection[Holder]) -> None:
        """Release the files of records that are deleted, or about to be."""
        if not is_transactional(self._kinto_storage):
            # One by one: without locks, a row should be written soon after it was read.
            for holder in holders:
                held = self.held_by(holder)
                if held is not None:
                    self._remove_holder(held, holder)
                    self._rows.delete(HOLDINGS, holder.uri)
            return
        by_uri = {holder.uri: holder for holder in holders}
        holdings = self._rows.get_many(HOLDINGS, by_uri)
        if not holdings:
            return
        rows = self._rows.many_locked(FILES, {row["name"] for row in holdings.values()})
        for uri, holding in holdings.items():
            # Without a row, see _remove_holder().
            if row := rows.get(holding["name"]):
                before = row["holders"]
                self._drop_holder(row, by_uri[uri])
                self._quotas.note(self._changes.usage, row, before)
        self._rows.replace_many(FILES, rows)
        self._rows.delete_many(HOLDINGS, holdings)

    def repair(self, name: str, suspects: Iterable[Holder]) -> None:
        """Make the row of a file match the records that it names, and ``suspects``; likewise their
        holdings.

        Deletes no file and restores none: a row without holders is marked ``kept`` or ``gone``.
        """
        row = self._locked_file(name)
        named = [] if row is None else [Holder.at(uri) for uri in row["holders"]]
        candidates = {*suspects, *named}
        holders = {holder for holder in candidates if self.referenced_by(holder) == name}
        for holder in candidates:
            held = self.held_by(holder)
            if holder in holders:
                record = self.record(holder)
                if held != name and record is not None:
                    self._write_holding(holder, name, record["attachment"], row)
            elif held == name:
                self._rows.delete(HOLDINGS, holder.uri)
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

    def mark_gone(self, name: str) -> bool:
        """Mark a file as ``gone`` before it is deleted, unless a record references it.

        Returns whether the file may be deleted, which one without a row may.
        """
        row = self._locked_file(name)
        if self._is_referenced(name, row, scan=True):
            return False
        if row is not None:
            row.pop("kept", None)
            self._write_file({**row, "holders": [], "gone": msec_time()})
        return True

    def give_up(self, name: str) -> None:
        """Delete a file without holders once the transaction commits, unless a record references
        it."""
        try:
            if not self._is_referenced(name, self._locked_file(name)):
                self._changes.delete_if_committed(name)
        except IndexMissing:
            self._changes.leave([name])

    def forget_gone(self, name: str) -> None:
        """Delete the row of a file that is ``gone``, unless its name could come back."""
        row = self._locked_file(name)
        if row is not None and "gone" in row and self._settings.is_random(name):
            self._rows.delete(FILES, name)

    def _is_referenced(self, name: str, row: Row | None, *, scan: bool = False) -> bool:
        """Whether a record references the file, according to the records."""
        named = [] if row is None else [Holder.at(uri) for uri in row["holders"]]
        return any(self.referenced_by(holder) == name for holder in named) or bool(
            self.showing([name], scan=scan)
        )

    def _adopt(self, name: str, records: Collection[tuple[Holder, Object]]) -> None:
        """Make records the holders of a file that was given up."""
        self._changes.revoke_deletion(name)
        row = self._locked_file(name)
        if row is None:
            # Its metadata is not known: check reports the file.
            return
        row.pop("gone", None)
        if "private" in row:
            # A holder may be read by others. So what is plain data keeps the file, and no more.
            records = [each for each in records if self._accepted(each[1], None) == name]
            if not records and not row["holders"]:
                row["kept"] = msec_time()
        row["holders"] = sorted({*row["holders"], *(holder.uri for holder, _ in records)})
        self._write_file(row)
        for holder, attachment in records:
            held = self.held_by(holder)
            if held is not None and held != name:
                self._remove_holder(held, holder)
            self._write_holding(holder, name, attachment, row)

    def _add_holder(self, name: str, holder: Holder) -> None:
        row = self._locked_file(name)
        if row is not None and "private" in row and not self._may_copy(row, holder):
            raise Forbidden()
        if row is None or ("gone" in row and not self._changes.revoke_deletion(name)):
            raise FileDeleted()
        if holder.uri not in row["holders"] or "gone" in row or "kept" in row:
            row.pop("gone", None)
            row.pop("kept", None)
            row["holders"] = sorted({*row["holders"], holder.uri})
            self._write_file(row, added=holder)

    def _may_copy(self, row: Row, holder: Holder) -> bool:
        """Whether whoever writes the record may read the private file, or has just taken it from
        another record. What nobody shows any more is for those who may read the collection that
        it was in."""
        if self._readers is None or holder.uri in row["holders"]:
            return True
        if row["name"] in self._changes.released:
            return True
        named = [Holder.at(uri) for uri in row["holders"]]
        if any(map(self._readers.is_about_to_sync, named)):
            return True
        showing = [each for each in named if self.referenced_by(each) == row["name"]]
        if showing:
            return self._readers.may_read(showing)
        return "collection" in row and self._readers.may_read_collection(row["collection"])

    def _remove_holder(self, name: str, holder: Holder) -> None:
        row = self._locked_file(name)
        if row is None:
            # The rows were emptied by hand: the other holders are not known any more.
            return
        self._drop_holder(row, holder)
        self._write_file(row)

    def _drop_holder(self, row: Row, holder: Holder) -> None:
        """Take the holder out of a locked row, which the caller writes."""
        name = row["name"]
        row["holders"] = [uri for uri in row["holders"] if uri != holder.uri]
        self._changes.released.add(name)
        if "private" in row:
            row["collection"] = holder.parent_id
        if self._keeps_old_files(holder):
            self._changes.kept.add(name)
        if not row["holders"]:
            if name in self._changes.kept:
                row["kept"] = msec_time()
            else:
                row["gone"] = msec_time()
                if is_consistent(row):
                    self._changes.delete_if_committed(name)

    def _keeps_old_files(self, holder: Holder) -> bool:
        return self._settings.for_collection(holder.bucket_id, holder.collection_id).keep_old_files

    def _locked_file(self, name: str) -> Row | None:
        return self._rows.locked(FILES, name)

    def _write_holding(
        self, holder: Holder, name: str, attachment: Object, row: Row | None = None
    ) -> None:
        """Write what the record holds; with the file's ``row``, also metadata that differs."""
        holding = {"uri": holder.uri, "name": name, "location": attachment.get("location")}
        if row is not None and not metadata_matches(attachment, row, None):
            holding["shown"] = {key: attachment[key] for key in attachment if key != "location"}
        self._rows.put(HOLDINGS, holder.uri, holding)

    def _write_file(self, row: Row, added: Holder | None = None, *, later: bool = False) -> None:
        """Write the row of a file; ``added`` is the holder that a client has added. With
        ``later``, see ``Rows.put_later()``."""
        with self._quotas.exclusive():
            if self._quotas:
                self._note(row, added)
            put = self._rows.put_later if later else self._rows.put
            put(FILES, row["name"], row)

    def _note(self, row: Row, added: Holder | None) -> None:
        """Note what a write of the row changes. Raises ``QuotaExceeded`` where nothing rolls
        back."""
        before = (self.file(row["name"]) or {"holders": []})["holders"]
        if is_transactional(self._kinto_storage):
            limited = added is not None
            self._quotas.note(self._changes.usage, row, before, limited=limited)
        elif added is not None:
            changes: Changes = {}
            self._quotas.note(changes, row, before, limited=True)
            self._note_release(changes, added)
            self._quotas.check(changes)

    def _note_release(self, changes: Changes, holder: Holder) -> None:
        """Note that the record releases its file."""
        held = self.held_by(holder)
        row = held and self.file(held)
        if row:
            others = [uri for uri in row["holders"] if uri != holder.uri]
            self._quotas.note(changes, {**row, "holders": others}, row["holders"])
