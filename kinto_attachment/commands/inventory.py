"""An inventory: records, the plugin's rows and stored files, side by side.

Each side is read once into a temporary SQLite database on the disk, so that memory is constant.
Which file a record shows does not depend on the base URL before the name: see ``locations``.
"""

from __future__ import annotations

import json
import math
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import transaction

from kinto_attachment.attachments.file_row import metadata_matches
from kinto_attachment.attachments.locations import may_be_same_file, names_in
from kinto_attachment.attachments.lookup import FILES, HOLDINGS
from kinto_attachment.attachments.site import MARKER, site_ids
from kinto_attachment.commands import inventory_sql as sql
from kinto_attachment.commands.marks import MARKS
from kinto_attachment.commands.patterns import Patterns
from kinto_attachment.commands.report import progress
from kinto_attachment.commands.scope import Scope
from kinto_attachment.database.scan import records_with_attachment, rows, snapshot
from kinto_attachment.migrations import migrated_at
from kinto_attachment.settings import Settings
from kinto_attachment.storage import FileStorage, StorageUnavailable, StoredFile, names
from kinto_attachment.storage.resumable import IncompleteUpload
from kinto_attachment.tus.store import UploadStore

# The kinds of orphans.
GONE = "gone"
"""Given up by its last record, according to its row."""
PART = "part"
"""A hidden part of an unfinished upload that the database does not know."""
STRAY = "stray"
"""Named by the plugin, but of no row; or of a row whose records do not show it."""
KEPT = "kept"
"""Kept by ``keep_old_files``."""
FOREIGN = "foreign"
"""Named by somebody else."""

_MARKERS = (MARKER, names.PRIVATE_PREFIX + MARKER)
_BASES = 20
"""Unknown base URLs that are named: any client may write more."""


@dataclass(frozen=True)
class Orphan:
    """A stored file that no record references.

    ``kept`` is the time since when it is kept, ``marked`` the time when ``gc --mark`` found it.
    """

    name: str
    size: int
    modified: datetime
    kind: str
    kept: datetime | None
    marked: datetime | None


@dataclass(frozen=True)
class KnownFile:
    """A file of which the database knows. ``size`` is in bytes, ``None`` if it is not stored."""

    name: str
    size: int | None
    path: str = ""
    """Its name in the store that it is copied from, if that is another one."""

    @property
    def source(self) -> str:
        """Its name in the store that it is copied from."""
        return self.path or self.name


@contextmanager
def take_inventory(
    kinto_storage: Any,
    settings: Settings,
    files: FileStorage,
    excluded: Patterns,
    scope: Scope,
) -> Iterator[Inventory]:
    """Take an inventory, which is gone at the end of the context: of all records and rows, and of
    the files in ``scope``.

    Raises Kinto's ``BackendError``, and ``StorageUnavailable``.
    """
    with (
        tempfile.TemporaryDirectory(prefix="kinto-attachment-") as folder,
        closing(sqlite3.connect(Path(folder) / "inventory.sqlite")) as database,
    ):
        inventory = Inventory(database, scope)
        inventory.fill(kinto_storage, settings, files, excluded)
        yield inventory


