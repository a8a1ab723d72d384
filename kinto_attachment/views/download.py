"""A stored file as a response, for whoever may read it: conditions, ranges and headers.

Kinto sends the bytes (``stream``), has the client fetch them from the storage (``redirect``), or
nginx from the disk (``accel``). Conditions and ranges are decided here: WebOb decides after Kinto
has logged and measured the response, and raises on dates and numbers that are too large. The bytes
go out after the transaction has ended.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from pyramid.response import Response

from kinto_attachment.attachments.reading import ReadableFile
from kinto_attachment.database.transactions import is_in_batch, outermost, release
from kinto_attachment.errors import FileInBatch, UnknownFile
from kinto_attachment.http.conditions import Validators, byte_range
from kinto_attachment.http.disposition import content_disposition, may_be_shown
from kinto_attachment.http.in_flight import counted_chunks
from kinto_attachment.storage import FileStorage, StoredFile
from kinto_attachment.storage.base import CHUNK_SIZE
from kinto_attachment.storage.names import PRIVATE_PREFIX

EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Last-Modified",
    "Repr-Digest",
)
"""The headers that CORS lets scripts read, beside Kinto's own."""

# Conditions that another server would compare with an ETag of its own.
_ANSWERED_HERE = {
    "redirect": ("If-Match", "If-Unmodified-Since", "If-Range"),
    "accel": ("If-Match", "If-Unmodified-Since"),
}
# For a CDN that is told to keep the rest, too: https://www.rfc-editor.org/rfc/rfc9213
_NOT_SHARED = {
    "Vary": "Authorization",
    "CDN-Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
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


def without_challenge(request: Any) -> None:
    """Let a 401 have no ``WWW-Authenticate`` where the browser does not open the file itself: for
    an image in a page it would ask for a password.

    https://www.w3.org/TR/fetch-metadata/#sec-fetch-mode-header
    """
    reads = request.method in ("GET", "HEAD")
    if reads and request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
        outermost(request).add_response_callback(_drop_challenge)


def _drop_challenge(request: Any, response: Any) -> None:
    if "WWW-Authenticate" in response.headers:
        del response.headers["WWW-Authenticate"]


def _response(
    request: Any, files: FileStorage, file: ReadableFile, stored: StoredFile
) -> Response:
    headers = request.headers
    validators = Validators(file.hash, stored.modified)
    if not validators.check(headers):
        return _with_headers(_FileResponse(status=304), file, stored)
    # Kinto has refused a query that is no UTF-8.
    inline = may_be_shown(file.mimetype) and not file.save and "download" not in request.GET
    disposition = content_disposition(file.filename, inline=inline)
    part = None
    # Ranges are defined for GET only (RFC 9110, section 14.2).
    if request.method == "GET" and validators.allow_range(headers.get("If-Range")):
        # Raises RangeNotSatisfiable, also where another server would say it in words of its own.
        part = byte_range(headers.get("Range"), stored.size)
    elsewhere = _sent_by_another(request, files, file, stored, disposition)
    if elsewhere is not None:
        return elsewhere
    start, stop = part or (0, stored.size)
    response = _with_headers(_FileResponse(status=206 if part else 200), file, stored)
    response.headers["Content-Type"] = file.mimetype
    response.headers["Content-Disposition"] = disposition
    if part:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    if request.method == "GET":
        response.app_iter = _body(request, files, stored, start, stop)
    # WebOb forgets it with each new app_iter.
    response.content_length = stop - start
    return response


def _body(
    request: Any, files: FileStorage, stored: StoredFile, start: int, stop: int
) -> Iterable[bytes]:
    """Return the bytes, or have the server send a whole file of the disk by itself.

    https://peps.python.org/pep-3333/#optional-platform-specific-file-handling
    """
    metrics = request.registry.attachment_metrics
    wrapper = outermost(request).environ.get("wsgi.file_wrapper")
    # Not a part: some servers would send all of the file. Metrics count what is sent.
    if wrapper is not None and (start, stop) == (0, stored.size) and not metrics.is_enabled:
        file = files.open_on_disk(stored.name)
        if file is not None:
            wrapped: Iterable[bytes] = wrapper(file, CHUNK_SIZE)
            return wrapped
    return counted_chunks(files.read(stored.name, start, stop), metrics)


def _sent_by_another(
    request: Any, files: FileStorage, file: ReadableFile, stored: StoredFile, disposition: str
) -> Response | None:
    """Return the response that has another server send the file, ``None`` if Kinto does it."""
    settings = request.registry.attachment_settings.download
    here: Iterable[str] = _ANSWERED_HERE.get(settings.mode, ())
    if request.method != "GET" or any(name in request.headers for name in here):
        return None
    if settings.mode == "redirect":
        lifetime = int(settings.link_expires.total_seconds())
        url = files.presigned_url(
            stored.name, lifetime, file.mimetype, disposition, "private, no-store"
        )
        return None if url is None else _RedirectResponse(url)
    if settings.mode == "accel":
        response = _with_headers(_FileResponse(), file, stored)
        response.headers["Content-Type"] = file.mimetype
        response.headers["Content-Disposition"] = disposition
        # It is nginx that knows ranges.
        response.accept_ranges = None
        response.headers["X-Accel-Redirect"] = _internal_path(settings.accel_prefix, file)
        return response
    return None


def _internal_path(prefix: str, file: ReadableFile) -> str:
    """Return where nginx has the file: each store is an internal location of its own."""
    store = "private" if file.is_private else "public"
    return f"{prefix.rstrip('/')}/{store}/{quote(file.name.removeprefix(PRIVATE_PREFIX))}"


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
    if file.is_private:
        response.headers.update(_NOT_SHARED)
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


class _RedirectResponse(_FileResponse):
    """A redirection to a URL that lets whoever has it read the file. It gets its header when it is
    sent: Kinto may log those that a response has before."""

    def __init__(self, url: str) -> None:
        super().__init__(status=302)
        self.headers.update({**_NOT_SHARED, "Cache-Control": "private, no-store"})
        self._url = url

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.headers["Location"] = self._url
        return super().__call__(environ, start_response)
