"""Files by their name, served by Kinto itself: for development and small sites.

Only the plugin's own files are served.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pyramid.exceptions import ConfigurationError
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED

from kinto_attachment.attachments.reading import ReadableFiles
from kinto_attachment.errors import answered
from kinto_attachment.http import openapi
from kinto_attachment.views import download


def register(config: Any) -> None:
    """Add the service if the setting ``serve_files`` is true. Raises ``ConfigurationError``."""
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
    from kinto.core import Service

    service = Service(
        name="attachment-file", path=f"/{folder}/{{name:.+}}", description="Read a file"
    )
    service.add_view(
        "GET",
        get_file,
        operation_id="read_file_by_name",
        permission=NO_PERMISSION_REQUIRED,
        cors_headers=download.EXPOSED_HEADERS,
        tags=["Attachments"],
    )
    config.add_cornice_service(service)
    openapi.describe_by_name(service)


@answered()
def get_file(request: Any) -> Response:
    """Answer with the file of that name."""
    registry, files = request.registry, request.registry.attachment_files
    readable = ReadableFiles(registry.storage, registry.attachment_settings, files)
    return download.respond(request, files, lambda: readable.named(request.matchdict["name"]))
