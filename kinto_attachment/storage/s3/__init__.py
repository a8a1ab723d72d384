"""S3, or a server that speaks S3, as file storage.

A file of up to 5 MiB is sent in one request, a larger one in parts while it arrives. An object
becomes visible as a whole, and never replaces another one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from datetime import timezone
from typing import Any

from botocore.exceptions import ClientError
from pyramid_storage.s3 import S3FileStorage

from kinto_attachment.storage import names
from kinto_attachment.storage.base import CHUNK_SIZE, FileStorage, OnUnreadable, StoredFile
from kinto_attachment.storage.options import S3Options
from kinto_attachment.storage.resumable import IncompleteUpload, ResumableFile, State
from kinto_attachment.storage.s3 import resumable as s3_resumable
from kinto_attachment.storage.s3.bucket import Bucket, error_code
from kinto_attachment.storage.s3.new_object import SHA256, attributes_of, metadata_of
from kinto_attachment.storage.s3.staged import MAX_PART_SIZE, S3StagedFile
from kinto_attachment.storage.s3.upload import MAX_PARTS
from kinto_attachment.storage.staged import NewFile, StagedFile

# Of keys, in UTF-8: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_MAX_KEY_BYTES = 1024
# What S3 says of an object that was stored without a type.
_UNKNOWN_TYPE = "binary/octet-stream"


class S3Storage(FileStorage, S3FileStorage):
    """The objects of a bucket. See ``PyramidStorage`` for ``base_url`` and ``extensions``."""

    # 625 GiB; objects of S3 may have more.
    max_size = MAX_PARTS * MAX_PART_SIZE

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

    def watch_retries(self, on_retry: Callable[[], object]) -> None:
        self._bucket.on_retry = on_retry

    def refuses(self, name: str) -> str | None:
        if len(name.encode()) > _MAX_KEY_BYTES:
            return f"has more than {_MAX_KEY_BYTES} bytes"
        return None

    def stage(self, new: NewFile) -> StagedFile:
        return S3StagedFile(self._bucket, new, attributes_of(new, self.acl))

    def create(self, new: NewFile) -> State:
        return s3_resumable.create(self._bucket, new, attributes_of(new, self.acl))

    def resume(self, state: State) -> ResumableFile:
        return s3_resumable.S3ResumableFile(self._bucket, state)

    def used_by(self, state: State) -> frozenset[str]:
        return s3_resumable.used_by(self._bucket, state)

    def incomplete(self) -> Iterator[IncompleteUpload]:
        with self._bucket.errors("list the unfinished uploads"):
            for upload in self._bucket.uploads():
                started = upload["Initiated"].astimezone(timezone.utc)
                yield IncompleteUpload(upload["Key"], upload["UploadId"], started)

    def abort(self, upload: IncompleteUpload) -> None:
        with self._bucket.errors(f"abort the upload of {upload.name!r}"):
            self._bucket.abort(upload.name, upload.id)

    def _cancel(self, state: State) -> None:
        s3_resumable.cancel(self._bucket, state)

    def _chunks(self, name: str, start: int, stop: int | None) -> Generator[bytes, None, None]:
        if stop is not None and stop <= start:
            self.stat(name)  # S3 refuses empty ranges
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
                yield b""  # the file ends before start
                return
            with contextlib.closing(found["Body"]) as body:
                yield b""
                yield from body.iter_chunks(CHUNK_SIZE)

    def stat(self, name: str) -> StoredFile:
        key = _existing_key(name)
        with self._bucket.errors(f"look up {key!r}"):
            found = self._bucket.head(key)
        if found is None:
            raise names.no_such_file(name)
        content_type = found.get("ContentType")
        return replace(
            _describe(name, found["ContentLength"], found["LastModified"]),
            content_type=None if content_type == _UNKNOWN_TYPE else content_type,
            sha256=metadata_of(found).get(SHA256),
        )

    def presigned_url(
        self,
        name: str,
        expires_in: int,
        content_type: str,
        disposition: str,
        cache_control: str,
    ) -> str | None:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
        answer = {
            "ResponseContentType": content_type,
            "ResponseContentDisposition": disposition,
            "ResponseCacheControl": cache_control,
        }
        return self._signed(name, expires_in, answer)

    def plain_url(self, name: str) -> str | None:
        return self._signed(name, 1, {}).partition("?")[0]

    def _signed(self, name: str, expires_in: int, answer: dict[str, str]) -> str:
        key = _existing_key(name)
        parameters = {"Bucket": self.bucket_name, "Key": key, **answer}
        with self._bucket.errors(f"sign a URL of {key!r}"):
            url: str = self.s3_client.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=expires_in
            )
        return url

    def list(
        self, on_unreadable: OnUnreadable | None = None, prefix: str = ""
    ) -> Iterator[StoredFile]:
        with self._bucket.errors("list the files"):
            pages = self.s3_client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket_name, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    # Another program may have stored what is no file here: "folder/", "a//b".
                    if names.is_valid(entry["Key"]):
                        yield _describe(entry["Key"], entry["Size"], entry["LastModified"])

    def delete(self, name: str) -> bool:
        if not names.is_valid(name):
            return False
        with self._bucket.errors(f"delete {name!r}"):
            if names.is_random(name) or names.is_part(name):
                return self._bucket.delete(name)
            return self._bucket.delete_unchanged(name)


def _existing_key(name: str) -> str:
    if not names.is_valid(name):
        raise names.no_such_file(name)
    return name


def _range(start: int, stop: int | None) -> str:
    # RFC 9110, section 14.1.2: both ends are included.
    return f"bytes={start}-{'' if stop is None else stop - 1}"


def _describe(name: str, size: int, modified: Any) -> StoredFile:
    return StoredFile(name=name, size=size, modified=modified.astimezone(timezone.utc))
