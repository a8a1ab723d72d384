"""A stored file as a response, for whoever may read it: conditions, ranges and headers.

Conditions and ranges are decided here: WebOb decides after Kinto has logged and measured the
response, and raises on dates and numbers that are too large. The bytes go out after the
transaction has ended.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from pyramid.response import Response

from kinto_attachment.attachments.reading import ReadableFile
from kinto_attachment.database.transactions import is_in_batch, release
from kinto_attachment.errors import FileInBatch, UnknownFile
from kinto_attachment.http.conditions import Validators, byte_range
from kinto_attachment.http.disposition import content_disposition, may_be_shown
from kinto_attachment.storage import FileStorage, StoredFile

EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Last-Modified",
    "Repr-Digest",
)
"""The headers that CORS lets scripts read, beside Kinto's own."""

# Anybody may have uploaded the file: a browser runs no script of it, and gives it an origin of its
# own. https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
_POLICY = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"


def respond(request: Any, files: FileStorage, find: Callable[[], ReadableFile]) -> Response:
    """Answer with the file that ``find()`` returns, or the part of it that ``Range`` asks for.

    Raises what ``find()`` raises, ``FileInBatch``, ``FileModified``, ``RangeNotSatisfiable``,
    ``UnknownFile`` and ``StorageUnavailable``.
    """
    file = find()
    if is_in_batch(request):
        raise FileInBatch()
    while True:
        # A storage that is slow, or down, does not use up the connections to the database.
        release(request)
        try:
            return _response(request, files, file, files.stat(file.name))
        except FileNotFoundError:
            # A record has another one once its file is deleted.
            now = find()
            if now.name == file.name:
                raise UnknownFile() from None
            file = now


def _response(
    request: Any, files: FileStorage, file: ReadableFile, stored: StoredFile
) -> Response:
    headers = request.headers
    validators = Validators(file.hash, stored.modified)
    if not validators.check(headers):
        return _with_headers(_FileResponse(status=304), file, stored)
    part = None
    # Ranges are defined for GET only (RFC 9110, section 14.2).
    if request.method == "GET" and validators.allow_range(headers.get("If-Range")):
        part = byte_range(headers.get("Range"), stored.size)
    start, stop = part or (0, stored.size)
    response = _with_headers(_FileResponse(status=206 if part else 200), file, stored)
    response.headers["Content-Type"] = file.mimetype
    # Kinto has refused a query that is no UTF-8.
    inline = may_be_shown(file.mimetype) and "download" not in request.GET
    response.headers["Content-Disposition"] = content_disposition(file.filename, inline=inline)
    if part:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    if request.method == "GET":
        response.app_iter = files.read(stored.name, start, stop)
    # WebOb forgets it with each new app_iter.
    response.content_length = stop - start
    return response


def _with_headers(response: Response, file: ReadableFile, stored: StoredFile) -> Response:
    """Set the headers that a 304 has, too."""
    response.etag = file.hash
    response.last_modified = stored.modified
    response.accept_ranges = "bytes"
    if file.hash is not None:
        # https://www.rfc-editor.org/rfc/rfc9530#name-the-repr-digest-field
        digest = base64.b64encode(bytes.fromhex(file.hash)).decode()
        response.headers["Repr-Digest"] = f"sha-256=:{digest}:"
    response.headers["Cache-Control"] = file.cache_control
    # Chromium's viewer for PDF does not start in a sandbox.
    sandbox = "" if file.mimetype == "application/pdf" else "; sandbox"
    response.headers["Content-Security-Policy"] = f"{_POLICY}{sandbox}"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


class _FileResponse(Response):
    """Has no ``body``, for those who only look at it: Kinto measures and logs the body of every
    response, and would load the whole file."""

    # WebOb would add its own.
    default_content_type = None

    @property
    def body(self) -> bytes:
        return b""

    @property
    def json(self) -> dict[str, Any]:
        return {}
