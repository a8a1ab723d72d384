"""The JSON API, and what anonymous readers ask of the XML API: one method for each operation."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from tests.support.servers.gcs import errors
from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.bucket import (
    GRANULE,
    Bucket,
    Session,
    StoredObject,
    check_conditions,
    check_name,
    check_properties,
    number,
)
from tests.support.servers.gcs.content import Content
from tests.support.servers.gcs.errors import GcsError, invalid, load_json
from tests.support.servers.gcs.media import media_of
from tests.support.servers.gcs.requests import GcsRequest
from tests.support.servers.gcs.resources import partial, resource_of

if TYPE_CHECKING:
    from tests.support.servers.gcs import GcsServer

_PIECE = 1024 * 1024
_MOST_ITEMS = 1000
_PERMISSIONS = {
    "list": "storage.objects.list",
    "get": "storage.objects.get",
    "media": "storage.objects.get",
    "patch": "storage.objects.update",
    "delete": "storage.objects.delete",
    "create_bucket": "storage.buckets.create",
    "get_bucket": "storage.buckets.get",
    "permissions": "storage.buckets.get",
}
_HASHES = {"crc32c": ("crc32c", "CRC32C"), "md5Hash": ("md5", "MD5 hash")}


class Body(Protocol):
    """The body of a request."""

    @property
    def length(self) -> int | None:
        """Its bytes that are still to come; ``None`` is not known (chunked)."""

    def read(self, size: int | None = None) -> bytes:
        """Read up to ``size`` bytes, fewer only at its end, or where the line is broken."""

    @property
    def is_broken(self) -> bool:
        """Whether it ended before it should."""


class Api:
    """Answers requests, on the state of ``server``."""

    def __init__(self, server: GcsServer) -> None:
        self._server = server

    def answer(self, request: GcsRequest, body: Body) -> Answer:
        """Do what a request asks for. A line that breaks raises ``ConnectionError``."""
        operation = request.operation
        try:
            if operation == "unknown":
                raise errors.not_found()
            if operation not in ("token", "public"):
                self._authorize(request)
            answer: Answer = getattr(self, f"_{operation}")(request, body)
        except GcsError as error:
            if operation == "public":
                return error.as_xml()
            return error.as_text() if operation == "media" else error.as_json()
        return answer

    # Credentials and buckets.

    def _authorize(self, request: GcsRequest) -> None:
        header = request.headers.get("Authorization")
        if header is None:
            # The URI of a session is a credential itself.
            if not self._server.anonymous and "upload_id" not in request.query:
                raise errors.anonymous(
                    _PERMISSIONS.get(request.operation, "storage.objects.create")
                )
        elif header.removeprefix("Bearer ") not in self._server.account.tokens:
            raise errors.unauthorized()

    def _bucket(self, name: str) -> Bucket:
        try:
            return self._server.buckets[name]
        except KeyError:
            raise errors.missing_bucket() from None

    def _token(self, request: GcsRequest, body: Body) -> Answer:
        return self._server.account.exchange(body.read(), f"{self._server.endpoint_url}/token")

    def _create_bucket(self, request: GcsRequest, body: Body) -> Answer:
        resource = load_json(body.read())
        if not request.query.get("project"):
            raise invalid("Required parameter: project", "required")
        name = resource.get("name", "")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", name):
            raise invalid(f"Invalid bucket name: '{name}'")
        if name in self._server.buckets:
            raise GcsError(
                409,
                "conflict",
                "Your previous request to create the named bucket succeeded and you already own "
                "it.",
            )
        configuration = resource.get("iamConfiguration", {})
        uniform = configuration.get("uniformBucketLevelAccess", {}).get("enabled", False)
        acls = [request.query.get(key) for key in ("predefinedAcl", "predefinedDefaultObjectAcl")]
        if uniform and any(acls):
            raise invalid(
                "Cannot set predefined ACLs for a bucket when uniform bucket-level access is "
                "enabled."
            )
        bucket = self._server.create_bucket(name, uniform_access=uniform)
        bucket.acl = acls[0]
        return self._of_bucket(request, bucket)

    def _get_bucket(self, request: GcsRequest, body: Body) -> Answer:
        if not self._server.allows_get_bucket:
            raise errors.forbidden(self._server.account.email, "storage.buckets.get", "bucket")
        return self._of_bucket(request, self._bucket(request.bucket))

    def _permissions(self, request: GcsRequest, body: Body) -> Answer:
        self._bucket(request.bucket)
        asked = [value for key, value in request.pairs if key == "permissions"]
        if not asked:
            raise invalid("Required parameter: permissions", "required")
        has = self._server.permissions
        granted = [permission for permission in asked if has is None or permission in has]
        answer: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
        if granted:
            answer["permissions"] = granted
        return self._of(request, answer)

    # Objects.

    def _insert(self, request: GcsRequest, body: Body) -> Answer:
        bucket = self._bucket(request.bucket)
        data = _whole(body)
        resource: dict[str, Any] = {}
        content_type = request.headers.get("Content-Type", "application/octet-stream")
        upload_type = request.query.get("uploadType")
        if upload_type == "multipart":
            resource, content_type, data = _multipart(content_type, data)
        elif upload_type != "media":
            raise invalid(f"Invalid upload type: {upload_type}", "invalidParameter")
        name = _name(request, resource)
        content = Content.of(data)
        _check_hashes(content, resource, request.headers)
        properties = {"contentType": content_type, **check_properties(resource)}
        stored = bucket.put(
            name, content, properties, request.query.get("predefinedAcl"), request.query
        )
        return self._of_object(request, stored)

    def _get(self, request: GcsRequest, body: Body) -> Answer:
        return self._of_object(request, self._read(request))

    def _media(self, request: GcsRequest, body: Body) -> Answer:
        return media_of(self._read(request), request.headers)

    def _read(self, request: GcsRequest) -> StoredObject:
        bucket = self._bucket(request.bucket)
        with bucket.lock:
            stored = bucket.find(request.name, request.query.get("generation"))
            check_conditions(request.query, stored)
            return stored

    def _patch(self, request: GcsRequest, body: Body) -> Answer:
        bucket = self._bucket(request.bucket)
        changes = load_json(_whole(body))
        return self._of_object(request, bucket.patch(request.name, changes, request.query))

    def _delete(self, request: GcsRequest, body: Body) -> Answer:
        self._bucket(request.bucket).delete(request.name, request.query)
        return Answer(204)

    def _compose(self, request: GcsRequest, body: Body) -> Answer:
        bucket = self._bucket(request.bucket)
        wanted = load_json(_whole(body))
        destination = wanted.get("destination") or {}
        stored = bucket.compose(
            request.name,
            wanted.get("sourceObjects"),
            check_properties(destination),
            request.query.get("destinationPredefinedAcl"),
            request.query,
        )
        return self._of_object(request, stored)

    def _rewrite(self, request: GcsRequest, body: Body) -> Answer:
        source = self._bucket(request.bucket)
        to_bucket, to_name = request.destination
        resource = load_json(_whole(body))
        found = source.find(request.name, request.query.get("sourceGeneration"))
        check_conditions(request.query, found, "ifSource")
        # What is given replaces everything; else all but the ACL is taken over.
        properties = check_properties(resource) if resource else dict(found.properties)
        stored = self._bucket(to_bucket).put(
            to_name,
            found.data,
            properties,
            request.query.get("destinationPredefinedAcl"),
            request.query,
            found.component_count,
        )
        if "/copyTo/" in request.path:
            return self._of_object(request, stored)
        answer = {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": str(stored.size),
            "objectSize": str(stored.size),
            "done": True,
            "resource": self._resource(request, stored),
        }
        return self._of(request, answer)

    def _list(self, request: GcsRequest, body: Body) -> Answer:
        bucket, query = self._bucket(request.bucket), request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        most = min(number("maxResults", query.get("maxResults", str(_MOST_ITEMS))), _MOST_ITEMS)
        after = bytes.fromhex(query.get("pageToken", "")).decode()
        with bucket.lock:
            everything = dict(bucket.live.items())
        items: list[StoredObject] = []
        prefixes: list[str] = []
        token = last = ""
        for name in sorted(everything, key=str.encode):
            if (
                not name.startswith(prefix)
                or name.encode() < query.get("startOffset", "").encode()
                or ("endOffset" in query and name.encode() >= query["endOffset"].encode())
            ):
                continue
            head, found, _ = name[len(prefix) :].partition(delimiter or "\0")
            entry = prefix + head + found if delimiter and found else name
            if entry.encode() <= after.encode() or entry in prefixes[-1:]:
                continue
            if len(items) + len(prefixes) == (most or _MOST_ITEMS):
                token = last.encode().hex()
                break
            last = entry
            if entry == name and not (delimiter and found):
                items.append(everything[name])
            else:
                prefixes.append(entry)
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if token:
            answer["nextPageToken"] = token
        if prefixes:
            answer["prefixes"] = prefixes
        if items:
            answer["items"] = [self._resource(request, stored) for stored in items]
        return self._of(request, answer)

    # Resumable uploads.

    def _start(self, request: GcsRequest, body: Body) -> Answer:
        bucket = self._bucket(request.bucket)
        resource = load_json(_whole(body))
        name = _name(request, resource)
        check_name(name)
        acl = request.query.get("predefinedAcl")
        if bucket.uniform_access:
            bucket.check_acl(acl)
        default = request.headers.get("X-Upload-Content-Type", "application/octet-stream")
        upload_id = secrets.token_urlsafe(32)
        session = Session(
            bucket.name,
            name,
            upload_id,
            {"contentType": default, **check_properties(resource)},
            acl,
            request.query,
            _hashes(resource, request.headers),
        )
        size = request.headers.get("X-Upload-Content-Length")
        session.total = None if size is None else number("X-Upload-Content-Length", size)
        self._server.all_sessions[upload_id] = session
        location = (
            f"{self._server.endpoint_url}/upload/storage/v1/b/{bucket.name}/o"
            f"?uploadType=resumable&name={quote(name, safe='')}&upload_id={upload_id}"
        )
        return Answer(200, {"Location": location, "X-GUploader-UploadID": upload_id})

    def _session(self, request: GcsRequest) -> Session:
        session = self._server.all_sessions.get(request.query["upload_id"])
        if session is None or session.bucket != request.bucket:
            raise errors.not_found()
        if session.refusal is not None:
            raise session.refusal
        return session

    def _cancel(self, request: GcsRequest, body: Body) -> Answer:
        session = self._session(request)
        session.refusal = GcsError(499, "clientClosedRequest", "Client Closed Request")
        return Answer(499)

    def _status(self, request: GcsRequest, body: Body) -> Answer:
        session = self._session(request)
        _whole(body)
        header = request.headers["Content-Range"]
        match = re.fullmatch(r"bytes \*/(\*|\d+)", header)
        if match is None:
            raise invalid(f"Failed to parse Content-Range header: {header}")
        if session.result is not None:
            return self._of_object(request, session.result)
        if match[1] != "*":
            self._fix_total(session, int(match[1]))
            if session.kept == session.total:
                return self._finish(request, session)
        return _incomplete(session)

    def _chunk(self, request: GcsRequest, body: Body) -> Answer:
        session = self._session(request)
        if session.result is not None:
            return self._of_object(request, session.result)
        start, length, total = _content_range(request.headers.get("Content-Range"), body.length)
        if total is not None:
            self._fix_total(session, total)
        is_last = length is None or (total is not None and start + length == total)
        if length is not None and length % GRANULE and not is_last:
            raise invalid(
                "Invalid request.  The number of bytes uploaded is required to be equal or "
                f"greater than {GRANULE}, except for the final request (it's recommended to be "
                f"the exact multiple of {GRANULE}).  The received request contained {length} "
                "bytes, which does not meet this requirement."
            )
        if start > session.kept:
            raise errors.unavailable()
        self._receive(session, start, body)
        if length is None:
            self._fix_total(session, session.kept)
        if is_last and session.kept == session.total:
            return self._finish(request, session)
        return _incomplete(session)

    def _receive(self, session: Session, start: int, body: Body) -> None:
        stop = None
        if self._server.acknowledges and body.length is not None:
            new = start + body.length - session.kept
            stop = session.kept + self._server.acknowledges(max(new, 0))
        offset = start
        while piece := body.read(_PIECE):
            end = offset + len(piece)
            if body.is_broken:
                # Whole granules of what came are kept.
                piece = piece[: max(end // GRANULE * GRANULE - offset, 0)]
            if stop is not None:
                piece = piece[: max(stop - offset, 0)]
            session.append(offset, piece)
            offset = end
        if body.is_broken:
            raise ConnectionAbortedError

    def _fix_total(self, session: Session, total: int) -> None:
        if session.total not in (None, total) or total < session.kept:
            raise invalid(
                f"Invalid request.  The total size {total} does not agree with what was said "
                "before."
            )
        session.total = total

    def _finish(self, request: GcsRequest, session: Session) -> Answer:
        bucket = self._bucket(session.bucket)
        with bucket.lock:
            if session.result is None:
                try:
                    content = session.content
                    _check_hashes(content, session.hashes, request.headers)
                    session.result = bucket.put(
                        session.name, content, session.properties, session.acl, session.conditions
                    )
                except GcsError as error:
                    # What may be tried again is not the end of the session.
                    session.refusal = None if error.status == 429 else error
                    raise
        return self._of_object(request, session.result)

    # The XML API.

    def _public(self, request: GcsRequest, body: Body) -> Answer:
        bucket, query = self._bucket(request.bucket), request.query
        is_signed = "X-Goog-Signature" in query
        if is_signed:
            self._server.account.check_signed_url(request)
        stored = bucket.live.get(request.name)
        is_public = self._server.public_bucket and bucket.name == self._server.bucket
        if not is_signed and not is_public and (stored is None or not self._shows(bucket, stored)):
            raise errors.forbidden("Anonymous caller", "storage.objects.get")
        found = bucket.find(request.name, query.get("generation"))
        answer = media_of(found, request.headers, is_public=not is_signed)
        for key, value in query.items():
            if is_signed and key.startswith("response-"):
                answer.headers[key.removeprefix("response-").title()] = value
        return answer

    def _shows(self, bucket: Bucket, stored: StoredObject) -> bool:
        return (
            stored.acl == "publicRead"
            and not bucket.uniform_access
            and not self._server.public_access_prevention
        )

    # Answers.

    def _of(self, request: GcsRequest, value: Any) -> Answer:
        fields = request.query.get("fields")
        return Answer.of_json(200, partial(value, fields) if fields else value)

    def _of_object(self, request: GcsRequest, stored: StoredObject) -> Answer:
        return self._of(request, self._resource(request, stored))

    def _resource(self, request: GcsRequest, stored: StoredObject) -> dict[str, Any]:
        is_full = request.query.get("projection") == "full"
        return resource_of(stored, self._server.endpoint_url, is_full)

    def _of_bucket(self, request: GcsRequest, bucket: Bucket) -> Answer:
        return self._of(
            request,
            {
                "kind": "storage#bucket",
                "id": bucket.name,
                "name": bucket.name,
                "projectNumber": "1",
                "metageneration": "1",
                "location": "US",
                "locationType": "multi-region",
                "storageClass": "STANDARD",
                "etag": "CAE=",
                "iamConfiguration": {
                    "uniformBucketLevelAccess": {"enabled": bucket.uniform_access},
                    "publicAccessPrevention": (
                        "enforced" if self._server.public_access_prevention else "inherited"
                    ),
                },
            },
        )


def _whole(body: Body) -> bytes:
    data = body.read()
    if body.is_broken:
        raise ConnectionAbortedError
    return data


def _name(request: GcsRequest, resource: Mapping[str, Any]) -> str:
    """The name of a new object: of the query, or of its metadata."""
    names = {name for name in (request.query.get("name"), resource.get("name")) if name}
    if len(names) > 1:
        raise invalid(
            f"Value '{resource['name']}' in content does not agree with value "
            f"'{request.query['name']}'. This can happen when a value set through a parameter is "
            "inconsistent with a value set in the request."
        )
    if not names:
        raise invalid("Required", "required")
    name = names.pop()
    if not isinstance(name, str):
        raise invalid("Invalid value for: name")
    return name


def _multipart(content_type: str, data: bytes) -> tuple[dict[str, Any], str, bytes]:
    """Metadata, content type and content of a ``multipart/related`` body (RFC 2387)."""
    match = re.match(r'multipart/related\s*;.*boundary="?([^";]+)"?', content_type, re.IGNORECASE)
    if match is None:
        raise invalid("Missing or invalid multipart/related content type.", "badContent")
    boundary = b"--" + match[1].encode()
    opening, first, rest = (b"\r\n" + data).partition(b"\r\n" + boundary + b"\r\n")
    metadata, between, last = rest.partition(b"\r\n" + boundary + b"\r\n")
    content, closing, _ = last.rpartition(b"\r\n" + boundary + b"--")
    if not (first and between and closing):
        raise invalid("Malformed multipart body.", "badContent")
    _, _, resource = metadata.partition(b"\r\n\r\n")
    head, found, media = content.partition(b"\r\n\r\n")
    if not found:
        raise invalid("Malformed multipart body.", "badContent")
    kind = re.search(rb"content-type:[ \t]*([^\r\n]+)", head, re.IGNORECASE)
    return (
        load_json(resource),
        kind[1].decode("latin-1") if kind else "application/octet-stream",
        media,
    )


def _hashes(resource: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, str]:
    """What the content should be, by the metadata or ``x-goog-hash``."""
    hashes = {key: resource[key] for key in _HASHES if resource.get(key)}
    for pair in headers.get("x-goog-hash", "").split(","):
        name, _, value = pair.strip().partition("=")
        if name in ("crc32c", "md5"):
            hashes["md5Hash" if name == "md5" else name] = value
    return hashes


def _check_hashes(
    content: Content, resource: Mapping[str, Any], headers: Mapping[str, str]
) -> None:
    for key, value in {**resource, **_hashes(resource, headers)}.items():
        if key in _HASHES:
            attribute, words = _HASHES[key]
            actual = getattr(content, attribute)
            if actual is not None and actual != value:
                raise invalid(
                    f'Provided {words} "{value}" doesn\'t match calculated {words} "{actual}".'
                )


def _content_range(header: str | None, length: int | None) -> tuple[int, int | None, int | None]:
    """Where a chunk starts, its length, and the total size, as far as they are known."""
    if header is None:
        return 0, length, length
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\*|\d+)", header)
    if match is None:
        raise invalid(f"Failed to parse Content-Range header: {header}")
    start, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    wanted = last - start + 1
    if wanted < 1 or (total is not None and last >= total):
        raise invalid(f"Failed to parse Content-Range header: {header}")
    if length is not None and length != wanted:
        raise invalid(
            f"Invalid request.  There were {length} byte(s) in the request body.  There should "
            f"have been {wanted} byte(s) (starting at offset {start} and ending at offset "
            f"{last}) according to the Content-Range header."
        )
    return start, wanted, total


def _incomplete(session: Session) -> Answer:
    headers = {"X-GUploader-UploadID": session.upload_id}
    if session.kept:
        headers["Range"] = f"bytes=0-{session.kept - 1}"
    return Answer(308, headers)