class Inventory:
    """Answers questions about all three sides."""

    def __init__(self, database: sqlite3.Connection, scope: Scope) -> None:
        self._database = database
        self.scope = scope
        """The files that are listed. Nothing is known of others: neither that they are stored, nor
        that they are missing."""
        self.site_ids: list[str] = []
        """Those of the database: see ``attachments.site``."""
        self.unreadable: dict[str, StorageUnavailable] = {}
        """Folders that may not be read, with the error. What they hold is not listed."""

    def fill(
        self, kinto_storage: Any, settings: Settings, files: FileStorage, excluded: Patterns
    ) -> None:
        """Read everything: resumable uploads, then records and rows in one snapshot, then files.

        In this order, a file is needed by its upload, or referenced by its record, or both.
        """
        self._database.executescript(sql.SCHEMA)
        self._add_functions(settings)
        kept_before = 0
        with transaction.manager:
            uploads = progress(UploadStore(kinto_storage).below("*"), "uploads")
            self._insert("needed", 1, ((name,) for each in uploads for name in each.needs(files)))
        with snapshot(kinto_storage) as connection:
            self.site_ids = site_ids(connection)
            if settings.keeps_old_files:
                kept_before = migrated_at(connection) or 0
            for uri, attachment in progress(records_with_attachment(connection), "records"):
                self._insert_record(settings, uri, attachment)
            for row in progress(rows(connection, FILES), "rows of files"):
                content = (row["name"], json.dumps(row), row.get("kept"), row.get("gone"))
                self._insert("rows", 4, [content])
                self._insert("named", 2, ((row["name"], uri) for uri in row["holders"]))
            holdings = progress(rows(connection, HOLDINGS), "rows of records")
            self._insert(
                "holdings", 3, ((row["uri"], row["name"], json.dumps(row)) for row in holdings)
            )
            marks = rows(connection, MARKS)
            self._insert("marks", 2, ((row["name"], row["since"] / 1000) for row in marks))
        listed = progress(self.scope.list(files, self.unreadable.__setitem__), "files")
        self._insert("files", 4, _described(listed, excluded))
        self._database.executescript(sql.JOINED)
        self._database.execute(sql.ORPHANS, {"kept_before": kept_before / 1000})

    def counts(self, before: datetime | None = None) -> dict[str, int]:
        """Count what was read. Each stored file is in exactly one of the counts ``sql.STATES``;
        those that are not older than ``before`` are young."""
        counts = {title: self._count(query) for title, query in sql.COUNTS.items()}
        age = math.inf if before is None else before.timestamp()
        counts |= dict.fromkeys(sql.STATES, 0)
        counts.update(self._database.execute(sql.COUNT_STATES, {"before": age}))
        return {**counts, "folders that may not be read": len(self.unreadable)}

    def missing(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield records that hold a file that is not stored: URI, name, attachment."""
        query = """
            SELECT uri, name, attachment FROM held JOIN records USING (uri)
             WHERE uri NOT IN (SELECT uri FROM stored) AND covers(name) ORDER BY uri
        """
        for uri, name, attachment in self._database.execute(query):
            yield uri, name, json.loads(attachment)

    def stored(self) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]], int]]:
        """Yield stored files that records hold: name, records (URI, attachment), size."""
        query = """
            SELECT name, uri, attachment, size FROM stored JOIN records USING (uri)
             WHERE held ORDER BY name, uri
        """
        found = self._database.execute(query)
        for (name, size), group in groupby(found, key=itemgetter(0, 3)):
            yield name, [(uri, json.loads(attachment)) for _, uri, attachment, _ in group], size

    def orphans(self, where: str = "TRUE") -> Iterator[Orphan]:
        """Yield orphans, without those that are excluded or needed by a resumable upload;
        ``where`` is a condition in SQL."""
        query = f"""
            SELECT name, size, modified, kind, kept, marked FROM orphans
             WHERE {where} ORDER BY name
        """  # noqa: S608 - of constants
        for name, size, modified, kind, kept, marked in self._database.execute(query):
            times = [None if each is None else _time(each) for each in (kept, marked)]
            yield Orphan(name, size, _time(modified), kind, *times)

    def known_files(self) -> Iterator[KnownFile]:
        """Yield the files that a row, a record or a resumable upload knows, kept ones included;
        no hidden parts of unfinished uploads."""
        for name, size in self._database.execute(f"{sql.KNOWN} ORDER BY name"):
            yield KnownFile(name, size)

    def index_contents(self) -> None:
        """Prepare ``lacks_size()``, ``names_of()`` and ``is_first()``."""
        self._database.executescript(sql.CONTENTS)

    def lacks_size(self, size: int) -> bool:
        """Whether a file of ``size`` bytes that a row knows is not stored, or in another size."""
        query = "SELECT EXISTS (SELECT 1 FROM contents WHERE size = ? AND stored IS NOT size)"
        return bool(self._database.execute(query, [size]).fetchone()[0])

    def names_of(self, sha256: str, size: int, *, stored: bool) -> list[str]:
        """Return the names of the files with this content, according to their rows; with
        ``stored``, also of those that are stored in this size."""
        query = """
            SELECT name FROM contents
             WHERE hash = ? AND size = ? AND (? OR stored IS NOT size) ORDER BY name
        """
        return [name for (name,) in self._database.execute(query, [sha256, size, stored])]

    def is_first(self, name: str) -> bool:
        """Whether this is asked for the first time with this name."""
        query = "INSERT OR IGNORE INTO asked VALUES (?)"
        return bool(self._database.execute(query, [name]).rowcount)

    def unknown_files(self) -> Iterator[Orphan]:
        """Yield the orphans that are none of ``known_files()``."""
        return self.orphans(f"name NOT IN (SELECT name FROM ({sql.KNOWN}))")  # noqa: S608

    def kept_without_row(self) -> Iterator[Orphan]:
        """Yield the files that an earlier version has kept, of which only the date tells so."""
        return self.orphans("kind = 'kept' AND name NOT IN (SELECT name FROM rows)")

    def unknown_bases(self) -> Iterator[tuple[str, int]]:
        """Yield what stands before the names of files in locations of records, if it is none of
        the known base URLs, and the number of these records; the most frequent first."""
        yield from self._database.execute(sql.UNKNOWN_BASES, [_BASES])

    def has_files(self) -> bool:
        """Whether any file is stored."""
        return bool(self._count("SELECT EXISTS (SELECT 1 FROM files)"))

    def has_only_strangers(self, prefix: str) -> bool:
        """Whether there are files in the store whose names begin with ``prefix`` (see
        ``Files.stores``), and no record, row or resumable upload names one of them."""
        query = """
            SELECT count(*) > 0 AND total(
                       name IN (SELECT name FROM rows)
                    OR name IN (SELECT name FROM stored)
                    OR name IN (SELECT name FROM needed)) = 0
              FROM files WHERE is_private(name) = ?
        """
        return bool(self._database.execute(query, [names.is_private(prefix)]).fetchone()[0])

    def count_own_files(self) -> int:
        """Count stored files that are not foreign."""
        query = """
            SELECT (SELECT count(*) FROM files)
                 - (SELECT count(*) FROM orphans WHERE kind = 'foreign')
        """
        return self._count(query)

    def is_needed(self, upload: IncompleteUpload) -> bool:
        """Whether a resumable upload needs what the storage has of an unfinished one."""
        query = "SELECT 1 FROM needed WHERE name IN (?, ?)"
        return self._database.execute(query, [upload.id, upload.name]).fetchone() is not None

    def is_own(self, name: str) -> bool:
        """Whether the plugin gives this name to files, or to what is not a file yet."""
        query = "SELECT is_random(?1) OR is_part(?1)"
        return bool(self._database.execute(query, [name]).fetchone()[0])

    def mismatches(self) -> Iterator[tuple[str, str | None, str]]:
        """Yield where rows and records differ: name of the file, URI of the record (``None`` for
        the file row itself), and how."""
        yield from self._database.execute(sql.MISMATCHES)

    def doubtful(self) -> Iterator[str]:
        """Yield names of files whose row does not say what the name does: whether it is
        private."""
        for (name,) in self._database.execute("SELECT name FROM doubtful ORDER BY name"):
            yield name

    def has_private_rows(self) -> bool:
        """Whether any row is that of a private file."""
        return bool(self._count("SELECT EXISTS (SELECT 1 FROM rows WHERE is_private(name))"))

    def gone(self, before: datetime) -> Iterator[str]:
        """Yield random names of files that were marked gone ``before``, and are not stored."""
        query = """
            SELECT name FROM rows
             WHERE gone < ? AND is_random(name) AND covers(name)
               AND name NOT IN (SELECT name FROM files)
        """
        for (name,) in self._database.execute(query, [before.timestamp() * 1000]):
            yield name

    def stale_marks(self) -> Iterator[str]:
        """Yield names with a mark that are not those of orphans, or of newer files."""
        query = """
            SELECT name FROM marks
             WHERE name NOT IN (SELECT name FROM orphans WHERE marked IS NOT NULL)
               AND covers(name)
        """
        for (name,) in self._database.execute(query):
            yield name

    def _add_functions(self, settings: Settings) -> None:
        for function, arguments in (
            (_similarity, 3),
            (_base_of, 2),
            (settings.is_random, 1),
            (names.is_part, 1),
            (names.is_private, 1),
            (self.scope.covers, 1),
        ):
            title = function.__name__.lstrip("_")
            self._database.create_function(title, arguments, function, deterministic=True)

    def _count(self, query: str) -> int:
        count: int = self._database.execute(query).fetchone()[0]
        return count

    def _insert_record(self, settings: Settings, uri: str, attachment: dict[str, Any]) -> None:
        location = attachment.get("location")
        known = list(settings.relative_names(location))
        # A location may be percent-encoded.
        known += map(unquote, known[:])
        self._insert("records", 3, [(uri, json.dumps(attachment), bool(known))])
        candidates = sorted({*known, *names_in(location)}, key=len, reverse=True)
        self._insert(
            "candidates",
            4,
            ((uri, rank, name, name in known) for rank, name in enumerate(candidates)),
        )

    def _insert(self, table: str, columns: int, rows: Iterable[tuple[Any, ...]]) -> None:
        values = ", ".join("?" * columns)
        self._database.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({values})", rows)  # noqa: S608


def _described(
    files: Iterable[StoredFile], excluded: Patterns
) -> Iterator[tuple[str, int, float, bool]]:
    for file in files:
        # No record can reference a name that is not UTF-8, and the plugin gives none.
        if file.name not in _MARKERS and names.is_valid(file.name):
            yield file.name, file.size, file.modified.timestamp(), excluded.matches(file.name)


def _time(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, timezone.utc)


def _similarity(attachment: str, row: str, holding: str | None) -> int:
    """Return whether a record's attachment may be that of the row's file: 0 if not, 1 if so, 2 if
    all metadata is equal."""
    own = json.loads(holding) if holding else None
    if metadata_matches(json.loads(attachment), json.loads(row), own):
        return 2
    return int(may_be_same_file(json.loads(attachment), json.loads(row)))


def _base_of(attachment: str, name: str) -> str:
    location: str = json.loads(attachment)["location"]
    if not location.endswith(name):
        location = unquote(location)
    return location.removesuffix(name)
