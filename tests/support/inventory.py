"""The records, the rows and the stored files, side by side, read behind the plugin's back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import transaction
from kinto.core.utils import sqlalchemy

from kinto_attachment.attachments.lookup import FILES, HOLDINGS
from kinto_attachment.attachments.site import MARKER
from kinto_attachment.storage.names import PRIVATE_PREFIX, is_private
from kinto_attachment.tus.store import UPLOADS
from tests.support.servers.gcs import GcsServer
from tests.support.servers.gcs.bucket import StoredObject
from tests.support.servers.gcs.content import Content
from tests.support.servers.s3 import S3Server

_OBJECTS = """
SELECT parent_id, id, data FROM objects WHERE resource_name = :resource_name AND NOT deleted
"""


class Folder:
    """The local folder where files are stored, and another one for private files, with
    ``private_settings``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.private = path.with_name(f"{path.name}-private")
        self.settings = {"base_path": str(path)}
        self.private_settings = {"private.base_path": str(self.private)}

    def names(self) -> list[str]:
        """The names of all that is stored, files on their way in too, without the marker of the
        site."""
        return sorted(
            f"{prefix}{path.relative_to(folder)}"
            for prefix, folder in (("", self.path), (PRIVATE_PREFIX, self.private))
            for path in folder.rglob("*")
            if path.is_file() and path != folder / MARKER
        )

    def read(self, name: str) -> bytes:
        return self.path_of(name).read_bytes()

    def path_of(self, name: str) -> Path:
        if is_private(name):
            return self.private / name.removeprefix(PRIVATE_PREFIX)
        return self.path / name


class Bucket:
    """The bucket of an S3 server where files are stored, and another one for private files, with
    ``private_settings``."""

    def __init__(self, server: S3Server) -> None:
        self._server = server
        self.settings = {
            "base_path": None,
            "aws.bucket": server.bucket,
            "aws.acl": server.acl,
            "aws.endpoint_url": server.endpoint_url,
            "aws.access_key": server.access_key,
            "aws.secret_key": server.secret_key,
            "aws.region": server.region,
            "aws.use_path_style": "true",
            "aws.num_retries": "0",
        }

    @property
    def private_settings(self) -> dict[str, str]:
        self._server.create_private_bucket()
        return {"aws.private_bucket": self._server.private_bucket}

    def names(self) -> list[str]:
        """The names of all that is stored, files on their way in too, without the marker of the
        site."""
        names = []
        for prefix, bucket in (("", self._server.bucket), *self._private()):
            names += [f"{prefix}{key}" for key in self._server.keys(bucket)]
            uploads = self._server.uploads(bucket)
            names += [f"{prefix}{key}?uploadId={prefix}{upload}" for key, upload in uploads]
        return sorted(names)

    def read(self, name: str) -> bytes:
        bucket = self._server.private_bucket if is_private(name) else self._server.bucket
        key = name.removeprefix(PRIVATE_PREFIX)
        answer = self._server.admin.get_object(Bucket=bucket, Key=key)
        content: bytes = answer["Body"].read()
        return content

    def head(self, name: str) -> dict[str, Any]:
        """What S3 says of an object."""
        answer: dict[str, Any] = self._server.admin.head_object(
            Bucket=self._server.bucket, Key=name
        )
        return answer

    def _private(self) -> list[tuple[str, str]]:
        has_private = self._server.private_bucket in self._server.buckets
        return [(PRIVATE_PREFIX, self._server.private_bucket)] if has_private else []

    def put(self, name: str, content: bytes, **options: Any) -> None:
        """Store an object that is none of the plugin's."""
        self._server.admin.put_object(
            Bucket=self._server.bucket, Key=name, Body=content, **options
        )

    def remove(self, name: str) -> None:
        """Delete an object behind the plugin's back."""
        self._server.admin.delete_object(Bucket=self._server.bucket, Key=name)

    def start_upload(self, name: str) -> None:
        """Begin a multipart upload, and give it up."""
        self._server.admin.create_multipart_upload(Bucket=self._server.bucket, Key=name)


class GoogleBucket:
    """The bucket of a server that plays Google Cloud Storage where files are stored, and another
    one for private files, with ``private_settings``."""

    def __init__(self, server: GcsServer) -> None:
        self._server = server
        self.settings = {
            "base_path": None,
            "gcloud.bucket_name": server.bucket,
            "gcloud.endpoint_url": server.endpoint_url,
        }

    def names(self) -> list[str]:
        """The names of all that is stored, files on their way in too, without the marker of the
        site."""
        names = self._server.keys() + [each.name for each in self._server.sessions()]
        if self._private in self._server.buckets:
            names += [f"{PRIVATE_PREFIX}{key}" for key in self._server.keys(self._private)]
        return sorted(names)

    def read(self, name: str) -> bytes:
        bucket = self._private if is_private(name) else self._server.bucket
        return self._server.objects(bucket)[name.removeprefix(PRIVATE_PREFIX)].content

    @property
    def private_settings(self) -> dict[str, str]:
        if self._private not in self._server.buckets:
            self._server.create_bucket(self._private)
        return {"gcloud.private_bucket_name": self._private}

    def private_objects(self) -> list[StoredObject]:
        """The private files, as the server has them."""
        keys = self._server.keys(self._private)
        return [self._server.objects(self._private)[key] for key in keys]

    @property
    def _private(self) -> str:
        return f"{self._server.bucket}-private"

    def put(self, name: str, content: bytes) -> None:
        """Store an object, in the place of another one maybe, as other programs do."""
        bucket = self._server.buckets[self._server.bucket]
        bucket.put(name, Content.of(content), {"contentType": "text/plain"}, None, {})

    def remove(self, name: str) -> None:
        """Delete an object behind the plugin's back."""
        self._server.buckets[self._server.bucket].delete(name, {})

    def patch(self, name: str, **changes: Any) -> None:
        """Change the metadata of an object, as other programs do."""
        self._server.buckets[self._server.bucket].patch(name, changes, {})


