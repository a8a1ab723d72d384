"""Uploads: in one request, and resumable."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tests.support.servers.gcs import errors
from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.checks import check_name, check_properties, number
from tests.support.servers.gcs.content import Content
from tests.support.servers.gcs.errors import GcsError, invalid, load_json
from tests.support.servers.gcs.operations import Body, Operations
from tests.support.servers.gcs.requests import GcsRequest
from tests.support.servers.gcs.session import GRANULE, Session

_PIECE = 1024 * 1024
_HASHES = {"crc32c": ("crc32c", "CRC32C"), "md5Hash": ("md5", "MD5 hash")}


class Uploads(Operations):
    def insert(self, request: GcsRequest, body: Body) -> Answer:
        bucket = self.bucket(request.bucket)
        data = body.whole()
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
        return self.of_object(request, stored)

    def start(self, request: GcsRequest, body: Body) -> Answer:
        bucket = self.bucket(request.bucket)
        resource = load_json(body.whole())
        name = _name(request, resource)
        check_name(name)
        acl = request.query.get("predefinedAcl")
        bucket.check_acl(acl, is_start=True)
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
        self.server.all_sessions[upload_id] = session
        location = (
            f"{self.server.endpoint_url}/upload/storage/v1/b/{bucket.name}/o"
            f"?uploadType=resumable&name={quote(name, safe='')}&upload_id={upload_id}"
        )
        return Answer(200, {"Location": location, "X-GUploader-UploadID": upload_id})

    def chunk(self, request: GcsRequest, body: Body) -> Answer:
        session = self._session(request)
        if session.result is not None:
            return self.of_object(request, session.result)
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
        received = self._receive(session, start, length, body)
        if length is not None and received != length:
            raise _other_length(received, start, length)
        if length is None:
            self._fix_total(session, session.kept)
        if is_last and session.kept == session.total:
            return self._finish(request, session)
        return _incomplete(session)

    def status(self, request: GcsRequest, body: Body) -> Answer:
        session = self._session(request)
        body.whole()
        header = request.headers["Content-Range"]
        match = re.fullmatch(r"bytes \*/(\*|\d+)", header)
        if match is None:
            raise invalid(f"Failed to parse Content-Range header: {header}")
        if session.result is not None:
            return self.of_object(request, session.result)
        if match[1] != "*":
            self._fix_total(session, int(match[1]))
        if session.kept == session.total:
            return self._finish(request, session)
        return _incomplete(session)

    def cancel(self, request: GcsRequest, body: Body) -> Answer:
        session = self._session(request)
        session.refusal = GcsError(499, "clientClosedRequest", "Client Closed Request")
        return Answer(499)

    def _session(self, request: GcsRequest) -> Session:
        session = self.server.all_sessions.get(request.query["upload_id"])
        if session is None or session.bucket != request.bucket:
            raise errors.not_found()
        if session.refusal is not None:
            raise session.refusal
        return session

    def _receive(self, session: Session, start: int, length: int | None, body: Body) -> int:
        """Keep what comes; return how many bytes did."""
        stop = sys.maxsize
        if length is not None:
            stop = start + length
            if self.server.acknowledges:
                new = max(stop - session.kept, 0)
                stop = session.kept + self.server.acknowledges(new)
        offset = start
        while piece := body.read(_PIECE):
            end = offset + len(piece)
            # Where the line breaks, whole granules of what came are kept.
            kept = min(end // GRANULE * GRANULE if body.is_broken else end, stop)
            session.append(offset, piece[: max(kept - offset, 0)])
            offset = end
        if body.is_broken:
            raise ConnectionAbortedError
        return offset - start

    def _fix_total(self, session: Session, total: int) -> None:
        if session.total not in (None, total) or total < session.kept:
            raise invalid(
                f"Invalid request.  The total size {total} does not agree with what was said "
                "before."
            )
        session.total = total

    def _finish(self, request: GcsRequest, session: Session) -> Answer:
        bucket = self.bucket(session.bucket)
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
        return self.of_object(request, session.result)


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
        raise _other_length(length, start, wanted)
    return start, wanted, total


def _other_length(length: int, start: int, wanted: int) -> GcsError:
    return invalid(
        f"Invalid request.  There were {length} byte(s) in the request body.  There should have "
        f"been {wanted} byte(s) (starting at offset {start} and ending at offset "
        f"{start + wanted - 1}) according to the Content-Range header."
    )


def _incomplete(session: Session) -> Answer:
    headers = {"X-GUploader-UploadID": session.upload_id}
    if session.kept:
        headers["Range"] = f"bytes=0-{session.kept - 1}"
    return Answer(308, headers)
