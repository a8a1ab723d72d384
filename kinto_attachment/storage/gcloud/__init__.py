"""Google Cloud Storage as file storage.

A file of up to 4 MiB is sent in one request, a larger one in chunks while it arrives. An object
becomes visible as a whole, and never replaces another one.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from typing import Any

from pyramid_storage.gcloud import GoogleCloudStorage

from kinto_attachment.storage import names
from kinto_attachment.storage.base import FileStorage, OnUnreadable, StorageUnavailable, StoredFile
from kinto_attachment.storage.gcloud.bucket import Bucket, Object
from kinto_attachment.storage.gcloud.new_object import attributes_of
from kinto_attachment.storage.gcloud.session import ApiError
from kinto_attachment.storage.gcloud.staged import GCloudStagedFile
from kinto_attachment.storage.options import GCloudOptions
from kinto_attachment.storage.resumable import ResumableFile, State
from kinto_attachment.storage.staged import NewFile, StagedFile

# https://docs.cloud.google.com/storage/docs/objects#naming
_MAX_NAME_BYTES = 1024
_ROOM_FOR_NUMBER = len("-9999999999")


class GCloudStorage(FileStorage, GoogleCloudStorage):
    """The objects of a bucket. See ``PyramidStorage`` for ``base_url`` and ``extensions``."""

    # https://docs.cloud.google.com/storage/quotas#objects
    max_size = 5 * 1024**4

    def __init__(
        self,
        options: GCloudOptions,
        base_url: str = "",
        extensions: str | Iterable[str] = "default",
    ) -> None:
        super().__init__(base_url, extensions)
        self.bucket_name = options.bucket
        self.credentials = options.credentials
        self.project = options.project
        self.acl = "" if options.uniform_bucket_level_access else options.acl
        self.auto_create_bucket = options.auto_create_bucket
        self.auto_create_acl = options.auto_create_acl
        self.uniform_bucket_level_access = options.uniform_bucket_level_access
        self._bucket = Bucket(options)
        self._client: Any = None

    def stage(self, new: NewFile) -> StagedFile:
        return GCloudStagedFile(self._bucket, new, new_name(new), attributes_of(new, self.acl))

    def create(self, new: NewFile) -> State:
        raise NotImplementedError

    def resume(self, state: State) -> ResumableFile:
        raise NotImplementedError

    def used_by(self, state: State) -> frozenset[str]:
        raise NotImplementedError

    def _cancel(self, state: State) -> None:
        raise NotImplementedError

    def _chunks(self, name: str, start: int, stop: int | None) -> Generator[bytes, None, None]:
        if stop is not None and stop <= start:
            self.stat(name)  # HTTP has no empty ranges
            yield b""
            return
        _require_valid(name)
        with self._bucket.errors(f"read {name!r}"):
            try:
                yield from self._bucket.read(name, start, stop)
            except ApiError as error:
                if error.status != 404:
                    raise
                raise names.no_such_file(name) from error

    def stat(self, name: str) -> StoredFile:
        _require_valid(name)
        with self._bucket.errors(f"look up {name!r}"):
            found = self._bucket.get(name)
        if found is None:
            raise names.no_such_file(name)
        return _describe(found)

    def list(self, on_unreadable: OnUnreadable | None = None) -> Iterator[StoredFile]:
        with self._bucket.errors("list the files"):
            for found in self._bucket.list():
                # Another program may have stored what is no file here: "folder/", "a//b".
                if names.is_valid(found["name"]):
                    yield _describe(found)

    def delete(self, name: str) -> bool:
        if not _is_valid(name):
            return False
        with self._bucket.errors(f"delete {name!r}"):
            if names.is_random(name) or names.is_part(name):
                return self._bucket.delete(name)
            found = self._bucket.get(name)
            return found is not None and self._bucket.delete(name, found["generation"])
