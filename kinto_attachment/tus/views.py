"""tus 1.0.0 over HTTP: the requests that create, resume and terminate an upload.

https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from kinto.core.authorization import DYNAMIC
from kinto.core.cornice.cors import get_cors_preflight_view
from pyramid.events import NewResponse
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.settings import asbool

from kinto_attachment.attachments.authorization import valid_context
from kinto_attachment.database.transactions import is_in_batch
from kinto_attachment.errors import (
    ExpiredUpload,
    InBatch,
    InvalidHeader,
    MethodNotAllowed,
    UnknownUpload,
    UnsupportedEncoding,
    UnsupportedMediaType,
    UnsupportedVersion,
    answered,
)
from kinto_attachment.http.body import content_length, take_stream
from kinto_attachment.http.filename import clean_filename, decode_component
from kinto_attachment.http.in_flight import counted_upload
from kinto_attachment.http.json_object import json_object
from kinto_attachment.http.multipart import FIELDS, FILE, FilePart
from kinto_attachment.http.preconditions import Preconditions
from kinto_attachment.settings import Settings
from kinto_attachment.tus import headers as tus
from kinto_attachment.tus import openapi
from kinto_attachment.tus.authorization import UploadContext
from kinto_attachment.tus.receive import Body
from kinto_attachment.tus.received import ReceivedUploads
from kinto_attachment.tus.store import ResumableUpload
from kinto_attachment.tus.uploads import Creation, ResumableUploads

_ATTACHMENT = re.compile(r"/buckets/[^/]+/collections/[^/]+/records/[^/]+/attachment")


def register(config: Any, path: str) -> None:
    """Add the service of the uploads, below ``path``, the attachment's."""
    from kinto.core import Service

    service = Service(
        name="attachment-upload",
        path=path + "/uploads/{upload_id}",
        description="Go on with an upload",
        factory=answered()(UploadContext),
    )
    exposed = ("Location", "ETag", "Last-Modified", *tus.EXPOSED_HEADERS)
    arguments = {"permission": DYNAMIC, "cors_headers": exposed, "tags": ["Attachments"]}
    for method in ("HEAD", "PATCH", "DELETE", "POST"):
        operation = f"{method.lower()}_attachment_upload"
        service.add_view(method, on_upload, operation_id=operation, **arguments)
    service.add_view("OPTIONS", options(service), permission=NO_PERMISSION_REQUIRED)
    config.add_cornice_service(service)
    config.registry.attachment_received = ReceivedUploads()
    openapi.describe_uploads(config, service)
    config.add_subscriber(_add_headers, NewResponse)


def capability(settings: Settings) -> dict[str, Any]:
    """Return the capability's ``resumable``; ``max_size`` is in bytes, ``None`` without limit."""
    return {
        "protocol": "tus",
        "version": tus.VERSION,
        "extensions": list(tus.EXTENSIONS),
        "max_size": settings.defaults.max_size_bytes or None,
    }


def is_tus_request(request: Any) -> bool:
    """Whether the client speaks tus."""
    return tus.TUS_RESUMABLE in request.headers


def options(service: Any) -> Callable[[Any], Any]:
    """Return the view that answers OPTIONS: the CORS preflight, and what the server supports."""
    preflight = get_cors_preflight_view(service)

    def answer(request: Any) -> Any:
        headers = request.response.headers
        headers[tus.TUS_VERSION] = tus.VERSION
        headers[tus.TUS_EXTENSION] = ",".join(tus.EXTENSIONS)
        headers[tus.TUS_CHECKSUM_ALGORITHM] = ",".join(tus.CHECKSUMS)
        ids = request.matchdict
        settings = request.registry.attachment_settings
        limits = settings.for_collection(ids["bucket_id"], ids["collection_id"])
        sizes = [
            size
            for size in (limits.max_size_bytes, request.registry.attachment_files.max_size)
            if size
        ]
        if sizes:
            headers[tus.TUS_MAX_SIZE] = str(min(sizes))
        if "Origin" in request.headers and "Access-Control-Request-Method" in request.headers:
            return preflight(request)
        return _answer(request, 204)

    return answer


def create(request: Any) -> Response:
    """Create an upload, with none of its bytes, the first ones, or all of them."""
    _check_request(request)
    if _method(request) != "POST":
        raise MethodNotAllowed()
    context = valid_context(request)
    headers = request.headers
    preconditions = Preconditions(headers)
    preconditions.check(context.current_object)
    if tus.UPLOAD_CONCAT in headers:
        # It would be attached as a file of its own.
        raise InvalidHeader("Upload-Concat is not supported: send one upload")
    length = tus.length(headers)
    metadata = headers.get(tus.UPLOAD_METADATA, "")
    pairs = tus.metadata(metadata)
    body = {name: json_object(name, pairs[name]) for name in FIELDS if name in pairs}
    body.get("data", {}).pop(FILE, None)
    filename = request.matchdict["id"]
    if "filename" in pairs:
        filename = decode_component(tus.text("filename", pairs["filename"]))
    filetype = tus.text("filetype", pairs.get("filetype", b""))
    creation = Creation(
        part=FilePart(clean_filename(filename), filetype),
        length=length,
        metadata=metadata,
        body=body,
        sha256=tus.sha256(pairs["sha256"]) if "sha256" in pairs else None,
        preconditions=preconditions,
    )
    content = _content(request) if _has_content(request) else None
    with counted_upload(request) as counted:
        upload = _uploads(request).create(creation, content)
        counted.is_attached = upload.done
    path = request.route_path("attachment-upload", **request.matchdict, upload_id=upload.id)
    location = {"Location": f"{request.host_url}{path}"}
    return _answer(request, 201, {**location, **_progress(request, upload)})


