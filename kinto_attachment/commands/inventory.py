"""What records show, what our rows say, and what is stored, side by side.

All of it goes through a temporary SQLite database, on the disk: whatever the number of records
and files, memory is constant, and each side is read once.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from kinto_attachment.attachments.references import FILES, HOLDINGS, is_metadata_of
from kinto_attachment.database.scan import (
    records_with_attachment,
    rows_of_ours,
    rows_of_uploads,
    snapshot,
)
from kinto_attachment.migrations import taken_over
from kinto_attachment.settings import Settings
from kinto_attachment.storage import FileStorage, StoredFile

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
-- What a location may stand for: one name under each base URL that it starts with.
CREATE TABLE shown (uri TEXT, rank INTEGER, name TEXT, attachment TEXT, PRIMARY KEY (uri, rank))
    WITHOUT ROWID;
CREATE TABLE rows (name TEXT PRIMARY KEY, row TEXT, kept INTEGER, gone INTEGER) WITHOUT ROWID;
CREATE TABLE named (name TEXT, uri TEXT, PRIMARY KEY (name, uri)) WITHOUT ROWID;
CREATE TABLE holdings (uri TEXT PRIMARY KEY, name TEXT, holding TEXT) WITHOUT ROWID;
CREATE TABLE files (name TEXT PRIMARY KEY, size INTEGER, modified REAL, excluded INTEGER)
    WITHOUT ROWID;
-- What unfinished uploads need: names of files, and ids of uploads to S3.
CREATE TABLE needed (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_JOINED = """
CREATE INDEX shown_by_name ON shown (name);
CREATE TABLE held (uri TEXT PRIMARY KEY, name TEXT) WITHOUT ROWID;
INSERT OR IGNORE INTO held
    SELECT shown.uri, shown.name
      FROM shown JOIN rows USING (name) LEFT JOIN holdings USING (uri)
     WHERE is_metadata_of(attachment, row, holding) ORDER BY shown.uri, rank;
CREATE TABLE stored (uri TEXT PRIMARY KEY, name TEXT, attachment TEXT, size INTEGER) WITHOUT ROWID;
INSERT OR IGNORE INTO stored
    SELECT uri, name, attachment, size FROM shown JOIN files USING (name) ORDER BY uri, rank;
