"""An inventory: records, the plugin's rows and stored files, side by side.

Each side is read once into a temporary SQLite database on the disk, so that memory is constant.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import transaction

from kinto_attachment.attachments.references import FILES, HOLDINGS, metadata_matches
from kinto_attachment.commands.report import progress
from kinto_attachment.database.scan import records_with_attachment, rows, snapshot
from kinto_attachment.migrations import migrated_at
from kinto_attachment.settings import Settings
from kinto_attachment.storage import FileStorage, StoredFile
from kinto_attachment.tus.store import UploadStore

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
-- The names that a record's location may stand for: one under each base URL that it starts with.
CREATE TABLE referenced (
    uri TEXT, rank INTEGER, name TEXT, attachment TEXT, PRIMARY KEY (uri, rank)
) WITHOUT ROWID;
-- File rows, and the holders that they name.
CREATE TABLE rows (name TEXT PRIMARY KEY, row TEXT, kept INTEGER, gone INTEGER) WITHOUT ROWID;
CREATE TABLE named (name TEXT, uri TEXT, PRIMARY KEY (name, uri)) WITHOUT ROWID;
CREATE TABLE holdings (uri TEXT PRIMARY KEY, name TEXT, holding TEXT) WITHOUT ROWID;
CREATE TABLE files (name TEXT PRIMARY KEY, size INTEGER, modified REAL, excluded INTEGER)
    WITHOUT ROWID;
-- What resumable uploads need: names of files, and ids of the storage's incomplete uploads.
CREATE TABLE needed (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_JOINED = """
CREATE INDEX referenced_by_name ON referenced (name);
-- The file that a record holds, by its metadata.
CREATE TABLE held (uri TEXT PRIMARY KEY, name TEXT) WITHOUT ROWID;
INSERT OR IGNORE INTO held
    SELECT referenced.uri, referenced.name
      FROM referenced JOIN rows USING (name) LEFT JOIN holdings USING (uri)
     WHERE metadata_matches(attachment, row, holding) ORDER BY referenced.uri, rank;
-- The stored file that a record references, by its name.
CREATE TABLE stored (uri TEXT PRIMARY KEY, name TEXT, attachment TEXT, size INTEGER) WITHOUT ROWID;
INSERT OR IGNORE INTO stored
    SELECT uri, name, attachment, size FROM referenced JOIN files USING (name) ORDER BY uri, rank;
