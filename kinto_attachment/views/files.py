"""Files by their name, at ``/v1/attachments/``, and at ``base_url`` where Kinto serves that.

Only the plugin's own files are served: public ones to anybody, where ``serve_files`` is true;
private ones to those who may read a record that shows them; both to those who have a link.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pyramid.exceptions import ConfigurationError
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED

from kinto_attachment.attachments.readers import Readers
from kinto_attachment.attachments.reading import ReadableFiles
from kinto_attachment.errors import Forbidden, InvalidLink, UnknownFile, answered
from kinto_attachment.http import openapi
from kinto_attachment.storage.names import PRIVATE_PREFIX, is_private
from kinto_attachment.views import download, link
from kinto_attachment.views.attachment import PATH

_SERVICE = "attachment-file"


def register(config: Any) -> None:
    """Add the services. Raises ``ConfigurationError``."""
    folder = _folder_of_base_url(config)
    settings, has_private = config.registry.attachment_settings, _has_private(config)
    if settings.serve_files and folder is None:
        raise ConfigurationError(
            "kinto.attachment.serve_files serves the files at kinto.attachment.base_url, whose "
            f"path has to be below /{config.route_prefix}/, as in "
            f"http://127.0.0.1:8888/{config.route_prefix}/files/."
        )
    # First: it may be below the other one.
    if folder is not None and folder != link.FOLDER and (settings.serve_files or has_private):
        which = ".+" if settings.serve_files else f"{PRIVATE_PREFIX}.+"
        _add_service(config, f"{_SERVICE}-at-base-url", folder, which, "read_file_at_base_url")
    _add_service(config, _SERVICE, link.FOLDER, ".+", "read_file_by_name")
    link.register(config, PATH, _SERVICE)


def _has_private(config: Any) -> bool:
    return config.registry.attachment_files.private is not None


def _folder_of_base_url(config: Any) -> str | None:
    """Return where ``base_url`` is below ``/v1/``; ``None`` if it is elsewhere, or at what is
    Kinto's own."""
    prefix = f"/{config.route_prefix}/"
    path = urlsplit(config.registry.attachment_settings.base_url).path
    folder = path.removeprefix(prefix).rstrip("/")
    is_own = not folder or folder.split("/")[0] in ("buckets", "batch")
    return folder if path.startswith(prefix) and not is_own else None


def _add_service(config: Any, name: str, folder: str, which: str, operation: str) -> None:
    from kinto.core import Service

    service = Service(name=name, path=f"/{folder}/{{name:{which}}}", description="Read a file")
    service.add_view(
        "GET",
        get_file,
        operation_id=operation,
        permission=NO_PERMISSION_REQUIRED,
        cors_headers=download.EXPOSED_HEADERS,
        tags=["Attachments"],
    )
    config.add_cornice_service(service)
    openapi.describe_by_name(service)


@answered()
def get_file(request: Any) -> Response:
    """Answer with the file of that name.

    Of a private one, unknown, not allowed and gone are answered alike.
    """
    download.without_challenge(request)
    registry, files = request.registry, request.registry.attachment_files
    readers = Readers(request)
    readable = ReadableFiles(registry.storage, registry.attachment_settings, readers)
    name, token = request.matchdict["name"], link.token_of(request)
    try:
        if token is None:
            return download.respond(request, files, lambda: readable.named(name))
        response = download.respond(request, files, lambda: readable.linked(name, token))
    except UnknownFile:
        if token is not None:
            raise InvalidLink() from None
        if is_private(name) and readers.identify() is None:
            raise Forbidden() from None
        raise
    # Links from the file do not pass the link on.
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
