"""Files by their name, served by Kinto itself: for development and small sites.

Only the plugin's files are served, with the media type that the record has. Anybody may have
uploaded them: a browser must run no script of theirs, and gives them an origin of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from kinto.core.utils import reapply_cors
from pyramid.exceptions import ConfigurationError
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.references import References
from kinto_attachment.errors import UnknownFile, answered
from kinto_attachment.storage import FileStorage

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
    files: FileStorage = request.attachment
    registry = request.registry
    references = References(
        registry.storage, registry.attachment_settings, FileChanges.current(files)
    )
    row = references.file(name)
    if row is None:
        raise UnknownFile()
    try:
        stored = files.stat(name)
    except FileNotFoundError:
        raise UnknownFile() from None
    response = _FileResponse(
        app_iter=_Content(files, name),
        conditional_response=True,
        content_length=stored.size,
    )
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


class _Content:
    """The bytes of a file, read when they are asked for."""

    def __init__(self, files: FileStorage, name: str) -> None:
        self._files = files
        self._name = name

    def __iter__(self) -> Iterator[bytes]:
        return self._files.read(self._name)

    def app_iter_range(self, start: int, stop: int | None) -> Iterator[bytes]:
        """Return what WebOb sends for a range."""
        return self._files.read(self._name, start, stop)


class _FileResponse(Response):
    @property
    def body(self) -> bytes:
        """Nothing: Kinto measures the body of every response, and would load the whole file."""
        return b""
