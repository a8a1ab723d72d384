"""The ``attachment`` endpoint of a record."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from kinto.core.authorization import DYNAMIC
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED

from kinto_attachment.attachments.attach import Attachments
from kinto_attachment.attachments.authorization import AttachmentContext, valid_context
from kinto_attachment.attachments.upload import Destination
from kinto_attachment.database.transactions import release
from kinto_attachment.errors import refusals
from kinto_attachment.http import openapi
from kinto_attachment.http.body import content_length, taken
from kinto_attachment.http.json_object import json_object
from kinto_attachment.http.multipart import FILE, boundary_of, read_form
from kinto_attachment.http.preconditions import Preconditions
from kinto_attachment.tus import openapi as tus_openapi
from kinto_attachment.tus import views as tus

PATH = "/buckets/{bucket_id}/collections/{collection_id}/records/{id}/attachment"

_CORS_HEADERS = ("Location", "ETag", "Last-Modified", *tus.CORS_HEADERS)


def register(config: Any) -> None:
    """Add the service. Kinto's ``Service`` has CORS only once the settings are known."""
    from kinto.core import Service

    service = Service(
        name="attachment",
        path=PATH,
        description="Attach a file to a record, or detach it",
        factory=AttachmentContext,
    )
    arguments = {"permission": DYNAMIC, "cors_headers": _CORS_HEADERS, "tags": ["Attachments"]}
    service.add_view("POST", post_attachment, operation_id="attach_file", **arguments)
    service.add_view("DELETE", delete_attachment, operation_id="detach_file", **arguments)
    service.add_view("OPTIONS", tus.options(service), permission=NO_PERMISSION_REQUIRED)
    config.add_cornice_service(service)
    openapi.describe(service)
    tus_openapi.describe_creation(service)
    tus.register(config, PATH)


def post_attachment(request: Any) -> Any:
    """Attach the file of a ``multipart/form-data`` body to the record, or begin an upload over
    several requests."""
    if tus.is_spoken(request):
        return tus.create(request)
    context = valid_context(request)
    settings = request.registry.attachment_settings
    limits = settings.for_collection(
        request.matchdict["bucket_id"], request.matchdict["collection_id"]
    )
    Preconditions(request).check(context.current_object)
    with refusals(), ExitStack() as stack:
        boundary = boundary_of(request.headers.get("Content-Type"))
        length = content_length(request.environ)
        destination = Destination(request.attachment, limits, request.matchdict, length)
        release(request)
        upload, fields = read_form(
            taken(request.environ),
            length,
            boundary,
            lambda part: stack.enter_context(destination.open(part)),
        )
        body = {name: json_object(name, text) for name, text in fields.items()}
        name, metadata = upload.finish()
    body.get("data", {}).pop(FILE, None)
    use_case = Attachments(request, settings, request.attachment)
    attachment = use_case.attach(name, metadata, body)
    request.response.headers["Location"] = request.route_url("record-object", **request.matchdict)
    return attachment


def delete_attachment(request: Any) -> Response:
    """Detach the file of the record."""
    valid_context(request)
    use_case = Attachments(request, request.registry.attachment_settings, request.attachment)
    use_case.detach(Preconditions(request))
    headers = request.response.headers
    return _NoContent(
        status=204,
        headerlist=[
            (name, headers[name]) for name in ("ETag", "Last-Modified") if name in headers
        ],
    )


class _NoContent(Response):
    @property
    def json(self) -> dict[str, Any]:
        """Kinto's batch shows bodies as JSON, and fails on an empty one."""
        return {}