"""


@dataclass(frozen=True)
class Orphan:
    """A stored file that no record references; ``kept`` is the time since when it is kept."""

    name: str
    size: int
    kept: datetime | None


@contextmanager
def take_inventory(
    kinto_storage: Any,
    settings: Settings,
    files: FileStorage,
    is_excluded: Callable[[str], bool],
) -> Iterator[Inventory]:
    """Take an inventory, which is gone at the end of the context.

    Raises Kinto's ``BackendError``, and ``StorageUnavailable``.
    """
    with (
        tempfile.TemporaryDirectory(prefix="kinto-attachment-") as folder,
        closing(sqlite3.connect(Path(folder) / "inventory.sqlite")) as database,
    ):
        inventory = Inventory(database)
        inventory.fill(kinto_storage, settings, files, is_excluded)
        yield inventory


class Inventory:
    """Answers questions about all three sides."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._elsewhere = 0
        self._kept_before = 0

    def fill(
        self,
        kinto_storage: Any,
        settings: Settings,
        files: FileStorage,
        is_excluded: Callable[[str], bool],
    ) -> None:
        """Read everything: resumable uploads, then records and rows in one snapshot, then files.

        In this order, a file is needed by its upload, or referenced by its record, or both.
        """
        self._database.executescript(_SCHEMA)
        self._database.create_function("metadata_matches", 3, _matches, deterministic=True)
        with transaction.manager:
            uploads = progress(UploadStore(kinto_storage).below("*"), "uploads")
            self._insert("needed", 1, ((name,) for each in uploads for name in each.needs(files)))
        with snapshot(kinto_storage) as connection:
            if settings.keeps_old_files:
                self._kept_before = migrated_at(connection) or 0
            records = progress(records_with_attachment(connection), "records")
            self._insert("referenced", 4, self._referenced(settings, records))
            for row in progress(rows(connection, FILES), "rows of files"):
                content = (row["name"], json.dumps(row), row.get("kept"), row.get("gone"))
                self._insert("rows", 4, [content])
                self._insert("named", 2, ((row["name"], uri) for uri in row["holders"]))
            holdings = progress(rows(connection, HOLDINGS), "rows of records")
            self._insert(
                "holdings", 3, ((row["uri"], row["name"], json.dumps(row)) for row in holdings)
            )
        listed = progress(files.list(), "files")
        self._insert("files", 4, _described(listed, is_excluded))
        self._database.executescript(_JOINED)

    def counts(self) -> dict[str, int]:
        """Count what was read."""
        queries = {
            "records with a file": "SELECT count(*) FROM referenced WHERE rank = 0",
            "rows of files": "SELECT count(*) FROM rows",
            "files stored": "SELECT count(*) FROM files",
            "files kept": """SELECT count(*) FROM files JOIN rows USING (name)
                WHERE kept IS NOT NULL AND name NOT IN (SELECT name FROM referenced)""",
            "files excluded": "SELECT count(*) FROM files WHERE excluded",
        }
        counts = {
            name: self._database.execute(query).fetchone()[0] for name, query in queries.items()
        }
        return {**counts, "records with a file elsewhere": self._elsewhere}

    def missing(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield records that reference a file that is not stored: URI, name, attachment."""
        query = """
            SELECT uri, name, attachment FROM referenced
             WHERE rank = 0 AND uri NOT IN (SELECT uri FROM stored) ORDER BY uri
        """
        for uri, name, attachment in self._database.execute(query):
            yield uri, name, json.loads(attachment)

    def stored(self) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]], int]]:
        """Yield stored files that records reference: name, records (URI, attachment), size."""
        query = "SELECT name, uri, attachment, size FROM stored ORDER BY name, uri"
        found = self._database.execute(query)
        for (name, size), group in groupby(found, key=itemgetter(0, 3)):
            yield name, [(uri, json.loads(attachment)) for _, uri, attachment, _ in group], size

    def orphans(self, before: datetime) -> Iterator[Orphan]:
        """Yield orphans that were last written ``before``, without those that are excluded or
        needed.

        Earlier versions had no rows for files that they kept. So where files are kept, an orphan
        without a row that is older than the migration counts as kept.
        """
        query = """
            SELECT name, size, CASE WHEN row IS NULL AND modified * 1000 < :kept_before
                                    THEN modified * 1000 ELSE kept END
              FROM files LEFT JOIN rows USING (name)
             WHERE modified < :before AND NOT excluded
               AND name NOT IN (SELECT name FROM referenced)
               AND name NOT IN (SELECT name FROM needed)
             ORDER BY name
        """
        values = {"before": before.timestamp(), "kept_before": self._kept_before}
        for name, size, kept in self._database.execute(query, values):
            since = None if kept is None else datetime.fromtimestamp(kept / 1000, timezone.utc)
            yield Orphan(name, size, since)

    def is_needed(self, name: str) -> bool:
        """Whether a resumable upload needs the file of that name, or the incomplete upload of that
        id."""
        query = "SELECT 1 FROM needed WHERE name = ?"
        return self._database.execute(query, [name]).fetchone() is not None

    def mismatches(self) -> Iterator[tuple[str, str | None, str]]:
        """Yield where rows and records differ: name of the file, URI of the record (``None`` for
        the file row itself), and how."""
        query = """
            SELECT name, uri, 'named' AS way FROM (
                SELECT name, uri FROM named EXCEPT SELECT name, uri FROM held)
            UNION ALL SELECT name, uri, 'not named' FROM (
                SELECT name, uri FROM held EXCEPT SELECT name, uri FROM named)
            UNION ALL SELECT name, uri, 'holding' FROM (
                SELECT name, uri FROM holdings EXCEPT SELECT name, uri FROM held)
            UNION ALL SELECT name, uri, 'no holding' FROM (
                SELECT name, uri FROM held EXCEPT SELECT name, uri FROM holdings)
            UNION ALL SELECT name, NULL, 'free' FROM rows
                WHERE kept IS NULL AND gone IS NULL AND name NOT IN (SELECT name FROM named)
            UNION ALL SELECT name, NULL, 'not free' FROM rows
                WHERE (kept IS NOT NULL OR gone IS NOT NULL) AND name IN (SELECT name FROM named)
            ORDER BY name, uri
        """
        yield from self._database.execute(query)

    def gone(self, before: datetime) -> Iterator[str]:
        """Yield names of files that were marked gone ``before``, and are not stored."""
        query = """
            SELECT name FROM rows WHERE gone < ? AND name NOT IN (SELECT name FROM files)
        """
        for (name,) in self._database.execute(query, [before.timestamp() * 1000]):
            yield name

    def _referenced(
        self, settings: Settings, records: Iterable[tuple[str, dict[str, Any]]]
    ) -> Iterator[tuple[str, int, str, str]]:
        for uri, attachment in records:
            names = list(settings.relative_names(attachment.get("location")))
            # A location may be percent-encoded.
            names += [unquote(name) for name in names if unquote(name) not in names]
            if not names:
                self._elsewhere += 1
            for rank, name in enumerate(names):
                yield uri, rank, name, json.dumps(attachment)

    def _insert(self, table: str, columns: int, rows: Iterable[tuple[Any, ...]]) -> None:
        values = ", ".join("?" * columns)
        self._database.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({values})", rows)  # noqa: S608


def _described(
    files: Iterable[StoredFile], is_excluded: Callable[[str], bool]
) -> Iterator[tuple[str, int, float, bool]]:
    for file in files:
        # No record can reference a name that is not UTF-8, and the plugin gives none.
        if file.name.isprintable():
            yield file.name, file.size, file.modified.timestamp(), is_excluded(file.name)


def _matches(attachment: str, row: str, holding: str | None) -> bool:
    own = json.loads(holding) if holding else None
    return metadata_matches(json.loads(attachment), json.loads(row), own)