Stored = Folder | Bucket | GoogleBucket


class Inventory:
    """What a Kinto has in its storage, and what is stored of files."""

    def __init__(self, registry: Any, stored: Stored) -> None:
        """``registry`` is Pyramid's."""
        self._settings = registry.attachment_settings
        self._storage = registry.storage
        self._files = registry.attachment_files
        self._stored = stored

    def check(self) -> None:
        """Assert that records, rows and files agree.

        - Every record that shows a file of ours shows one that is there, with its hash and size;
        - every row names exactly the records that hold the file;
        - every stored file is shown by a record, or its row says that it is kept, or an unfinished
          upload needs it;
        - no record and no upload is left of a collection that is gone.
        """
        shown = self.check_records()
        files = {row["name"]: row for row in self._objects(FILES).values()}
        holdings = {row["uri"]: row["name"] for row in self._objects(HOLDINGS).values()}
        assert holdings == {uri: attachment["name"] for uri, attachment in shown.items()}
        holders: dict[str, list[str]] = {name: [] for name in files}
        for uri, attachment in sorted(shown.items()):
            row = files[attachment["name"]]
            assert {key: row[key] for key in attachment} == attachment
            holders[attachment["name"]].append(uri)
        kept = []
        for name, row in files.items():
            assert row["holders"] == holders[name]
            states = {"kept", "gone"} & row.keys()
            assert len(states) == (0 if row["holders"] else 1), row
            if "kept" in states:
                kept.append(name)
        names = self._stored.names()
        held = {*holdings.values(), *kept}
        assert held <= set(names)
        assert [name for name in names if name not in held and not self._is_needed(name)] == []
        self._check_parents()

    def check_records(self) -> dict[str, dict[str, Any]]:
        """Assert that no record shows a file that is missing, or another one than it says.

        Returns what records show, by URI: ``attachment`` with the name in the place of the
        location.
        """
        shown = {}
        for (parent_id, record_id), record in self._objects("record").items():
            attachment = record.get("attachment")
            name = self._name_of(attachment)
            if name is not None:
                content = self._stored.read(name)
                assert attachment["size"] == len(content)
                assert attachment["hash"] == hashlib.sha256(content).hexdigest()
                shown[f"{parent_id}/records/{record_id}"] = {**attachment, "name": name}
                del shown[f"{parent_id}/records/{record_id}"]["location"]
        return shown

    def kept(self) -> list[str]:
        """The names of the files that no record holds, and that stay all the same."""
        return sorted(row["name"] for row in self._objects(FILES).values() if "kept" in row)

    def _is_needed(self, name: str) -> bool:
        """Whether an unfinished upload needs what is stored under that name."""
        uploads = [row for row in self._objects(UPLOADS).values() if not row["done"]]
        needed = {name for row in uploads for name in self._files.used_by(row["state"])}
        finished = {row["name"] for row in uploads}
        return not {name, name.rpartition("?uploadId=")[2]}.isdisjoint(needed | finished)

    def _check_parents(self) -> None:
        # Of very many collections, Kinto itself leaves some when the bucket goes.
        buckets = {f"/buckets/{bucket_id}" for _, bucket_id in self._objects("bucket")}
        collections = {
            f"{bucket}/collections/{collection_id}"
            for bucket, collection_id in self._objects("collection")
            if bucket in buckets
        }
        assert {parent_id for parent_id, _ in self._objects("record")} <= collections
        records = {parent_id for parent_id, _ in self._objects(UPLOADS)}
        assert {record.partition("/records/")[0] for record in records} <= collections

    def _name_of(self, attachment: Any) -> str | None:
        """The name of the file that a record shows, ``None`` if it is not of this server."""
        location = attachment.get("location") if isinstance(attachment, dict) else None
        if location is None:
            return None
        bases = [
            base for base in (self._settings.base_url, *self._settings.former_base_urls) if base
        ]
        for base in bases:
            if location.startswith(base):
                return str(location.removeprefix(base))
        return None if self._settings.base_url or "://" in location else str(location)

    def _objects(self, resource_name: str) -> dict[tuple[str, str], dict[str, Any]]:
        """All objects of that name by parent and id, more than Kinto lists at once too."""
        if not hasattr(self._storage, "client"):
            return {
                (parent_id, object_id): dict(item)
                for parent_id, resources in self._storage._store.items()
                for object_id, item in resources.get(resource_name, {}).items()
            }
        try:
            with self._storage.client.connect(readonly=True) as session:
                rows = session.execute(sqlalchemy.text(_OBJECTS), {"resource_name": resource_name})
                return {(row.parent_id, row.id): row.data for row in rows}
        finally:
            transaction.abort()
