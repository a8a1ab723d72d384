"""One bucket of Google Cloud Storage: the requests of its JSON API, one method each.

Repeats what can be repeated without harm: what reads, what takes effect once because of a
precondition, and the delete of a name that is never given again.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import requests

from kinto_attachment.storage import names
from kinto_attachment.storage.base import CHUNK_SIZE, FileTooLargeForStorage, StorageUnavailable
from kinto_attachment.storage.gcloud.content import Body, Buffer, encoded
from kinto_attachment.storage.gcloud.session import (
    ApiError,
    GoogleError,
    Object,
    Session,
    described,
    json_of,
    object_of,
    transport_errors,
)
from kinto_attachment.storage.gcloud.upload_session import UploadSession
from kinto_attachment.storage.options import GCloudOptions

# https://docs.cloud.google.com/storage/docs/json_api/v1/objects#resource
_FIELDS = "name,generation,size,crc32c,contentType,timeCreated,metadata"
# Google answers "Precondition Failed" if the name is taken.
_IF_ABSENT = {"ifGenerationMatch": "0"}
_PERMISSIONS = ("create", "delete", "get", "list")


class Bucket:
    """The bucket of ``options``, for all the threads of a process.

    Its methods raise ``GoogleError``. Objects are created with ``attributes``: fields of the
    object, and ``predefinedAcl`` where one is sent.
    """

    def __init__(self, options: GCloudOptions) -> None:
        self.options = options
        self.name = options.bucket
        self.session = Session(options)
        self.second_buffer = threading.Semaphore()
        """Held by the one upload that has two chunks in memory."""
        self._path = f"/storage/v1/b/{quote(self.name, safe='')}"
        self._uploads = f"/upload{self._path}/o"
        self._create_lock = threading.Lock()
        self._may_create = options.auto_create_bucket

    def get(self, name: str) -> Object | None:
        """Describe an object; ``None`` if there is none."""
        try:
            found = self.session.request("GET", self._object(name), params={"fields": _FIELDS})
        except ApiError as error:
            if error.status != 404:
                raise
            self._require_bucket(name)
            return None
        answer = object_of(found)
        if answer["name"] != name:
            raise GoogleError(f"another object was described: {answer['name']!r}")
        return answer

    def insert(
        self, name: str, content: Buffer, crc32c: int, attributes: Mapping[str, Any]
    ) -> Object:
        """Store ``content`` in one request. Raises ``ApiError`` 412 if there is such an object,
        maybe this one, after an answer that was lost."""
        resource, params = _split(attributes)
        resource |= {"name": name, "crc32c": encoded(crc32c)}
        # RFC 2387.
        boundary = uuid4().hex
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=utf-8\r\n\r\n"
            f"{json.dumps(resource)}\r\n--{boundary}\r\n"
            f"Content-Type: {resource['contentType']}\r\n\r\n"
        )
        body = Body(content, head=head.encode(), tail=f"\r\n--{boundary}--\r\n".encode())
        stored = self._in_bucket(
            "POST",
            self._uploads,
            params={"uploadType": "multipart", "fields": _FIELDS, **_IF_ABSENT, **params},
            data=body,
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
        )
        return object_of(stored)

    def start_session(self, name: str, attributes: Mapping[str, Any]) -> UploadSession:
        """Start an upload in several requests."""
        resource, params = _split(attributes)
        started = self._in_bucket(
            "POST",
            self._uploads,
            params={"uploadType": "resumable", "fields": _FIELDS, **_IF_ABSENT, **params},
            json={"name": name, **resource},
            headers={"X-Upload-Content-Type": resource["contentType"]},
        )
        return UploadSession(self.session, started.headers.get("Location", ""))

    def compose(
        self, name: str, sources: Sequence[tuple[str, str]], attributes: Mapping[str, Any]
    ) -> Object:
        """Make an object of 1 to 32 others, given by name and generation. No bytes move.

        Raises ``ApiError``: 404 if a source is missing; 412 if there is such an object, maybe
        this one, after an answer that was lost.
        """
        resource, params = _split(attributes, "destinationPredefinedAcl")
        composed = self.session.request(
            "POST",
            f"{self._object(name)}/compose",
            params={"fields": _FIELDS, **_IF_ABSENT, **params},
            json={
                "destination": resource,
                "sourceObjects": [
                    {"name": source, "generation": generation} for source, generation in sources
                ],
            },
        )
        return object_of(composed)

    def delete(self, name: str, if_generation: str | None = None) -> bool:
        """Delete an object; with ``if_generation`` none that took its place. Without, only a
        name that is never given again.

        Return ``False`` if it was not there: it may have been deleted by a request whose answer
        was lost, and then that is ``True``.
        """
        params = {} if if_generation is None else {"ifGenerationMatch": if_generation}
        try:
            self.session.request("DELETE", self._object(name), params=params, expected=(200, 204))
        except ApiError as error:
            if error.status == 404:
                self._require_bucket(name)
            elif error.status != 412:
                raise
            return error.may_have_happened
        return True

    def missing_permissions(self) -> list[str]:
        """Return the names of the permissions on objects that the credentials lack, of those that
        the storage needs."""
        wanted = [f"storage.objects.{verb}" for verb in _PERMISSIONS]
        tested = self._in_bucket(
            "GET", f"{self._path}/iam/testPermissions", params={"permissions": wanted}
        )
        with transport_errors():
            granted = set(json_of(tested).get("permissions") or ())
        return [name for name in wanted if name not in granted]

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Describe every object whose name starts with ``prefix``, a page at a time."""
        params = {"prefix": prefix, "fields": f"nextPageToken,items({_FIELDS})"}
        while True:
            page = json_of(self._in_bucket("GET", f"{self._path}/o", params=params))
            with transport_errors():
                found = [*map(described, page.get("items") or ())]
            yield from found
            if not page.get("nextPageToken"):
                return
            params["pageToken"] = page["nextPageToken"]

    def read(
        self, name: str, start: int = 0, stop: int | None = None
    ) -> Generator[bytes, None, None]:
        """Open an object, yield ``b""``, then its bytes ``start`` to ``stop`` as they are stored.

        Nothing follows past its end. Raises ``FileNotFoundError``.
        """
        # Google unpacks what is stored as gzip unless that is accepted.
        headers = {"Accept-Encoding": "gzip"}
        if start or stop is not None:
            # RFC 9110, section 14.1.2: both ends are included.
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        try:
            opened = self.session.request(
                "GET",
                self._object(name),
                params={"alt": "media"},
                headers=headers,
                expected=(200, 206, 416),
                stream=True,
            )
        except ApiError as error:
            if error.status != 404:
                raise
            self._require_bucket(name)
            raise names.no_such_file(name) from error
        with opened:
            if opened.status_code == 200 and "Range" in headers:
                raise GoogleError("not the range was sent that was asked for")
            yield b""
            if opened.status_code != 416:
                # urllib3 counts the bytes.
                with transport_errors():
                    yield from opened.raw.stream(CHUNK_SIZE, decode_content=False)

    @contextlib.contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn ``GoogleError`` into ``StorageUnavailable`` ("cannot (doing) in bucket..."), or
        into ``FileTooLargeForStorage``."""
        try:
            yield
        except GoogleError as error:
            is_final = isinstance(error, ApiError) and error.status == 413
            kind = FileTooLargeForStorage if is_final else StorageUnavailable
            raise kind(f"cannot {doing} in bucket {self.name!r}: {error}") from error

    def _object(self, name: str) -> str:
        return f"{self._path}/o/{quote(name, safe='')}"

    def _require_bucket(self, name: str) -> None:
        """Raise ``ApiError`` if a 404 meant the bucket, not the object ``name``."""
        params = {"prefix": name, "maxResults": "1", "fields": "items(name)"}
        self._in_bucket("GET", f"{self._path}/o", params=params)

    def _in_bucket(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Send a request of which a 404 means that there is no bucket; create it if that is
        wanted."""
        # Asked before: another thread may create the bucket until the answer comes.
        may_create = self._may_create
        try:
            return self.session.request(method, path, **arguments)
        except ApiError as error:
            if error.status != 404 or not may_create:
                raise
        with self._create_lock:
            if self._may_create:
                self._create()
                self._may_create = False
        return self.session.request(method, path, **arguments)

    def _create(self) -> None:
        resource: dict[str, Any] = {"name": self.name}
        params = {"project": self.session.project or ""}
        if self.options.uniform_bucket_level_access:
            resource["iamConfiguration"] = {"uniformBucketLevelAccess": {"enabled": True}}
        elif self.options.auto_create_acl:
            params["predefinedAcl"] = self.options.auto_create_acl
        # 409: another process has created it.
        self.session.request(
            "POST", "/storage/v1/b", params=params, json=resource, expected=(200, 409)
        )


def _split(
    attributes: Mapping[str, Any], acl_parameter: str = "predefinedAcl"
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields of the object, and the parameter with its ACL, if one is sent."""
    resource = dict(attributes)
    acl = resource.pop("predefinedAcl", None)
    return resource, {acl_parameter: acl} if acl else {}
