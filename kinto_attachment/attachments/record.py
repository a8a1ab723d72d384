"""Writing a record through Kinto's own ``Record`` resource.

Schemas, permissions, ETags, events and history then behave as for any other write of the record.
The resource gets a small JSON request of its own, so it never looks at the upload.
"""

from __future__ import annotations

import functools
from typing import Any

from kinto.core.cornice.errors import Errors
from kinto.core.cornice.validators import colander_validator
from kinto.core.errors import json_error_handler, raise_invalid
from kinto.core.resource.viewset import ViewSet
from kinto.core.utils import build_request
from kinto.views import records
from pyramid.httpexceptions import HTTPBadRequest, HTTPNotFound

from kinto_attachment.attachments.authorization import AttachmentContext


def patch(request: Any, context: AttachmentContext, body: dict[str, Any]) -> dict[str, Any]:
    """Merge ``body`` (``{"data": ..., "permissions": ...}``) into the record.

    Returns the record. Raises what a PATCH of the record answers when it refuses.
    """
    record: dict[str, Any] = _resource(request, context, "PATCH", body).patch()["data"]
    return record


def put(request: Any, context: AttachmentContext, body: dict[str, Any]) -> dict[str, Any]:
    """Create the record, or replace it. Returns it. Raises what a PUT of it answers when it
    refuses."""
    record: dict[str, Any] = _resource(request, context, "PUT", body).put()["data"]
    return record


def accepts(request: Any, context: AttachmentContext, data: dict[str, Any]) -> bool:
    """Whether the schemas of the collection and the bucket accept ``data`` as the record."""
    try:
        # process_object() changes what it is given.
        _resource(request, context, "PUT", {"data": data}).process_object({**data})
    except HTTPBadRequest:
        return False
    return True


def check(request: Any, context: AttachmentContext, body: dict[str, Any]) -> None:
    """Raise what a PATCH or PUT of the record answers when it refuses ``body``, as far as that
    can be told without writing."""
    clone = _clone(request, context, "PATCH", body)
    data, record_id = body["data"], context.record_id
    if data.get("id", record_id) != record_id:
        description = "Object id does not match existing object"
        raise_invalid(clone, name="id", description=description)
    if not context.is_implicit:
        old = context.current_object
        resource = _record(clone, context)
        resource.process_object({**(old or {}), **data, "id": record_id}, old)


class Record(records.Record):
    """Kinto's own, which asks for the collection's timestamp when it is made.

    Nothing here needs it: what is written has a timestamp of its own. The question costs two
    statements, and its answer is written, which locks out others until the transaction ends.
    """

    timestamp = None

    def _get_object_or_404(self, object_id: str) -> dict[str, Any]:
        # It was looked for under the locks. One that came since is noticed when this is created.
        if self.context.is_locked and self.context.current_object is None:
            raise HTTPNotFound()
        found: dict[str, Any] = super()._get_object_or_404(object_id)
        return found


class _Context:
    """What ``Record`` asks its context for: not the object that authorization saw, but one that
    nobody has changed since."""

    resource_name = "record"
    shared_ids = None

    def __init__(self, context: AttachmentContext) -> None:
        self._record_uri = context.record_uri
        self.is_locked = context.is_locked
        self.current_object = context.current_object if context.is_locked else None

    def get_permission_object_id(self, request: Any, object_id: str | None = None) -> str:
        return self._record_uri


def _resource(request: Any, context: AttachmentContext, method: str, body: Any) -> Record:
    return _record(_clone(request, context, method, body), context)


def _record(clone: Any, context: AttachmentContext) -> Record:
    collections = clone.bound_data.setdefault("collections", {})
    collections[context.collection_uri] = context.collection
    return Record(clone, context=_Context(context))


def _clone(request: Any, context: AttachmentContext, method: str, body: Any) -> Any:
    """The small request, whose body is one that Kinto accepts."""
    headers = {"Response-Behavior": "full"}
    spec = {"method": method, "path": context.endpoint, "headers": headers, "body": body}
    clone = build_request(request, spec)
    for name in ("authn_type", "selected_userid"):
        # Anonymous requests have none.
        if hasattr(request, name):
            setattr(clone, name, getattr(request, name))
    ids = request.matchdict
    clone.matchdict = {name: ids[name] for name in ("bucket_id", "collection_id", "id")}
    clone.matched_route = request.matched_route
    clone.prefixed_principals = request.prefixed_principals
    clone.response = request.response
    clone.current_resource_name = "record"
    clone.validated = {}
    clone.info = {}
    # Errors left on the request itself would make cornice answer 400, and commit.
    clone.errors = Errors()
    parts = {"body": body, "header": dict(clone.headers), "querystring": {}}
    colander_validator(clone, schema=_schema(method), deserializer=lambda clone: parts)
    if clone.errors:
        raise json_error_handler(clone)
    return clone


@functools.cache
def _schema(method: str) -> Any:
    """The schema that Kinto validates such a request on a record with."""
    return ViewSet().get_view_arguments("object", Record, method)["schema"]