@answered()
def on_upload(request: Any) -> Response:
    """Answer the offset of an upload, append to it, or terminate it."""
    _check_request(request)
    valid_context(request)
    view = _VIEWS.get(_method(request))
    # Kinto looks at the method that was sent, not at the one that is meant.
    readonly = asbool(request.registry.settings["readonly"])
    if view is None or (readonly and view is not _head):
        raise MethodNotAllowed()
    upload: ResumableUpload | None = request.context.upload
    if upload is None or upload.user_id != request.prefixed_userid:
        raise UnknownUpload()
    return view(request, upload)


def _head(request: Any, upload: ResumableUpload) -> Response:
    if upload.is_expired:
        raise ExpiredUpload()
    headers = _progress(request, upload)
    if upload.length is None:
        headers[tus.UPLOAD_DEFER_LENGTH] = "1"
    else:
        headers[tus.UPLOAD_LENGTH] = str(upload.length)
    if upload.metadata:
        headers[tus.UPLOAD_METADATA] = upload.metadata
    return _answer(request, 200, headers)


def _patch(request: Any, upload: ResumableUpload) -> Response:
    if not _has_content(request):
        raise UnsupportedMediaType(expected=tus.CONTENT_TYPE)
    offset = tus.number(request.headers, tus.UPLOAD_OFFSET)
    if offset is None:
        raise InvalidHeader("Upload-Offset is required")
    length = tus.number(request.headers, tus.UPLOAD_LENGTH)
    content = _content(request)
    with counted_upload(request) as counted:
        upload = _uploads(request).append(upload.id, offset, content, length)
        counted.is_attached = upload.done
    headers = _progress(request, upload)
    if upload.done:
        headers["Location"] = headers["Content-Location"]
    return _answer(request, 204, headers)


def _delete(request: Any, upload: ResumableUpload) -> Response:
    _uploads(request).terminate(upload.id)
    return _answer(request, 204)


_VIEWS = {"HEAD": _head, "PATCH": _patch, "DELETE": _delete}


def _check_request(request: Any) -> None:
    """Raise ``UnsupportedVersion``, and ``InBatch``: requests of a batch share a transaction."""
    if request.headers.get(tus.TUS_RESUMABLE) != tus.VERSION:
        raise UnsupportedVersion(version=tus.VERSION)
    if is_in_batch(request):
        raise InBatch()


def _method(request: Any) -> str:
    # Some proxies let only GET and POST pass.
    return str(request.headers.get("X-HTTP-Method-Override") or request.method)


def _uploads(request: Any) -> ResumableUploads:
    registry = request.registry
    return ResumableUploads(
        request,
        registry.attachment_settings,
        registry.attachment_files,
        registry.attachment_received,
    )


def _has_content(request: Any) -> bool:
    """Whether the body is a part of the file. Raises ``UnsupportedMediaType`` if it is anything
    else."""
    content_type = request.headers.get("Content-Type", "").partition(";")[0]
    if content_type.strip().lower() == tus.CONTENT_TYPE:
        return True
    if request.method == "POST" and content_length(request.environ) not in (0, None):
        raise UnsupportedMediaType(expected=tus.CONTENT_TYPE)
    return False


def _content(request: Any) -> Body:
    if request.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        raise UnsupportedEncoding()
    checksum = tus.checksum(request.headers)
    length = content_length(request.environ)
    return Body(take_stream(request.environ), length, checksum)


def _progress(request: Any, upload: ResumableUpload) -> dict[str, str]:
    headers = {
        tus.UPLOAD_OFFSET: str(upload.offset),
        tus.UPLOAD_EXPIRES: formatdate(upload.expires / 1000, usegmt=True),
    }
    if upload.done:
        headers["Content-Location"] = request.route_url("record-object", **request.matchdict)
    return headers


def _answer(request: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    """Make an answer without a body, with the headers that Kinto has set."""
    response = request.response
    response.status_code = status
    response.headers.pop("Content-Type", None)
    if status == 204:
        response.headers.pop("Content-Length", None)
    response.headers.update(headers or {})
    return response


def _add_headers(event: Any) -> None:
    """Name the version in every answer to a client that speaks tus, and keep answers about an
    upload out of caches: errors included."""
    request, headers = event.request, event.response.headers
    match = _ATTACHMENT.search(request.environ["PATH_INFO"])
    if match is None:
        return
    rest = request.environ["PATH_INFO"][match.end() :]
    if rest.startswith("/uploads/"):
        headers["Cache-Control"] = "no-store"
    elif rest or not (is_tus_request(request) or request.method == "OPTIONS"):
        return
    headers[tus.TUS_RESUMABLE] = tus.VERSION
