"""What must hold of records, rows and files, whatever has happened. It is read behind the back of
the code under test: records and rows from PostgreSQL, files from the disk, S3, and what plays
Google Cloud Storage."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from kinto_attachment.attachments.site import MARKER
from tests.conftest import KintoDatabase
from tests.support.servers.gcs import GcsServer
from tests.support.servers.s3 import S3Server

BASE_URL = "https://files.example.org/"


class Files(Protocol):
    """The files that are stored."""

    def stored(self) -> dict[str, tuple[int, str]]:
        """Size in bytes and SHA-256 of every file, by its relative name."""
        ...

    def unfinished(self) -> list[str]:
        """What uploads have left that is no file."""
        ...

    def clean(self) -> None:
        """Remove everything."""
        ...


class LocalFiles:
    """The files in a folder. ResumableUpload ones are files, too, under hidden names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stored(self) -> dict[str, tuple[int, str]]:
        found = {}
        for path in self.folder.rglob("*"):
            # One may go while we look at the others.
            with suppress(FileNotFoundError):
                if path.is_file() and path.name != MARKER:
                    found[str(path.relative_to(self.folder))] = described(path.read_bytes())
        return found

    def unfinished(self) -> list[str]:
        return []

    def clean(self) -> None:
        for path in self.folder.rglob("*"):
            if path.is_file():
                path.unlink()


class S3Files:
    """The objects in the bucket of a server."""

    def __init__(self, server: S3Server) -> None:
        self.server = server

    def stored(self) -> dict[str, tuple[int, str]]:
        admin, found = self.server.admin, {}
        keys = self.server.keys()
        for key in keys:
            # One may go while we look at the others.
            with suppress(admin.exceptions.NoSuchKey):
                answer = admin.get_object(Bucket=self.server.bucket, Key=key)
                found[key] = described(answer["Body"].read())
        return found

    def unfinished(self) -> list[str]:
        return [f"{key}?uploadId={upload}" for key, upload in self.server.uploads()]

    def clean(self) -> None:
        self.server.empty()


class GCloudFiles:
    """The objects in the bucket of a server that plays Google Cloud Storage.

    An upload session that was left alone is forgotten by Google.
    """

    def __init__(self, server: GcsServer) -> None:
        self.server = server

    def stored(self) -> dict[str, tuple[int, str]]:
        objects = self.server.objects()
        return {name: described(objects[name].content) for name in objects if name != MARKER}

    def unfinished(self) -> list[str]:
        return [f"{each.name}?upload_id={each.upload_id}" for each in self.server.sessions()]

    def clean(self) -> None:
        self.server.empty()


def leftovers(database: KintoDatabase, files: Files) -> list[str]:
    """What is stored although no record references it.

    This is what ``kinto-attachment gc`` is for.
    """
    shown = {name for name, _ in _attachments(database).values()}
    return sorted(set(files.stored()) - shown) + files.unfinished()


def assert_consistent(
    database: KintoDatabase, files: Files, expected_leftovers: Collection[str] = ()
) -> None:
    """Every record's file is there, with that size and SHA-256; every file is referenced, but for
    the expected leftovers; the rows name exactly the records that hold each file."""
    assert problems(database, files, expected_leftovers) == []


def problems(
    database: KintoDatabase, files: Files, expected_leftovers: Collection[str] = ()
) -> list[str]:
    """What ``assert_consistent()`` asserts that there is none of."""
    attachments = _attachments(database)
    return [
        *_wrong_files(attachments, files),
        *_wrong_rows(attachments, database),
        *(
            f"{name}: stored, but no record references it"
            for name in leftovers(database, files)
            if name not in expected_leftovers
        ),
    ]


def _attachments(database: KintoDatabase) -> dict[str, tuple[str, tuple[int, str]]]:
    """The name of the file that each record shows, its size and SHA-256, by the record's URI."""
    found = database.execute(
        "SELECT parent_id || '/records/' || id, data -> 'attachment' FROM objects"
        " WHERE resource_name = 'record' AND NOT deleted"
        " AND jsonb_typeof(data -> 'attachment') = 'object'"
    )
    return {
        uri: (
            attachment["location"].removeprefix(BASE_URL),
            (attachment["size"], attachment["hash"]),
        )
        for uri, attachment in found
    }


def _wrong_files(attachments: dict[str, Any], files: Files) -> Iterator[str]:
    stored = files.stored()
    for uri, (name, described) in attachments.items():
        if name not in stored:
            yield f"{uri}: shows {name}, which is missing"
        elif stored[name] != described:
            yield f"{uri}: shows {name} as {described}, but it is {stored[name]}"


def _wrong_rows(attachments: dict[str, Any], database: KintoDatabase) -> Iterator[str]:
    holders = defaultdict(set)
    for uri, (name, _) in attachments.items():
        holders[name].add(uri)
    rows = {row["name"]: row for row in _rows(database, "attachments")}
    for name in rows.keys() | holders.keys():
        named = set(rows.get(name, {}).get("holders", ()))
        if named != holders[name]:
            yield f"{name}: held by {holders[name]}, but its row has {named}"
        ended = {"gone", "kept"} & rows.get(name, {}).keys()
        if bool(ended) == bool(holders[name]):
            yield f"{name}: held by {holders[name]}, and its row says {ended or 'that it is live'}"
    held = {row["uri"]: row["name"] for row in _rows(database, "attachments-holdings")}
    for uri in held.keys() | attachments.keys():
        shown = attachments.get(uri, (None,))[0]
        if held.get(uri) != shown:
            yield f"{uri}: shows {shown}, but its row has {held.get(uri)}"


def _rows(database: KintoDatabase, resource_name: str) -> list[dict[str, Any]]:
    statement = "SELECT data FROM objects WHERE resource_name = %s AND NOT deleted"
    return [data for (data,) in database.execute(statement, resource_name)]


def described(content: bytes) -> tuple[int, str]:
    """Size and SHA-256 of a file with that content."""
    return len(content), hashlib.sha256(content).hexdigest()
