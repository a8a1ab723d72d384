"""Move the files of a collection between the public and the private store, under new names.

A file is copied first, then the records that reference it are changed, each in a transaction that
asks again whether it does. The former file is given up as by any other change of its records. So
a run that is interrupted leaves unreferenced copies at most, and a later one goes on.
"""

from __future__ import annotations

import argparse
import logging
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import transaction
from pyramid.httpexceptions import HTTPException

from kinto_attachment.attachments import record as records
from kinto_attachment.attachments.authorization import AttachmentContext, check_record_id
from kinto_attachment.attachments.file_changes import FileChanges, delete_files
from kinto_attachment.attachments.file_row import is_consistent
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.inspection import Inspection
from kinto_attachment.attachments.reading import ReadableFile
from kinto_attachment.attachments.references import References
from kinto_attachment.attachments.upload import UploadPolicy
from kinto_attachment.commands import edits, evidence
from kinto_attachment.commands.report import Report, progress
from kinto_attachment.commands.site import NO_PRIVATE_STORE, Refused, Site
from kinto_attachment.database.objects import get, key
from kinto_attachment.database.rows import Row
from kinto_attachment.database.scan import pages
from kinto_attachment.errors import Refusal, UnknownCollection
from kinto_attachment.http.multipart import FILE
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.names import is_private
from kinto_attachment.tus.store import UploadStore

logger = logging.getLogger(__name__)

_THREADS = 4
"""Files copied at a time."""
_WINDOW = 2 * _THREADS
"""Files copied before the first of them is referenced, at most."""
_MAX_SIZE = 2**63
"""What SQLite's integers can have."""

