"""S3, or a server that speaks S3, as file storage.

Up to 5 MiB a file is sent in one request, else in parts while it is still arriving. An object
becomes visible as a whole, and never replaces another one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from datetime import timezone
from typing import Any

from botocore.exceptions import ClientError
from pyramid_storage.s3 import S3FileStorage

from kinto_attachment.storage import names
from kinto_attachment.storage.base import FileStorage, StagedFile, StoredFile
from kinto_attachment.storage.resumable import IncompleteUpload, ResumableFile, State
from kinto_attachment.storage.s3 import requests as s3_requests
from kinto_attachment.storage.s3 import resumable as s3_resumable
from kinto_attachment.storage.s3.bucket import Bucket, S3Options, error_code
from kinto_attachment.storage.s3.staged import S3StagedFile

__all__ = ["S3Options", "S3Storage"]

_CHUNK_SIZE = 256 * 1024


class S3Storage(FileStorage, S3FileStorage):
    """The objects of a bucket. See ``FileStorage`` for ``base_url`` and ``extensions``."""

    def __init__(
        self,
        options: S3Options,
        base_url: str = "",
        extensions: str | Iterable[str] = "default",
    ) -> None:
        super().__init__(base_url, extensions)
        self.bucket_name = options.bucket
        self.acl = options.acl
        self._bucket = Bucket(options)

    @property
    def s3_client(self) -> Any:
        """The boto3 client of this process. Raises ``StorageUnavailable``."""
        return self._bucket.client

    def stage(
        self,
        filename: str,
        *,
        folder: str = "",
        randomize: bool = True,
        content_type: str = "application/octet-stream",
        size: int | None = None,
        acl: str | None = None,
    ) -> StagedFile:
        """Start a new file. ``acl`` is used in place of the storage's own; the rest, and what is
        raised, is in ``FileStorage``."""
        return S3StagedFile(
            self._bucket,
            names.stored(filename, folder, randomize=randomize),
            keep_name=not randomize,
            attributes=self._attributes(content_type, acl),
            size=size,
        )

    def create(
        self,
        filename: str,
        *,
        folder: str = "",
        randomize: bool = True,
        content_type: str = "application/octet-stream",
        size: int | None = None,
        acl: str | None = None,
    ) -> State:
        return s3_resumable.create(
            self._bucket,
            names.stored(filename, folder, randomize=randomize),
            keep_name=not randomize,
            attributes=self._attributes(content_type, acl),
            size=size,
        )

    def resume(self, state: State) -> ResumableFile:
        return s3_resumable.S3ResumableFile(self._bucket, state)

    def needed(self, state: State) -> frozenset[str]:
        return s3_resumable.needed(self._bucket, state)

    def incomplete(self) -> Iterator[IncompleteUpload]:
        with self._bucket.errors("list the unfinished uploads"):
            pages = self.s3_client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.bucket_name):
                for entry in page.get("Uploads", ()):
                    started = entry["Initiated"].astimezone(timezone.utc)
                    yield IncompleteUpload(entry["Key"], entry["UploadId"], started)

    def abort(self, upload: IncompleteUpload) -> None:
        with self._bucket.errors(f"abort the upload of {upload.name!r}"):
            s3_requests.abort(self._bucket, upload.name, upload.id)

    def _cancel(self, state: State) -> None:
        s3_resumable.cancel(self._bucket, state)

    def _attributes(self, content_type: str, acl: str | None) -> dict[str, str]:
        acl = self.acl if acl is None else acl
        return {"ContentType": content_type} | ({"ACL": acl} if acl else {})

    def _chunks(self, name: str, start: int, stop: int | None) -> Generator[bytes, None, None]:
        if stop is not None and stop <= start:
            self.stat(name)  # S3 has no empty range, but the file must exist
            yield b""
            return
        key = _existing_key(name)
        wanted = {} if start == 0 and stop is None else {"Range": _range(start, stop)}
        with self._bucket.errors(f"read {key!r}"):
            try:
                found = self.s3_client.get_object(Bucket=self.bucket_name, Key=key, **wanted)
            except ClientError as error:
                if error_code(error) == "NoSuchKey":
                    raise names.no_such_file(name) from error
                if error_code(error) != "InvalidRange":
                    raise
                yield b""  # there is a file, but nothing at or after start
                return
            with contextlib.closing(found["Body"]) as body:
                yield b""
                yield from body.iter_chunks(_CHUNK_SIZE)

    def stat(self, name: str) -> StoredFile:
        key = _existing_key(name)
        with self._bucket.errors(f"look up {key!r}"):
            found = self._bucket.head(key)
        if found is None:
            raise names.no_such_file(name)
        return _describe(name, found["ContentLength"], found["LastModified"])

    def list(self) -> Iterator[StoredFile]:
        with self._bucket.errors("list the files"):
            pages = self.s3_client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket_name):
                for entry in page.get("Contents", ()):
                    # Others may have stored what is no file here: "folder/", "a//b".
                    if names.is_inside(entry["Key"]):
                        yield _describe(entry["Key"], entry["Size"], entry["LastModified"])

    def delete(self, name: str) -> bool:
        if not names.is_inside(name):
            return False
        with self._bucket.errors(f"delete {name!r}"):
            try:
                self.s3_client.delete_object(Bucket=self.bucket_name, Key=name)
            except ClientError as error:
                # AWS does not tell whether there was an object. Google's server does.
                if error_code(error) != "NoSuchKey":
                    raise
                return False
        return True


def _existing_key(name: str) -> str:
    if not names.is_inside(name):
        raise names.no_such_file(name)
    return name


def _range(start: int, stop: int | None) -> str:
    # Both ends are included. RFC 9110, section 14.1.2.
    return f"bytes={start}-{'' if stop is None else stop - 1}"


def _describe(name: str, size: int, modified: Any) -> StoredFile:
    return StoredFile(name=name, size=size, modified=modified.astimezone(timezone.utc))
