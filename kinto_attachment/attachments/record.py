"""Write a record through Kinto's own ``Record`` resource.

Schemas, permissions, ETags, events and history then behave as for any other write of the record.
The resource gets a small JSON request of its own, and never looks at the upload.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from kinto.core.cornice.errors import Errors
from kinto.core.cornice.validators import colander_validator
from kinto.core.errors import json_error_handler
from kinto.core.resource.model import Model
from kinto.core.resource.viewset import ViewSet
from kinto.core.utils import build_request
from kinto.views import records
from pyramid.httpexceptions import HTTPBadRequest, HTTPNotFound

from kinto_attachment.attachments.authorization import AttachmentContext
from kinto_attachment.database.objects import Object
from kinto_attachment.errors import InvalidParameter
from kinto_attachment.http.multipart import FILE
from kinto_attachment.http.preconditions import HEADERS, Preconditions


def write(
    request: Any,
    context: AttachmentContext,
    method: str,
    body: dict[str, Any],
    preconditions: Preconditions | None = None,
) -> None:
    """PUT or PATCH the record with ``body`` (``{"data": ..., "permissions": ...}``).

    Raises what such a request with these ``preconditions`` is refused with.
    """
    resource = _resource(request, context, method, body, preconditions)
    resource.put() if method == "PUT" else resource.patch()


def accepts(request: Any, context: AttachmentContext, data: dict[str, Any]) -> bool:
    """Whether the schemas of the collection and the bucket accept ``data`` as the record."""
    try:
        processed(request, context, data)
    except HTTPBadRequest:
        return False
    return True


def without_file(request: Any, context: AttachmentContext, record: Object) -> Object:
    """Return ``record`` without its file: ``attachment`` is null, or left out if the schemas do
    not accept null.

    Raises ``InvalidParameter`` if they require an attachment.
    """
    without = {key: value for key, value in record.items() if key != FILE}
    for data in ({**without, FILE: None}, without):
        if accepts(request, context, data):
            return data
    description = "The schema requires an attachment: replace it instead."
    raise InvalidParameter("body", FILE, description)


def processed(request: Any, context: AttachmentContext, data: dict[str, Any]) -> dict[str, Any]:
    """Return what Kinto stores for ``data`` as the record.

    Raises ``HTTPBadRequest`` if the schemas of the collection and the bucket do not accept it.
    """
    resource = _resource(request, context, "PUT", {"data": data})
    # It changes what it is given.
    found: dict[str, Any] = resource.process_object({**data})
    return found


def validate(request: Any, context: AttachmentContext, body: dict[str, Any]) -> None:
    """Validate ``body`` as far as that is possible without writing.

    Raises what a PATCH or PUT of the record is refused with.
    """
    subrequest = _subrequest(request, context, "PATCH", body)
    data, record_id = body["data"], context.record_id
    if data.get("id", record_id) != record_id:
        raise InvalidParameter("body", "id", "Object id does not match existing object")
    if not context.is_implicit:
        old = context.current_object
        resource = _record(subrequest, context)
        resource.process_object({**(old or {}), **data, "id": record_id}, old)


class _Model(Model):
    """Kinto's access to storage and permissions, without asking for what is known or not used.

    The collection's timestamp costs two statements, and reading it is a write. Right after a
    record was written with a timestamp of the storage's, it is that of the record.
    """

    _written: int | None = None

    def timestamp(self, parent_id: str | None = None) -> int:
        if self._written is not None:
            return self._written
        found: int = super().timestamp(parent_id)
        return found

    def create_object(self, obj: Object, parent_id: str | None = None) -> Object:
        return self._remember(super().create_object, obj, parent_id)

    def update_object(self, obj: Object, parent_id: str | None = None) -> Object:
        return self._remember(super().update_object, obj, parent_id)

    def _remember(self, write: Callable[..., Object], obj: Object, parent_id: Any) -> Object:
        # A client may send a timestamp, also one of the past.
        is_assigned = self.modified_field not in obj
        written = write(obj, parent_id)
        self._written = written[self.modified_field] if is_assigned else None
        return written

    def _annotate(self, obj: Object, perm_object_id: str) -> Object:
        # The permissions would be those in the answer to a PUT.
        return {**obj, self.permissions_field: {}}


class Record(records.Record):
    """Kinto's resource, without asking for the collection's timestamp when it is made.

    The question costs two statements, and its answer is written, which locks out others until the
    transaction ends. The plugin never needs it: what is written has a timestamp of its own.
    """

    default_model = _Model
    timestamp = None

    def _get_object_or_404(self, object_id: str) -> dict[str, Any]:
        # The locks were taken before. A record made since is noticed when this one is created.
        if self.context.is_locked and self.context.current_object is None:
            raise HTTPNotFound()
        found: dict[str, Any] = super()._get_object_or_404(object_id)
        return found


class _Context:
    """What ``Record`` asks its context for. Has the locked record, not the one that
    authorization saw."""

    resource_name = "record"
    shared_ids = None

    def __init__(self, context: AttachmentContext) -> None:
        self._record_uri = context.record_uri
        self.is_locked = context.is_locked
        self.current_object = context.current_object if context.is_locked else None

    def get_permission_object_id(self, request: Any, object_id: str | None = None) -> str:
        return self._record_uri


def _resource(
    request: Any,
    context: AttachmentContext,
    method: str,
    body: Any,
    preconditions: Preconditions | None = None,
) -> Record:
    return _record(_subrequest(request, context, method, body, preconditions), context)


def _record(subrequest: Any, context: AttachmentContext) -> Record:
    collections = subrequest.bound_data.setdefault("collections", {})
    collections[context.collection_uri] = context.collection
    return Record(subrequest, context=_Context(context))


def _subrequest(
    request: Any,
    context: AttachmentContext,
    method: str,
    body: Any,
    preconditions: Preconditions | None = None,
) -> Any:
    """A small JSON request on the record. Raises Kinto's 400 unless its ``body`` is valid."""
    headers = {"Response-Behavior": "full"}
    spec = {"method": method, "path": context.endpoint, "headers": headers, "body": body}
    subrequest = build_request(request, spec)
    # Those of the original may be about the record as it was several requests ago.
    for name in HEADERS:
        subrequest.headers.pop(name, None)
    if preconditions is not None:
        subrequest.headers.update(preconditions.headers)
        headers |= preconditions.headers
    for name in ("authn_type", "selected_userid"):
        # Anonymous requests have none.
        if hasattr(request, name):
            setattr(subrequest, name, getattr(request, name))
    ids = request.matchdict
    subrequest.matchdict = {name: ids[name] for name in ("bucket_id", "collection_id", "id")}
    subrequest.matched_route = request.matched_route
    subrequest.prefixed_principals = request.prefixed_principals
    subrequest.response = request.response
    subrequest.current_resource_name = "record"
    subrequest.validated = {}
    subrequest.info = {}
    # Errors on the request itself would make cornice answer 400, and commit.
    subrequest.errors = Errors()
    parts = {"body": body, "header": headers, "querystring": {}}
    colander_validator(subrequest, schema=_schema(method), deserializer=lambda subrequest: parts)
    if subrequest.errors:
        raise json_error_handler(subrequest)
    return subrequest


@functools.cache
def _schema(method: str) -> Any:
    """The schema that Kinto validates such a request on a record with."""
    return ViewSet().get_view_arguments("object", Record, method)["schema"]
