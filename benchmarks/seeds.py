"""How the attachments get onto a server of which the growth is measured.

The rows are those that the plugin itself writes: they are read from the database after a real
upload, and a second one proves that nothing else differs between two.
"""

from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.client import KIB, record
from benchmarks.in_server.seeded import Row, rows, template
from benchmarks.servers import PLAIN, THIS, Workbench

_TABLES = {
    "objects": ("id", "parent_id", "resource_name", "data"),
    "timestamps": ("parent_id", "resource_name"),
    "access_control_entries": ("object_id", "permission", "principal"),
}
_NUMBER_OF_LAST_MODIFIED = {"objects", "timestamps"}
_ROWS_AT_ONCE = 50_000


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