_LEFT = {
    "shared": "{name} stays {state}: {others} records of other collections reference it",
    "kept": "{name} stays {state}: keep_old_files keeps it",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of both commands."""
    parser.add_argument("bucket", metavar="BUCKET", help="the id of the bucket")
    parser.add_argument("collection", metavar="COLLECTION", help="the id of the collection")
    parser.add_argument("--write", action="store_true", help="move; without it, only tell")


def run(site: Site, options: argparse.Namespace, report: Report, *, private: bool) -> bool:
    """Move the collection's files to where files are ``private`` or not, or report which.

    Returns whether nothing failed. Raises ``Refused`` before it changes anything.
    """
    evidence.check_settings(site)
    relocation = _Relocation(site, report, options.bucket, options.collection, private)
    relocation.check()
    with closing(sqlite3.connect("")) as database:
        relocation.find(database)
        if options.write:
            relocation.move(database)
        else:
            relocation.tell(database)
    relocation.count_uploads()
    report.close(relocation.counts, ok=not relocation.counts["failures"])
    return not relocation.counts["failures"]


@dataclass(frozen=True)
class _File:
    """A file to move, which ``records`` records of the collection reference, ``first`` among
    them. ``size`` is in bytes."""

    name: str
    size: int
    records: int
    first: Holder


class _Differs(Exception):
    """The stored file is not the one that its row describes."""


class _Relocation:
    """Moves the files of one collection, and reports it."""

    def __init__(
        self, site: Site, report: Report, bucket_id: str, collection_id: str, private: bool
    ) -> None:
        self._site = site
        self._report = report
        self._ids = {"bucket_id": bucket_id, "collection_id": collection_id}
        self._parent_id = Holder(bucket_id, collection_id, "").parent_id
        self._private = private
        self._settings = site.settings.for_collection(bucket_id, collection_id)
        self.counts = {"records to write": 0, "files to move": 0, "bytes to move": 0}
        self.counts |= {"uploads under way": 0, "failures": 0}

    def check(self) -> None:
        """Raise ``Refused`` if the collection does not exist, or its settings differ."""
        bucket_id, collection_id = self._ids.values()
        with transaction.manager:
            of_collection = key("collection", f"/buckets/{bucket_id}", collection_id)
            if get(self._site.kinto_storage, of_collection) is None:
                raise Refused(
                    f"there is no collection {collection_id!r} in the bucket {bucket_id!r}. (A"
                    " user's default bucket has an id of its own: see GET /v1/buckets/default.)"
                )
        if self._settings.private != self._private:
            now, wanted = ("public", "true") if self._private else ("private", "false")
            raise Refused(
                f"the next file of {self._parent_id} would be {now} again: set"
                f" kinto.attachment.resources.{bucket_id}.{collection_id}.private = {wanted}, and"
                " restart the servers."
            )

    def find(self, database: sqlite3.Connection) -> None:
        """Write down which files to move, and the records that reference them.

        Raises ``Refused`` if these are private, and the settings have no store for them.
        """
        database.execute(
            "CREATE TABLE shown (name TEXT, uri TEXT, size INTEGER, PRIMARY KEY (name, uri))"
            " WITHOUT ROWID"
        )
        found = pages(self._site.kinto_storage, "record", self._parent_id)
        with self._site.references() as references:
            for record in progress(found, "records"):
                holder = Holder.under(self._parent_id, record["id"])
                row = references.attached_to(holder)[1] if record.get(FILE) else None
                if row is None or is_private(row["name"]) == self._private:
                    continue
                if not self._private and self._site.files.private is None:
                    raise Refused(NO_PRIVATE_STORE)
                if not is_consistent(row):
                    sentence = f"{row['name']} stays: its row does not say whether it is private"
                    self._fail(f"{sentence}, see check", "privacy", row["name"], holder)
                    continue
                values = (row["name"], holder.uri, _size(row) or 0)
                database.execute("INSERT INTO shown VALUES (?, ?, ?)", values)
        for file in _files(database):
            self.counts["records to write"] += file.records
            self.counts["files to move"] += 1
            self.counts["bytes to move"] += file.size

    def tell(self, database: sqlite3.Connection) -> None:
        """Report what would be moved."""
        for file in _files(database):
            with self._site.references() as references:
                row = references.file(file.name) or {"holders": []}
            others = self._count_others(row)
            left = "shared" if others else "kept" if self._settings.keep_old_files else None
            self._report_file(file, None, left, others)

    def move(self, database: sqlite3.Connection) -> None:
        """Move the files, and report it."""
        self.counts |= {"records written": 0, "files moved": 0, "bytes moved": 0}
        self.counts |= {"files left for other collections": 0, "files kept": 0}
        files = iter(progress(_files(database), "files", self.counts["files to move"]))
        with ThreadPoolExecutor(_THREADS, "kinto-attachment-copy") as threads:
            while window := list(islice(files, _WINDOW)):
                for file, copied in zip(window, threads.map(self._copy, window), strict=True):
                    if isinstance(copied, str):
                        self._change(file, copied, database)
                    elif not isinstance(copied, FileNotFoundError):
                        self._fail(f"{file.name} stays: {copied}", "copy", file.name, file.first)
                    elif self._is_shown(file, database):
                        self._fail(f"{file.name} is not stored", "missing", file.name, file.first)

    def count_uploads(self) -> None:
        """Report the resumable uploads that began before the setting changed."""
        with transaction.manager:
            for upload in UploadStore(self._site.kinto_storage).below(f"{self._parent_id}/*"):
                began_private = self._site.files.is_private_state(upload.state)
                if not upload.done and not upload.is_expired and began_private != self._private:
                    self.counts["uploads under way"] += 1
        if count := self.counts["uploads under way"]:
            state = _state(not self._private)
            self._report.finding(
                f"{count} resumable uploads began while the collection was {state}, and their"
                f" files will be {state}: run this again when they are done",
                problem="uploads",
                uploads=count,
            )

    def _copy(self, file: _File) -> str | Exception:
        """Copy a file to the other store; return its name there, or why it is not copied."""
        with self._site.references() as references:
            row = references.file(file.name)
        try:
            return self._copied(file, row or {"name": file.name})
        except (FileNotFoundError, Refusal, StorageUnavailable, _Differs) as error:
            return error

    def _copied(self, file: _File, row: Row) -> str:
        files, ids = self._site.files, {**self._ids, "id": file.first.record_id}
        readable = ReadableFile.of(file.name, row, "")
        policy = UploadPolicy(self._settings, ids, files.max_size)
        new = policy.new_file(readable.filename, readable.mimetype, _size(row))
        new = replace(new, sha256=readable.hash)
        inspection = Inspection(readable.filename, readable.mimetype, None)
        with closing(files.read(file.name)) as chunks:
            staged = files.stage(new)
            try:
                for chunk in chunks:
                    inspection.update(chunk)
                    staged.write(chunk)
                metadata = inspection.metadata()
                for name, found in (("size", metadata.size), ("hash", metadata.hash)):
                    if row.get(name) not in (None, found):
                        raise _Differs(f"it has {name} {found}, not {row[name]}")
                return staged.finish(self._is_used)
            finally:
                staged.discard()

    def _change(self, file: _File, copied: str, database: sqlite3.Connection) -> None:
        """Let the records of the file reference its copy; delete that if none does."""
        written = refused = 0
        holders = _holders(database, file.name)
        edit = partial(self._edit, file.name, copied)
        while batch := list(islice(holders, edits.BATCH)):
            some, failed = edits.apply(self._site.registry, batch, edit)
            written += some
            refused += len(failed)
            for holder, error in failed.items():
                sentence = f"{holder.uri} stays as it is: {edits.reason(error)}"
                self._fail(sentence, "record", file.name, holder)
                if not isinstance(error, HTTPException):
                    logger.error("%s was not written.", holder.uri, exc_info=error)
        if not written:
            self._discard(copied)
            return
        self.counts["records written"] += written
        self.counts["files moved"] += 1
        self.counts["bytes moved"] += file.size
        with self._site.references() as references:
            row = references.file(file.name) or {"holders": []}
        others, left = self._count_others(row), None
        if others:
            left = "shared"
            self.counts["files left for other collections"] += 1
        elif "kept" in row:
            left = "kept"
            self.counts["files kept"] += 1
        self._report_file(replace(file, records=written), copied, left, others)
        if len(row["holders"]) - others > refused:
            # Written meanwhile, or earlier without an event: the last look has found them.
            sentence = f"{file.name}: other records of the collection reference it, run this again"
            self._fail(sentence, "again", file.name, Holder.at(row["holders"][0]))

    def _edit(self, former: str, copied: str, request: Any, holder: Holder) -> bool:
        """Let one record reference the copy, unless it references another file by now."""
        # As if the file was attached once more, so that the record and its collection are locked.
        request.method = "POST"
        check_record_id(request)
        try:
            context = AttachmentContext(request, locked=True)
        except UnknownCollection:
            return False
        kinto_storage, changes = self._site.kinto_storage, FileChanges.current(self._site.files)
        references = References(kinto_storage, self._site.settings, changes)
        record, row = references.attached_to(holder)
        if record is None or row is None or row["name"] != former:
            return False
        attachment = {**record[FILE], "location": self._site.settings.location(copied)}
        new = records.processed(request, context, {**record, FILE: attachment})
        references.relocate(holder, former, copied, attachment)
        edits.update(request, holder, record, new)
        request.registry.attachment_site.write_after_commit()
        return True

    def _discard(self, copied: str) -> None:
        with self._site.references() as references:
            is_free = references.mark_gone(copied)
        if is_free:
            delete_files(self._site.files, [copied])

    def _is_used(self, name: str) -> bool:
        with self._site.references() as references:
            return references.is_used(name)

    def _is_shown(self, file: _File, database: sqlite3.Connection) -> bool:
        """Whether a record of the collection still references the file."""
        with self._site.references() as references:
            return any(
                (references.attached_to(holder)[1] or {}).get("name") == file.name
                for holder in _holders(database, file.name)
            )

    def _count_others(self, row: Row) -> int:
        """Count the holders of a file in other collections."""
        return sum(Holder.at(uri).parent_id != self._parent_id for uri in row["holders"])

    def _report_file(self, file: _File, copied: str | None, left: str | None, others: int) -> None:
        done = "would be moved" if copied is None else f"moved to {copied}"
        sentence = f"{file.name} {done} ({file.records} records, {file.size:,} bytes)"
        if left is not None:
            state = _state(not self._private)
            sentence += f"; {_LEFT[left].format(name=file.name, state=state, others=others)}"
        self._report.finding(
            sentence,
            name=file.name,
            new=copied,
            records=file.records,
            size=file.size,
            moved=copied is not None,
            left=left,
        )

    def _fail(self, sentence: str, problem: str, name: str, holder: Holder) -> None:
        self.counts["failures"] += 1
        self._report.finding(sentence, problem=problem, name=name, record=holder.uri)


def _files(database: sqlite3.Connection) -> Iterator[_File]:
    query = "SELECT name, max(size), count(*), min(uri) FROM shown GROUP BY name ORDER BY name"
    for name, size, count, first in database.execute(query):
        yield _File(name, size, count, Holder.at(first))


def _holders(database: sqlite3.Connection, name: str) -> Iterator[Holder]:
    for (uri,) in database.execute("SELECT uri FROM shown WHERE name = ? ORDER BY uri", [name]):
        yield Holder.at(uri)


def _size(row: Row) -> int | None:
    """Return the size in bytes, ``None`` if it is not known: in earlier versions, anybody wrote
    it."""
    size = row.get("size")
    return size if type(size) is int and 0 <= size < _MAX_SIZE else None


def _state(private: bool) -> str:
    return "private" if private else "public"
