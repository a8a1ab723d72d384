"""What earlier versions left in a database, written record by record and link by link."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transaction
from kinto.core.scripts import migrate

from kinto_attachment.migrations import waiting_links
from tests.conftest import KintoApp, KintoDatabase

BASE_URL = "https://files.example.org/"

_ids = itertools.count()


class Earlier:
    """Kinto with this plugin, on a database that an earlier version of it has used."""

    def __init__(self, app: KintoApp, database: KintoDatabase, folder: Path) -> None:
        self.app = app
        self.database = database
        self.folder = folder
        app.put_json("/v1/buckets/b", {})
        for collection in ("c", "main"):
            app.put_json(f"/v1/buckets/b/collections/{collection}", {})

    def link(self, name: Any, record: Any = "c/r", resource_name: str = "", **more: Any) -> None:
        """A file that was attached to a record, ``collection/id``."""
        uri = uri_of(record) if isinstance(record, str) else record
        self.app.registry.storage.create(
            resource_name,
            "__attachments__",
            {"id": f"link{next(_ids)}", "location": name, "record_uri": uri, **more},
        )
        self.commit()

    def store(self, name: str, content: bytes = b"content") -> dict[str, Any]:
        """Store a file; return the ``attachment`` that a record of it has."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {
            "filename": "file.txt",
            "hash": hashlib.sha256(content).hexdigest(),
            "location": f"{BASE_URL}{name}",
            "mimetype": "text/plain",
            "size": len(content),
        }

    def show(self, record: str, attachment: Any, **data: Any) -> None:
        """Write a record as other plugins do, straight through Kinto's storage."""
        parent, _, object_id = uri_of(record).rpartition("/records/")
        body = {**data, "attachment": attachment}
        self.app.registry.storage.update("record", parent, object_id, body)
        self.commit()

    def commit(self) -> None:
        """Kinto's storage joins the transaction of this thread."""
        transaction.commit()

    def migrate(self, app: KintoApp | None = None, *, dry_run: bool = False) -> None:
        """As ``kinto migrate`` does."""
        migrate({"registry": (app or self.app).registry}, dry_run=dry_run)

    @property
    def waiting(self) -> int:
        return waiting_links(self.app.registry.storage)

    def row(self, name: str) -> dict[str, Any] | None:
        """What is known of a file."""
        return self._row("attachments", name)

    def holding(self, record: str) -> dict[str, Any] | None:
        """What is known of the file of a record."""
        return self._row("attachments-holdings", uri_of(record))

    def _row(self, resource_name: str, key: str) -> dict[str, Any] | None:
        rows = self.database.execute(
            "SELECT data FROM objects WHERE resource_name = %s AND parent_id = %s AND id = 'row'",
            resource_name,
            f"__attachments__/{hashlib.sha256(key.encode()).hexdigest()}",
        )
        return rows[0][0] if rows else None

    def objects(self) -> list[Any]:
        """Everything that Kinto keeps."""
        return self.database.execute("SELECT * FROM objects ORDER BY id, parent_id, resource_name")

    def patch(self, record: str, status: int = 200, **data: Any) -> None:
        self.app.patch_json(f"/v1{uri_of(record)}", {"data": data}, status=status)

    def delete(self, *records: str) -> None:
        for record in records:
            self.app.delete(f"/v1{uri_of(record)}")

    def data(self, record: str) -> dict[str, Any]:
        data: dict[str, Any] = self.app.get(f"/v1{uri_of(record)}").json["data"]
        return data

    def has(self, name: str) -> bool:
        """Whether the file is there."""
        return (self.folder / name).exists()


def uri_of(record: str) -> str:
    collection, _, object_id = record.partition("/")
    return f"/buckets/b/collections/{collection}/records/{object_id}"


@pytest.fixture
def make_earlier(
    make_app: Callable[..., KintoApp], kinto_database: KintoDatabase, files: Path
) -> Callable[..., Earlier]:
    """``make_earlier(attachment={...}, **settings)``: an earlier version has used the database."""

    def make(**settings: Any) -> Earlier:
        return Earlier(make_app(**settings), kinto_database, files)

    return make


@pytest.fixture
def earlier(make_earlier: Callable[..., Earlier]) -> Earlier:
    return make_earlier()
