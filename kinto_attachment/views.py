"""The ``attachment`` endpoint of a record."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import Any

from kinto.core.authorization import DYNAMIC
from kinto.core.errors import ERRORS, http_error, raise_invalid
from pyramid.httpexceptions import (
    HTTPBadRequest,
    HTTPException,
    HTTPRequestEntityTooLarge,
    HTTPServiceUnavailable,
)
from pyramid.response import Response

from kinto_attachment import openapi
from kinto_attachment.attachments import Attachments
from kinto_attachment.authorization import AttachmentContext
from kinto_attachment.fields import InvalidField, json_object
from kinto_attachment.forms import (
    FILE,
    FieldTooLarge,
    MalformedForm,
    UnexpectedPart,
    boundary_of,
    read_form,
)
from kinto_attachment.preconditions import Preconditions
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.transaction import release
from kinto_attachment.uploads import Destination, ExtensionNotAllowed, FolderTooLong, TooLarge

logger = logging.getLogger(__name__)

PATH = "/buckets/{bucket_id}/collections/{collection_id}/records/{id}/attachment"

_CORS_HEADERS = ("Location", "ETag", "Last-Modified")


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
    config.add_cornice_service(service)
    openapi.describe(service)


def post_attachment(request: Any) -> dict[str, Any]:
    """Attach the file of a ``multipart/form-data`` body to the record."""
    context = _context(request)
    settings = request.registry.attachment_settings
    limits = settings.for_collection(
        request.matchdict["bucket_id"], request.matchdict["collection_id"]
    )
    Preconditions(request).check(context.current_object)
    with _refusals(), ExitStack() as stack:
        boundary = boundary_of(request.headers.get("Content-Type"))
        length = _content_length(request.environ)
        destination = Destination(request.attachment, limits, request.matchdict, length)
        if _may_release(request):
            release(request)
        upload, fields = read_form(
            _taken_body(request.environ),
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
    _context(request)
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


def _context(request: Any) -> AttachmentContext:
    """What the request is about. Raises Kinto's 400 for an id that no record can have."""
    context: AttachmentContext = request.context
    if not context.has_valid_id(request):
        raise_invalid(request, location="path", description="Invalid object id")
    return context


def _content_length(environ: Mapping[str, Any]) -> int | None:
    """The size of the body in bytes; ``None`` if only its end will tell.

    Raises ``MalformedForm``.
    """
    declared = environ.get("CONTENT_LENGTH")
    if declared:
        # int() takes other digits, too, and no more than a few thousand of them.
        if not re.fullmatch(r"[0-9]{1,18}", declared):
            raise MalformedForm("Content-Length should be a number of bytes")
        return int(declared)
    return None if environ.get("wsgi.input_terminated") else 0


def _taken_body(environ: dict[str, Any]) -> Any:
    """The body's stream, which the request then no longer keeps open."""
    stream = environ["wsgi.input"]
    environ["wsgi.input"] = BytesIO()
    environ["CONTENT_LENGTH"] = "0"
    return stream


def _may_release(request: Any) -> bool:
    """Whether nothing else can have happened in the request's transaction yet."""
    outer = request.parent if request.context.create_parents is not None else request
    return getattr(outer, "parent", None) is None and bool(outer.environ.get("tm.active"))


@contextmanager
def _refusals() -> Iterator[None]:
    """Answer what is wrong with an upload, in Kinto's words."""
    try:
        yield
    except MalformedForm as error:
        raise _refused(HTTPBadRequest, ERRORS.INVALID_PARAMETERS, error) from error
    except (InvalidField, UnexpectedPart) as error:
        raise _refused(HTTPBadRequest, ERRORS.INVALID_POSTED_DATA, error) from None
    except ExtensionNotAllowed:
        message = "body: File extension is not allowed."
        raise _refused(HTTPBadRequest, ERRORS.INVALID_POSTED_DATA, message) from None
    except FolderTooLong:
        message = "The ids of bucket and collection are too long for a folder of 255 bytes."
        raise _refused(HTTPBadRequest, ERRORS.INVALID_PARAMETERS, message) from None
    except (FieldTooLarge, TooLarge) as error:
        raise _refused(HTTPRequestEntityTooLarge, ERRORS.REQUEST_TOO_LARGE, error) from None
    except StorageUnavailable as error:
        logger.exception("A file could not be stored.")
        message = "The file storage is not available, please retry later."
        raise _refused(HTTPServiceUnavailable, ERRORS.BACKEND, message) from error


def _refused(
    answer: Callable[[], HTTPException], errno: ERRORS, message: str | Exception
) -> HTTPException:
    return http_error(answer(), errno=errno, message=str(message))
