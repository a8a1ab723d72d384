"""The ``attachment`` endpoint of a record."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from kinto.core.authorization import DYNAMIC
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED

from kinto_attachment.attachments.attach import (
    RecordAttachment,
    attach_file,
    detach_file,
    find_room,
)
from kinto_attachment.attachments.authorization import (
    attachment_context,
    check_parent_ids,
    check_record_id,
    valid_context,
)
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.readers import Readers
from kinto_attachment.attachments.reading import ReadableFiles
from kinto_attachment.attachments.upload import StagedUpload, UploadPolicy, least_size
from kinto_attachment.database.transactions import suspended
from kinto_attachment.errors import answered
from kinto_attachment.http import openapi
from kinto_attachment.http.body import content_length, take_stream
from kinto_attachment.http.in_flight import counted_upload
from kinto_attachment.http.json_object import json_object
from kinto_attachment.http.multipart import FILE, FilePart, boundary_of, read_form
from kinto_attachment.http.preconditions import Preconditions
from kinto_attachment.tus import openapi as tus_openapi
from kinto_attachment.tus import views as tus
from kinto_attachment.tus.headers import EXPOSED_HEADERS
from kinto_attachment.views import download

PATH = "/buckets/{bucket_id}/collections/{collection_id}/records/{id}/attachment"

_CORS_HEADERS = ("Location", "ETag", "Last-Modified", *EXPOSED_HEADERS)


def register(config: Any) -> None:
    """Add the service. Kinto's ``Service`` has CORS only once the settings are known."""
    from kinto.core import Service

    service = Service(
        name="attachment",
        path=PATH,
        description="Read the file of a record, attach one, or detach it",
        factory=_context,
    )
    arguments = {"permission": DYNAMIC, "cors_headers": _CORS_HEADERS, "tags": ["Attachments"]}
    reading = {**arguments, "cors_headers": download.EXPOSED_HEADERS}
    service.add_view("GET", get_attachment, operation_id="read_file", **reading)
    service.add_view("POST", post_attachment, operation_id="attach_file", **arguments)
    service.add_view("DELETE", delete_attachment, operation_id="detach_file", **arguments)
    service.add_view("OPTIONS", tus.options(service), permission=NO_PERMISSION_REQUIRED)
    config.add_cornice_service(service)
    openapi.describe(service)
    tus_openapi.describe_creation(service)
    tus.register(config, PATH)


@answered()
def _context(request: Any) -> Any:
    download.without_challenge(request)
    return attachment_context(request)


@answered()
def get_attachment(request: Any) -> Response:
    """Answer with the file of the record."""
    check_parent_ids(request)
    check_record_id(request)
    registry, files = request.registry, request.registry.attachment_files
    readable = ReadableFiles(registry.storage, registry.attachment_settings, Readers(request))
    holder = Holder.of(request.matchdict)
    return download.respond(request, files, lambda: readable.attached_to(holder))


@answered()
def post_attachment(request: Any) -> Any:
    """Attach the file of a ``multipart/form-data`` body, or create a resumable upload."""
    if tus.is_tus_request(request):
        return tus.create(request)
    with counted_upload(request):
        return _attach(request)


def _attach(request: Any) -> dict[str, Any]:
    context = valid_context(request)
    ids = request.matchdict
    settings, files = request.registry.attachment_settings, request.registry.attachment_files
    preconditions = Preconditions(request.headers)
    preconditions.check(context.current_object)
    boundary = boundary_of(request.headers.get("Content-Type"))
    length = content_length(request.environ)
    limits = settings.for_collection(ids["bucket_id"], ids["collection_id"])
    policy = UploadPolicy(limits, ids, files.max_size)
    policy.check_form_length(length)
    with suspended(request) as own_transaction:
        room = find_room(request, settings, files, own_transaction, least_size(length))

    with ExitStack() as stack:

        def open_file(part: FilePart) -> StagedUpload:
            return stack.enter_context(StagedUpload(files, policy.accept(part, length), room))

        stream = take_stream(request.environ)
        upload, fields = read_form(stream, length, boundary, open_file)
        body = {name: json_object(name, text) for name, text in fields.items()}
        body.get("data", {}).pop(FILE, None)
        name, metadata = upload.finish(
            lambda name: RecordAttachment(request, settings, files).is_used(name)
        )

    attachment = attach_file(request, settings, files, name, metadata, body, preconditions)
    request.response.headers["Location"] = request.route_url("record-object", **ids)
    return attachment


@answered()
def delete_attachment(request: Any) -> Response:
    """Detach the file of the record."""
    valid_context(request)
    settings, files = request.registry.attachment_settings, request.registry.attachment_files
    detach_file(request, settings, files, Preconditions(request.headers))
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