"""


@dataclass(frozen=True)
class Unreferenced:
    """A stored file that no record shows. ``kept`` is since when it is known as kept."""

    name: str
    size: int
    kept: datetime | None


class Inventory:
    """The three sides. A context manager: the temporary database goes on exit."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="kinto-attachment-")
        self._database = sqlite3.connect(Path(self._folder.name) / "inventory.sqlite")
        self._database.executescript(_SCHEMA)
        self._database.create_function("is_metadata_of", 3, _is_metadata_of, deterministic=True)
        self.elsewhere = 0
        """Records whose file is none of this storage, to judge by its location."""
        self._kept_before = 0

    def __enter__(self) -> Inventory:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._database.close()
        self._folder.cleanup()

    def take(
        self,
        kinto_storage: Any,
        settings: Settings,
        files: FileStorage,
        is_excluded: Callable[[str], bool],
        progress: Callable[[Iterable[Any], str], Iterable[Any]],
    ) -> None:
        """Read everything. Records and rows are those of one moment; then files are listed.

        ``progress`` wraps what is gone through, under a title. Raises Kinto's ``BackendError``,
        and ``StorageUnavailable``.
        """
        with snapshot(kinto_storage) as connection:
            if settings.keeps_old_files:
                self._kept_before = taken_over(connection) or 0
            records = progress(records_with_attachment(connection), "records")
            self._insert("shown", 4, self._shown(settings, records))
            rows = progress(rows_of_ours(connection, FILES), "rows of files")
            for row in rows:
                content = (row["name"], json.dumps(row), row.get("kept"), row.get("gone"))
                self._insert("rows", 4, [content])
                self._insert("named", 2, ((row["name"], uri) for uri in row["holders"]))
            holdings = progress(rows_of_ours(connection, HOLDINGS), "rows of records")
            self._insert(
                "holdings", 3, ((row["uri"], row["name"], json.dumps(row)) for row in holdings)
            )
            uploads = progress(rows_of_uploads(connection), "uploads")
            self._insert("needed", 1, _needed(files, uploads))
        listed = progress(files.list(), "files")
        self._insert("files", 4, _described(listed, is_excluded))
        self._database.executescript(_JOINED)

    def counts(self) -> dict[str, int]:
        """How many there are of what was read."""
        queries = {
            "records with a file": "SELECT count(*) FROM shown WHERE rank = 0",
            "rows of files": "SELECT count(*) FROM rows",
            "files stored": "SELECT count(*) FROM files",
            "files kept": """SELECT count(*) FROM files JOIN rows USING (name)
                WHERE kept IS NOT NULL AND name NOT IN (SELECT name FROM shown)""",
            "files excluded": "SELECT count(*) FROM files WHERE excluded",
        }
        counts = {
            name: self._database.execute(query).fetchone()[0] for name, query in queries.items()
        }
        return {**counts, "records with a file elsewhere": self.elsewhere}

    def missing(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Records (URI, name, attachment) that show a file that is not stored."""
        query = """
            SELECT uri, name, attachment FROM shown
             WHERE rank = 0 AND uri NOT IN (SELECT uri FROM stored) ORDER BY uri
        """
        for uri, name, attachment in self._database.execute(query):
            yield uri, name, json.loads(attachment)

    def stored(self) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]], int]]:
        """Every file that records show: its name, the records (URI, attachment), its size."""
        query = "SELECT name, uri, attachment, size FROM stored ORDER BY name, uri"
        name, size, records = None, 0, []
        for next_name, uri, attachment, next_size in self._database.execute(query):
            if name is not None and next_name != name:
                yield name, records, size
                records = []
            name, size = next_name, next_size
            records.append((uri, json.loads(attachment)))
        if name is not None:
            yield name, records, size

    def unreferenced(self, before: datetime) -> Iterator[Unreferenced]:
        """Stored files that no record shows, if they were last written ``before``.

        Earlier versions of the plugin left no row of the files that they kept: where old files
        are kept, those without one that are older than the migration are taken for kept ones.
        """
        query = """
            SELECT name, size, CASE WHEN row IS NULL AND modified * 1000 < :kept_before
                                    THEN modified * 1000 ELSE kept END
              FROM files LEFT JOIN rows USING (name)
             WHERE modified < :before AND NOT excluded AND name NOT IN (SELECT name FROM shown)
               AND name NOT IN (SELECT name FROM needed)
             ORDER BY name
        """
        values = {"before": before.timestamp(), "kept_before": self._kept_before}
        for name, size, kept in self._database.execute(query, values):
            since = None if kept is None else datetime.fromtimestamp(kept / 1000, timezone.utc)
            yield Unreferenced(name, size, since)

    def is_needed(self, name: str) -> bool:
        """Whether an unfinished upload needs that: the name of a file, or the id of an upload."""
        query = "SELECT 1 FROM needed WHERE name = ?"
        return self._database.execute(query, [name]).fetchone() is not None

    def mismatches(self) -> Iterator[tuple[str, str | None, str]]:
        """Where rows and records differ: name of the file, URI of the record (``None`` where it
        is the row itself), and in which way."""
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
        """Names in the rows of files that went ``before``, and are not stored any more."""
        query = """
            SELECT name FROM rows WHERE gone < ? AND name NOT IN (SELECT name FROM files)
        """
        for (name,) in self._database.execute(query, [before.timestamp() * 1000]):
            yield name

    def _shown(
        self, settings: Settings, records: Iterable[tuple[str, dict[str, Any]]]
    ) -> Iterator[tuple[str, int, str, str]]:
        for uri, attachment in records:
            names = list(settings.relative_names(attachment.get("location")))
            # A percent-encoded location shows the same file.
            names += [unquote(name) for name in names if unquote(name) not in names]
            if not names:
                self.elsewhere += 1
            for rank, name in enumerate(names):
                yield uri, rank, name, json.dumps(attachment)

    def _insert(self, table: str, columns: int, rows: Iterable[tuple[Any, ...]]) -> None:
        values = ", ".join("?" * columns)
        self._database.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({values})", rows)  # noqa: S608


def _needed(files: FileStorage, uploads: Iterable[dict[str, Any]]) -> Iterator[tuple[str]]:
    for upload in uploads:
        if not upload["done"]:
            for name in files.used_by(upload["state"]):
                yield (name,)
            if upload["name"] is not None:
                yield (upload["name"],)


def _described(
    files: Iterable[StoredFile], is_excluded: Callable[[str], bool]
) -> Iterator[tuple[str, int, float, bool]]:
    for file in files:
        # A name that is not UTF-8 is no name of ours, and no record can show it.
        if file.name.isprintable():
            yield file.name, file.size, file.modified.timestamp(), is_excluded(file.name)


def _is_metadata_of(attachment: str, row: str, holding: str | None) -> bool:
    return is_metadata_of(
        json.loads(attachment), json.loads(row), json.loads(holding) if holding else None
    )
