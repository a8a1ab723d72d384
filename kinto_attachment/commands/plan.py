"""What is to be copied: the files, and which of their names the target cannot have.

Kept in a temporary SQLite database on the disk, so that memory is constant.
"""

from __future__ import annotations

import sqlite3
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from kinto_attachment.commands.inventory import KnownFile
from kinto_attachment.storage import FileStorage

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
-- same: what is equal for names that the target takes for one name.
CREATE TABLE files (name TEXT PRIMARY KEY, size INTEGER, same TEXT) WITHOUT ROWID;
CREATE INDEX files_by_same ON files (same, name);
CREATE TABLE refused (name TEXT PRIMARY KEY, reason TEXT) WITHOUT ROWID;
"""


@contextmanager
def make_plan(files: Iterable[KnownFile], target: FileStorage) -> Iterator[Plan]:
    """Plan to copy files to ``target``. Raises ``StorageUnavailable``."""
    with (
        tempfile.TemporaryDirectory(prefix="kinto-attachment-") as folder,
        closing(sqlite3.connect(Path(folder) / "plan.sqlite")) as database,
    ):
        yield Plan(database, files, target)


class Plan:
    """The files to copy, each of them known to the database."""

    def __init__(
        self, database: sqlite3.Connection, files: Iterable[KnownFile], target: FileStorage
    ) -> None:
        self._database = database
        self._target = target
        self._folds_case = target.folds_case()
        database.executescript(_SCHEMA)
        database.executemany(
            "INSERT INTO files VALUES (?, ?, ?)",
            ((file.name, file.size, self._same(file.name)) for file in files),
        )
        database.executemany("INSERT INTO refused VALUES (?, ?)", self._find_refused())

    def refused(self) -> Iterator[tuple[str, str]]:
        """Yield the names that the target cannot have, with the reason."""
        yield from self._database.execute("SELECT name, reason FROM refused ORDER BY name")

    def accepted(self) -> Iterator[KnownFile]:
        """Yield the others."""
        query = """
            SELECT name, size FROM files
             WHERE name NOT IN (SELECT name FROM refused) ORDER BY name
        """
        for name, size in self._database.execute(query):
            yield KnownFile(name, size)

    def count_accepted(self) -> int:
        """Count the others."""
        query = "SELECT (SELECT count(*) FROM files) - (SELECT count(*) FROM refused)"
        count: int = self._database.execute(query).fetchone()[0]
        return count

    def _same(self, name: str) -> str:
        # File systems without case take both ways to write an accent for one, too.
        return unicodedata.normalize("NFC", name).casefold() if self._folds_case else name

    def _find_refused(self) -> Iterator[tuple[str, str]]:
        for name, same in self._database.execute("SELECT name, same FROM files"):
            reason = self._target.refuses(name) or self._collision(name, same)
            if reason is not None:
                yield name, reason

    def _collision(self, name: str, same: str) -> str | None:
        """Return why a name cannot be beside another one. The first of two may."""
        query = "SELECT name FROM files WHERE same = ? ORDER BY name LIMIT 1"
        (first,) = self._database.execute(query, [same]).fetchone()
        if first != name:
            return f"differs from {first} in case only, and the target makes no difference there"
        folder = same if self._target.has_folders else ""
        while folder := folder.rpartition("/")[0]:
            if found := self._database.execute(query, [folder]).fetchone():
                return f"is in a folder with the name of the file {found[0]}"
        return None
