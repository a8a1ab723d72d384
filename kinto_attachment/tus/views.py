"""tus 1.0.0 over HTTP: uploads that go on where they were interrupted.

https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from kinto.core.authorization import DYNAMIC
from kinto.core.cornice.cors import get_cors_preflight_view
from kinto.core.errors import ERRORS
from pyramid.events import NewResponse
from pyramid.httpexceptions import (
    HTTPBadRequest,
    HTTPMethodNotAllowed,
    HTTPPreconditionFailed,
    HTTPUnsupportedMediaType,
)
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.settings import asbool

from kinto_attachment.attachments.authorization import UploadContext, valid_context
from kinto_attachment.database.transactions import is_in_batch
from kinto_attachment.errors import refused
from kinto_attachment.http.body import content_length, taken
from kinto_attachment.http.json_object import json_object
from kinto_attachment.http.multipart import FIELDS, FILE, FilePart, clean_filename
from kinto_attachment.http.preconditions import Preconditions
from kinto_attachment.settings import Settings
from kinto_attachment.tus import headers as tus_headers
from kinto_attachment.tus import openapi as tus_openapi
from kinto_attachment.tus.headers import CONTENT_TYPE, InvalidHeader
from kinto_attachment.tus.lease import UploadUnknown
from kinto_attachment.tus.receive import Body
from kinto_attachment.tus.refusals import tus_refusals
from kinto_attachment.tus.store import Unfinished
from kinto_attachment.tus.uploads import ResumableUploads, UploadGone

CORS_HEADERS = (
    "Content-Location",
    "Tus-Resumable",
    "Tus-Version",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Checksum-Algorithm",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Defer-Length",
    "Upload-Metadata",
    "Upload-Expires",
)

_RESUMABLE = "Tus-Resumable"
_ATTACHMENT = re.compile(r"/buckets/[^/]+/collections/[^/]+/records/[^/]+/attachment")


def register(config: Any, path: str) -> None:
    """Add the service of the uploads that have begun, below ``path``."""
    from kinto.core import Service

    service = Service(
        name="attachment-upload",
        path=path + "/uploads/{upload_id}",
        description="Go on with an upload",
        factory=UploadContext,
    )
    exposed = ("Location", "ETag", "Last-Modified", *CORS_HEADERS)
    arguments = {"permission": DYNAMIC, "cors_headers": exposed, "tags": ["Attachments"]}
    for method in ("HEAD", "PATCH", "DELETE", "POST"):
        operation = f"{method.lower()}_attachment_upload"
        service.add_view(method, on_upload, operation_id=operation, **arguments)
    service.add_view("OPTIONS", options(service), permission=NO_PERMISSION_REQUIRED)
    config.add_cornice_service(service)
    tus_openapi.describe_uploads(config, service)
    config.add_subscriber(_complete, NewResponse)


def capability(settings: Settings) -> dict[str, Any]:
    """What the root URL says of resumable uploads. ``max_size`` is ``None`` without a limit."""
    return {
        "protocol": "tus",
        "version": tus_headers.VERSION,
        "extensions": list(tus_headers.EXTENSIONS),
        "max_size": settings.defaults.max_size_bytes or None,
    }


def is_spoken(request: Any) -> bool:
    """Whether the client speaks tus."""
    return _RESUMABLE in request.headers


def options(service: Any) -> Callable[[Any], Any]:
    """The view that answers the CORS preflight, and a client that asks what the server can."""
    preflight = get_cors_preflight_view(service)

    def answer(request: Any) -> Any:
        headers = request.response.headers
        headers["Tus-Version"] = tus_headers.VERSION
        headers["Tus-Extension"] = ",".join(tus_headers.EXTENSIONS)
        headers["Tus-Checksum-Algorithm"] = ",".join(tus_headers.CHECKSUMS)
        ids = request.matchdict
        settings = request.registry.attachment_settings
        limits = settings.for_collection(ids["bucket_id"], ids["collection_id"])
        if limits.max_size_bytes:
            headers["Tus-Max-Size"] = str(limits.max_size_bytes)
        if "Origin" in request.headers and "Access-Control-Request-Method" in request.headers:
            return preflight(request)
        return _answer(request, 204)

    return answer


def create(request: Any) -> Response:
    """Begin an upload, maybe with its first bytes, maybe with all of them."""
    _check(request)
    if _method(request) != "POST":
        raise HTTPMethodNotAllowed()
    context = valid_context(request)
    Preconditions(request).check(context.current_object)
    headers = request.headers
    kept = {name: headers[name] for name in ("If-Match", "If-None-Match") if name in headers}
    with tus_refusals():
        if "Upload-Concat" in headers:
            # It would be attached as a file of its own.
            raise InvalidHeader("Upload-Concat is not supported: send one upload")
        length = tus_headers.length(headers)
        sent = headers.get("Upload-Metadata", "")
        pairs = tus_headers.metadata(sent)
        body = {name: json_object(name, pairs[name]) for name in FIELDS if name in pairs}
        body.get("data", {}).pop(FILE, None)
        filename = request.matchdict["id"]
        if "filename" in pairs:
            filename = tus_headers.text("filename", pairs["filename"])
        filetype = tus_headers.text("filetype", pairs.get("filetype", b""))
        upload = _uploads(request).create(
            FilePart(clean_filename(filename), filetype),
            length,
            _content(request) if _has_content(request) else None,
            metadata=sent,
            body=body,
            sha256=tus_headers.sha256(pairs["sha256"]) if "sha256" in pairs else None,
            preconditions=kept,
        )
    path = request.route_path("attachment-upload", **request.matchdict, upload_id=upload.id)
    location = {"Location": f"{request.host_url}{path}"}
    return _answer(request, 201, {**location, **_progress(request, upload)})


def on_upload(request: Any) -> Response:
    """Tell how far an upload is, go on with it, or end it."""
    _check(request)
    valid_context(request)
    view = _VIEWS.get(_method(request))
    # Kinto looks at the method that was sent, not at the one that is meant.
    readonly = asbool(request.registry.settings["readonly"])
    if view is None or (readonly and view is not _head):
        raise HTTPMethodNotAllowed()
    with tus_refusals():
        upload: Unfinished | None = request.context.upload
        if upload is None or not upload.is_of(request.prefixed_userid):
            raise UploadUnknown()
        return view(request, upload)


def _head(request: Any, upload: Unfinished) -> Response:
    if upload.is_expired:
        raise UploadGone()
    headers = _progress(request, upload)
    if upload.length is None:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(upload.length)
    if upload.metadata:
        headers["Upload-Metadata"] = upload.metadata
    return _answer(request, 200, headers)


def _patch(request: Any, upload: Unfinished) -> Response:
    if not _has_content(request):
        message = f"Content-Type should be {CONTENT_TYPE}"
        raise refused(HTTPUnsupportedMediaType, ERRORS.INVALID_PARAMETERS, message)
    offset = tus_headers.number(request.headers, "Upload-Offset")
    if offset is None:
        raise InvalidHeader("Upload-Offset is required")
    length = tus_headers.number(request.headers, "Upload-Length")
    upload = _uploads(request).append(upload.id, offset, _content(request), length)
    headers = _progress(request, upload)
    if upload.done:
        headers["Location"] = headers["Content-Location"]
    return _answer(request, 204, headers)


def _delete(request: Any, upload: Unfinished) -> Response:
    _uploads(request).cancel(upload.id)
    return _answer(request, 204)


_VIEWS = {"HEAD": _head, "PATCH": _patch, "DELETE": _delete}


def _check(request: Any) -> None:
    """Refuse another version of tus, and a batch: its requests share a transaction."""
    if request.headers.get(_RESUMABLE) != tus_headers.VERSION:
        message = f"Tus-Resumable should be {tus_headers.VERSION}"
        error = refused(HTTPPreconditionFailed, ERRORS.VERSION_NOT_AVAILABLE, message)
        error.headers["Tus-Version"] = tus_headers.VERSION
        raise error
    if is_in_batch(request):
        message = "Resumable uploads cannot be part of a batch."
        raise refused(HTTPBadRequest, ERRORS.INVALID_PARAMETERS, message)


def _method(request: Any) -> str:
    # Some proxies let only GET and POST pass.
    return str(request.headers.get("X-HTTP-Method-Override") or request.method)


def _uploads(request: Any) -> ResumableUploads:
    return ResumableUploads(request, request.registry.attachment_settings, request.attachment)


def _has_content(request: Any) -> bool:
    """Whether the body is a part of the file. Raises 415 if it is something else."""
    content_type = request.headers.get("Content-Type", "").partition(";")[0]
    if content_type.strip().lower() == CONTENT_TYPE:
        return True
    if request.method == "POST" and content_length(request.environ) not in (0, None):
        message = f"Content-Type should be {CONTENT_TYPE}"
        raise refused(HTTPUnsupportedMediaType, ERRORS.INVALID_PARAMETERS, message)
    return False


def _content(request: Any) -> Body:
    checksum = tus_headers.checksum(request.headers)
    length = content_length(request.environ)
    return Body(taken(request.environ), length, checksum)


def _progress(request: Any, upload: Unfinished) -> dict[str, str]:
    headers = {
        "Upload-Offset": str(upload.offset),
        "Upload-Expires": formatdate(upload.expires / 1000, usegmt=True),
    }
    if upload.done:
        headers["Content-Location"] = request.route_url("record-object", **request.matchdict)
    return headers


def _answer(request: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    """An answer without a body, with the headers that Kinto has set."""
    response = request.response
    response.status_code = status
    response.headers.pop("Content-Type", None)
    if status == 204:
        response.headers.pop("Content-Length", None)
    response.headers.update(headers or {})
    return response


def _complete(event: Any) -> None:
    """Every answer to a client that speaks tus names the version, and none about an upload is
    kept by a cache: errors included."""
    request, headers = event.request, event.response.headers
    match = _ATTACHMENT.search(request.environ["PATH_INFO"])
    if match is None:
        return
    rest = request.environ["PATH_INFO"][match.end() :]
    if rest.startswith("/uploads/"):
        headers["Cache-Control"] = "no-store"
    elif rest or not (is_spoken(request) or request.method == "OPTIONS"):
        return
    headers[_RESUMABLE] = tus_headers.VERSION
