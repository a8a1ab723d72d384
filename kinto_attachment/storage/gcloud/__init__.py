"""Google Cloud Storage as file storage.

A file of up to 4 MiB is sent in one request, a larger one in chunks while it arrives. An object
becomes visible as a whole, and never replaces another one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from google.auth.credentials import AnonymousCredentials, Signing
from google.auth.transport.requests import Request
from google.cloud.storage import Client
from pyramid_storage.gcloud import GoogleCloudStorage

from kinto_attachment.storage import names
from kinto_attachment.storage.base import FileStorage, OnUnreadable, StorageUnavailable, StoredFile
from kinto_attachment.storage.gcloud import resumable as gcloud_resumable
from kinto_attachment.storage.gcloud.bucket import Bucket
from kinto_attachment.storage.gcloud.new_object import SHA256, attributes_of
from kinto_attachment.storage.gcloud.session import (
    Object,
    created_of,
    size_of,
    transport_errors,
)
from kinto_attachment.storage.gcloud.staged import GCloudStagedFile
from kinto_attachment.storage.options import GCloudOptions
from kinto_attachment.storage.resumable import ResumableFile, State
from kinto_attachment.storage.staged import NewFile, StagedFile

# https://docs.cloud.google.com/storage/docs/objects#naming
_MAX_NAME_BYTES = 1024
_RESERVED = ".well-known/acme-challenge/"
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
        self._client_pid = 0

    def get_connection(self) -> Any:
        """The library's client, of this process's credentials: for other plugins, and for signed
        URLs. Raises ``StorageUnavailable``."""
        # Not shared across fork(): both processes would use one connection.
        if self._client_pid != os.getpid():
            with self._bucket.errors("connect"):
                credentials = self._bucket.session.credentials
            # Else the first request starts a thread, which asks for more than the storage may.
            os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
            self._client = Client(
                self._bucket.session.project,
                credentials,
                client_options={"api_endpoint": self._bucket.session.url},
            )
            self._client_pid = os.getpid()
        return self._client

    def get_bucket(self, bucket_name: str | None = None) -> Any:
        """The library's bucket. Unlike pyramid_storage, does not ask Google for it."""
        return self.get_connection().bucket(bucket_name or self.bucket_name)

    def check(self) -> None:
        # Not with a file: Google may keep each for days, after its deletion.
        # https://docs.cloud.google.com/storage/docs/soft-delete
        with self._bucket.errors("work"):
            missing = self._bucket.missing_permissions()
        if missing:
            raise StorageUnavailable(
                f"no permission in bucket {self.bucket_name!r}: {', '.join(missing)}"
            )

    def watch_retries(self, on_retry: Callable[[], object]) -> None:
        self._bucket.session.on_retry = on_retry

    def refuses(self, name: str) -> str | None:
        return _refusal(name)

    def stage(self, new: NewFile) -> StagedFile:
        return GCloudStagedFile(self._bucket, new, _new_name(new), self._attributes(new))

    def create(self, new: NewFile) -> State:
        return gcloud_resumable.create(self._bucket, new, _new_name(new), self._attributes(new))

    def resume(self, state: State) -> ResumableFile:
        return gcloud_resumable.GCloudResumableFile(self._bucket, state)

    def used_by(self, state: State) -> frozenset[str]:
        return gcloud_resumable.used_by(self._bucket, state)

    def presigned_url(
        self,
        name: str,
        expires_in: int,
        content_type: str,
        disposition: str,
        cache_control: str,
    ) -> str | None:
        _require_valid(name)
        with self._bucket.errors(f"sign a URL of {name!r}"), transport_errors():
            credentials = self._bucket.session.credentials
            if isinstance(credentials, AnonymousCredentials):
                return None
            # https://docs.cloud.google.com/storage/docs/access-control/signed-urls
            url: str = (
                self.get_bucket()
                .blob(name)
                .generate_signed_url(
                    version="v4",
                    expiration=timedelta(seconds=expires_in),
                    response_type=content_type,
                    response_disposition=disposition,
                    query_parameters={"response-cache-control": cache_control},
                    **_signer(credentials),
                )
            )
            return url

    def plain_url(self, name: str) -> str | None:
        _require_valid(name)
        return f"{self._bucket.session.url}/{quote(self.bucket_name)}/{quote(name)}"

    def _attributes(self, new: NewFile) -> dict[str, str]:
        if self.uniform_bucket_level_access:
            new = replace(new, acl="")
        return attributes_of(new, self.acl)

    def _cancel(self, state: State) -> None:
        gcloud_resumable.cancel(self._bucket, state)

    def _chunks(self, name: str, start: int, stop: int | None) -> Generator[bytes, None, None]:
        if stop is not None and stop <= start:
            self.stat(name)  # HTTP has no empty ranges
            yield b""
            return
        _require_valid(name)
        with self._bucket.errors(f"read {name!r}"):
            yield from self._bucket.read(name, start, stop)

    def stat(self, name: str) -> StoredFile:
        _require_valid(name)
        with self._bucket.errors(f"look up {name!r}"):
            found = self._bucket.get(name)
        if found is None:
            raise names.no_such_file(name)
        return replace(
            _describe(found),
            content_type=found.get("contentType"),
            sha256=found.get("metadata", {}).get(SHA256),
        )

    def list(
        self, on_unreadable: OnUnreadable | None = None, prefix: str = ""
    ) -> Iterator[StoredFile]:
        with self._bucket.errors("list the files"):
            for found in self._bucket.list(prefix):
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


def _signer(credentials: Any) -> dict[str, str]:
    """Return what the library needs to sign with ``credentials``; without a private key, as on
    Google's machines, the account's name and a token, with which it asks Google to sign."""
    if isinstance(credentials, Signing):
        return {}
    if not credentials.valid:
        credentials.refresh(Request())
    return {
        "service_account_email": credentials.service_account_email,
        "access_token": credentials.token,
    }


def _new_name(new: NewFile) -> str:
    """Return a name for ``new``. Raises ``ValueError``; ``StorageUnavailable`` if Google has no
    such names."""
    name = new.make_name()
    refusal = _refusal(name, 0 if new.exact_name or new.is_random else _ROOM_FOR_NUMBER)
    if refusal is not None:
        raise StorageUnavailable(f"cannot store {name!r} on Google Cloud Storage: it {refusal}")
    return name


def _refusal(name: str, room: int = 0) -> str | None:
    """Return why Google has no object of this name, with ``room`` bytes for what may be added."""
    if len(name.encode()) + room > _MAX_NAME_BYTES:
        return f"has more than {_MAX_NAME_BYTES} bytes"
    if "\r" in name or "\n" in name:
        return "has a line break"
    if name.startswith(_RESERVED):
        return f"starts with {_RESERVED}"
    return None


def _is_valid(name: str) -> bool:
    return names.is_valid(name) and _refusal(name) is None


def _require_valid(name: str) -> None:
    if not _is_valid(name):
        raise names.no_such_file(name)


def _describe(found: Object) -> StoredFile:
    return StoredFile(name=found["name"], size=size_of(found), modified=created_of(found))
