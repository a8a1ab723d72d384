"""Files by their name, served by Kinto itself: for development and small sites.

Only the plugin's files are served, with the media type that the record has. Anybody may have
uploaded them: a browser must run no script of theirs, and gives them an origin of their own.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from kinto.core.utils import reapply_cors
from pyramid.exceptions import ConfigurationError
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.references import References
from kinto_attachment.database.transactions import is_in_batch
from kinto_attachment.errors import FileInBatch, UnknownFile, answered
from kinto_attachment.http.conditions import Validators, byte_range
from kinto_attachment.storage import FileStorage, StoredFile

# https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
_POLICY = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"


def register(config: Any) -> None:
    """Add the route if the setting ``serve_files`` is true. Raises ``ConfigurationError``."""
    settings = config.registry.attachment_settings
    if not settings.serve_files:
        return
    prefix = f"/{config.route_prefix}/"
    path = urlsplit(settings.base_url).path
    folder = path.removeprefix(prefix).rstrip("/")
    if not path.startswith(prefix) or not folder or folder.split("/")[0] in ("buckets", "batch"):
        raise ConfigurationError(
            "kinto.attachment.serve_files serves the files at kinto.attachment.base_url, whose "
            f"path has to be below {prefix}, as in http://127.0.0.1:8888{prefix}files/."
        )
    config.add_route("attachment_file", f"/{folder}/{{name:.+}}")
    config.add_view(
        get_file,
        route_name="attachment_file",
        request_method=("GET", "HEAD"),
        permission=NO_PERMISSION_REQUIRED,
    )


def get_file(request: Any) -> Response:
    """Answer with a file, or the part of it that ``Range`` asks for (RFC 9110, section 14)."""
    return reapply_cors(request, _response(request, request.matchdict["name"]))


@answered()
def _response(request: Any, name: str) -> Response:
    files: FileStorage = request.registry.attachment_files
    registry = request.registry
    references = References(
        registry.storage, registry.attachment_settings, FileChanges.current(files)
    )
    row = references.file(name)
    if row is None:
        raise UnknownFile()
    if is_in_batch(request):
        raise FileInBatch()
    try:
        stored = files.stat(name)
        return _answer(request, files, stored, row)
    except FileNotFoundError:
        raise UnknownFile() from None


def _answer(request: Any, files: FileStorage, stored: StoredFile, row: Any) -> Response:
    """Decide conditions and ranges here: WebOb decides after Kinto has logged and measured the
    response, and raises on dates and numbers that are too large."""
    headers = request.headers
    validators = Validators(row["hash"], stored.modified)
    if not validators.check(headers):
        response = _FileResponse(status=304)
    else:
        part = None
        # Ranges are defined for GET only.
        if request.method == "GET" and validators.allow_range(headers.get("If-Range")):
            part = byte_range(headers.get("Range"), stored.size)
        start, stop = part or (0, stored.size)
        response = _FileResponse(status=206 if part else 200)
        if part:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        if request.method == "GET":
            response.app_iter = files.read(stored.name, start, stop)
        response.content_length = stop - start
        # Metadata of files of earlier versions may be incomplete.
        response.headers["Content-Type"] = row["mimetype"] or "application/octet-stream"
    response.etag = row["hash"]
    response.last_modified = stored.modified
    response.accept_ranges = "bytes"
    response.cache_control.no_cache = True
    # Chromium's viewer for PDF does not start in a sandbox.
    sandbox = "" if row["mimetype"] == "application/pdf" else "; sandbox"
    response.headers["Content-Security-Policy"] = f"{_POLICY}{sandbox}"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


class _FileResponse(Response):
    # WebOb would add its own.
    default_content_type = None

    @property
    def body(self) -> bytes:
        """Nothing: Kinto measures the body of every response, and would load the whole file."""
        return b""
