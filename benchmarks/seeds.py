"""Servers with many attachments, of which something is measured.

The rows are those that the plugin itself writes: they are read from the database after a real
upload, and a second one proves that nothing else differs between two.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.client import KIB, Client, record, timed
from benchmarks.in_server.seeded import Row, rows, template
from benchmarks.servers import PLAIN, THIS, Server, Workbench

_TABLES = {
    "objects": ("id", "parent_id", "resource_name", "data"),
    "timestamps": ("parent_id", "resource_name"),
    "access_control_entries": ("object_id", "permission", "principal"),
}
_NUMBER_OF_LAST_MODIFIED = {"objects", "timestamps"}
_ROWS_AT_ONCE = 50_000
# What a slow machine may take to put them into memory.
_SEED_SECONDS = 600.0


class Subject:
    """A server with a plugin and a number of attachments, and what requests to it have taken."""

    def __init__(
        self,
        bench: Workbench,
        stack: ExitStack,
        backend: str,
        name: str,
        of_one: list[Row],
        count: int,
        includes: str = "",
    ) -> None:
        """``includes`` are further modules for Kinto to include."""
        self.name = name
        self.case = {"backend": backend, "attachments": count}
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        server = stack.enter_context(_start(bench, backend, name, of_one, count, includes))
        if name != PLAIN:
            _make_files(server.files, count)
        self.client: Client = server.client()
        stack.callback(self.client.close)
        self.client.create_collection()

    def time(self, operation: str, action: Callable[[], object]) -> None:
        self.add(operation, timed(action))

    def add(self, operation: str, seconds: float) -> None:
        self._seconds[operation].append(seconds)

    def take(self) -> dict[str, float]:
        """The median of each operation; from now on it is measured anew."""
        taken = {operation: statistics.median(each) for operation, each in self._seconds.items()}
        self._seconds.clear()
        return taken


def _start(
    bench: Workbench, backend: str, name: str, of_one: list[Row], count: int, includes: str
) -> Server:
    if backend == "memory":
        template = bench.folder / f"{name}.json"
        template.write_text(json.dumps(of_one))
        settings = {
            "kinto.includes": f"seeded {includes}",
            "seeds.template": str(template),
            "seeds.count": count,
        }
        return bench.start(name, settings=settings, startup_seconds=_SEED_SECONDS)
    database = bench.new_database()
    fill(bench, database, of_one, count)
    return bench.start(name, database=database, settings={"kinto.includes": includes})


def _make_files(folder: Path, count: int) -> None:
    """A folder gets slower, too: as many files, though empty ones."""
    for _ in range(count):
        os.close(os.open(folder / f"{uuid4()}.bin", os.O_CREAT | os.O_WRONLY))


def rows_of_an_attachment(bench: Workbench, subject: str) -> list[Row]:
    """The rows of one attachment as the plugin writes them, with placeholders.

    Of ``PLAIN``, the rows of the record alone. Raises ``RuntimeError`` if two attachments differ
    in something else than their names.
    """
    plugin = THIS if subject == PLAIN else subject
    database = bench.new_database()
    found = []
    with bench.start(plugin, database=database) as server:
        client = server.client()
        client.create_collection()
        for record_id in ("sample-of-growth-1", "sample-of-growth-2"):
            before = _dump(bench, database)
            attachment = client.upload(record(record_id), KIB)
            name = attachment["location"].rpartition("/")[2]
            new = [row for row in _dump(bench, database) if row not in before]
            found.append(template(new, record_id, name))
        client.close()
    if found[0] != found[1]:
        raise RuntimeError(f"the rows of two attachments differ: {found}")
    if subject == PLAIN:
        return [row for row in found[0] if row[0] != "objects" or row[3] == "record"]
    return found[0]


def fill(bench: Workbench, database: str, of_one: list[Row], count: int) -> None:
    """Put the rows of ``count`` attachments into a database."""
    # Each a millisecond after the other, all of them past.
    timestamps = itertools.count(int(time.time() * 1000) - 10 * count - 10_000)
    connection = bench.postgresql.connect(database)
    try:
        with connection.cursor() as cursor:
            # The trigger only makes the timestamps.
            cursor.execute("SET session_replication_role = replica")
            every = rows(of_one, count)
            while some := list(itertools.islice(every, _ROWS_AT_ONCE)):
                _copy(cursor, some, timestamps)
            cursor.execute("VACUUM ANALYZE")
    finally:
        connection.close()


def _copy(cursor: Any, some: list[Row], timestamps: Iterator[int]) -> None:
    texts = {table: io.StringIO() for table in _TABLES}
    for table, *columns in some:
        if table in _NUMBER_OF_LAST_MODIFIED:
            columns.append(_timestamp(next(timestamps)))
        if table == "objects":
            columns.append("f")
        texts[table].write("\t".join(map(_escaped, columns)) + "\n")
    for table, text in texts.items():
        names = list(_TABLES[table])
        if table in _NUMBER_OF_LAST_MODIFIED:
            names.append("last_modified")
        if table == "objects":
            names.append("deleted")
        text.seek(0)
        cursor.copy_expert(f"COPY {table} ({', '.join(names)}) FROM STDIN", text)


def _dump(bench: Workbench, database: str) -> list[Row]:
    connection = bench.postgresql.connect(database)
    try:
        return [row for table, names in _TABLES.items() for row in _rows(connection, table, names)]
    finally:
        connection.close()


def _rows(connection: Any, table: str, names: tuple[str, ...]) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(names)} FROM {table}")  # noqa: S608
        return [[table, *map(_text, row)] for row in cursor.fetchall()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _timestamp(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + f".{rest:03}"
