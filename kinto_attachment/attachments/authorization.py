"""Which Kinto permission a request on an attachment needs, and on which record.

The permissions are those of the record: POST asks for what a PUT of the record would, DELETE for
what a DELETE of it would. Kinto's own policy then decides, from what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from kinto.authorization import RouteFactory
from kinto.core.authorization import DYNAMIC
from kinto.core.errors import ERRORS, http_error, raise_invalid
from kinto.core.utils import instance_uri
from kinto.views import raise_404_if_invalid_id
from pyramid.httpexceptions import HTTPForbidden, HTTPNotFound

from kinto_attachment.attachments.holder import Holder
from kinto_attachment.database.objects import (
    Object,
    get,
    get_both,
    is_transactional,
    key,
    lock_with_parent,
)
from kinto_attachment.tus.store import Unfinished, UnfinishedUploads


class AttachmentContext(RouteFactory):
    """The record that a request on an attachment is about, as it is when this is made.

    Reads only: unlike ``Record(request)``, it writes no timestamp. Raises Kinto's 404 where there
    is no such bucket or collection.
    """

    resource_name = "record"

    methods: tuple[str, ...] = ("POST", "DELETE")
    """Those that look at objects: a preflight and a 405 do not."""

    collection: Object | None = None
    """The collection; ``None`` where the default bucket will create it."""

    def __init__(self, request: Any, *, locked: bool = False) -> None:
        """With ``locked``, until the transaction ends the record does not change, nor does the
        collection go."""
        super().__init__(request)
        self.is_locked = locked and is_transactional(request.registry.storage)
        """Whether the record stays as it is."""
        self.create_parents: Callable[[], None] | None = getattr(request, "create_parents", None)
        """Creates bucket and collection where they do not exist: set for the default bucket."""
        self.endpoint: str = request.path
        """The path of the record's attachment."""
        if request.method not in self.methods:
            return
        ids = request.matchdict
        self.bucket_uri = instance_uri(request, "bucket", id=ids["bucket_id"])
        self.collection_uri = instance_uri(
            request, "collection", bucket_id=ids["bucket_id"], id=ids["collection_id"]
        )
        self.record_id: str = ids["id"]
        # As in the request's path: PostgreSQL refuses a NUL, even in a question.
        self.record_uri = f"{self.collection_uri}/records/{quote(self.record_id)}"
        raise_404_if_invalid_id(request, "bucket", _whole(ids["bucket_id"]))
        raise_404_if_invalid_id(request, "collection", _whole(ids["collection_id"]))
        self.collection, self.current_object = self._find(request, locked)
        if self.collection is None and self.create_parents is None:
            details = {"id": ids["collection_id"], "resource_name": "collection"}
            raise http_error(HTTPNotFound(), errno=ERRORS.MISSING_RESOURCE, details=details)
        self.permission_object_id, self.required_permission = self._needed(request)

    @property
    def is_implicit(self) -> bool:
        """Whether bucket or collection do not exist yet, and the default bucket makes them."""
        return self.collection is None

    def check_permission(self, principals: Any, bound_perms: Any) -> bool:
        """Whether the user may; whoever is to own bucket or collection may write there."""
        return self.is_implicit or bool(super().check_permission(principals, bound_perms))

    def has_valid_id(self, request: Any) -> bool:
        """Whether a record may have that id."""
        generators = request.registry.id_generators
        generator = generators.get("record", generators[""])
        return bool(generator.match(_whole(self.record_id)))

    def _find(self, request: Any, locked: bool) -> tuple[Object | None, Object | None]:
        storage = request.registry.storage
        collection = key("collection", self.bucket_uri, request.matchdict["collection_id"])
        if not self.has_valid_id(request):
            return get(storage, collection), None
        read = lock_with_parent if locked else get_both
        return read(storage, collection, key("record", self.collection_uri, self.record_id))

    def _needed(self, request: Any) -> tuple[str, str]:
        if request.method == "POST":
            return self._needed_to_attach(request.headers.get("If-None-Match"))
        return self.record_uri, "write"

    def _needed_to_attach(self, if_none_match: str | None) -> tuple[str, str]:
        # With this header Kinto wants the permission to create, even on what exists.
        if self.current_object is None or if_none_match == "*":
            return f"{self.collection_uri}/records", "create"
        return self.record_uri, "write"


class UploadContext(AttachmentContext):
    """The record that an upload over several requests is for. Whatever is done with the upload
    needs the permission to attach its file."""

    methods = ("HEAD", "PATCH", "DELETE", "POST")

    upload: Unfinished | None = None
    """The upload, if there is such a one."""

    def __init__(self, request: Any, *, locked: bool = False) -> None:
        super().__init__(request, locked=locked)
        self.endpoint = self.endpoint.rsplit("/uploads/", 1)[0]

    def _needed(self, request: Any) -> tuple[str, str]:
        if self.has_valid_id(request):
            rows = UnfinishedUploads(request.registry.storage)
            holder = Holder.of(request.matchdict)
            self.upload = rows.get(holder.uri, request.matchdict["upload_id"])
        kept = self.upload.preconditions if self.upload else {}
        return self._needed_to_attach(kept.get("If-None-Match"))


def _whole(object_id: str) -> str:
    """The id for Kinto's patterns, which let a line break at the end pass: no folder may have
    one in its name."""
    return object_id.replace("\n", "\0")


def valid_context(request: Any) -> AttachmentContext:
    """What the request is about. Raises Kinto's 400 for an id that no record can have."""
    context: AttachmentContext = request.context
    if not context.has_valid_id(request):
        raise_invalid(request, location="path", description="Invalid object id")
    return context


def ask_again(request: Any) -> AttachmentContext:
    """Lock the record, look at it once more, and ask again whether the user may do what is asked.

    Principals and parents that Kinto remembers for the time of a request are read anew.
    Raises ``HTTPForbidden``, of which Kinto makes a 401 or a 403, and Kinto's 404.
    """
    for kind in ("buckets", "collections"):
        request.bound_data.pop(kind, None)
    context: AttachmentContext = type(request.context)(request, locked=True)
    principals = _principals_now(request)
    context.get_prefixed_principals = lambda: principals
    if not request.has_permission(DYNAMIC, context):
        raise HTTPForbidden()
    return context


def _principals_now(request: Any) -> list[str]:
    """The user's principals, with the groups that the user is in by now."""
    known: list[str] = request.prefixed_principals
    user_id = request.prefixed_userid
    if user_id is None:
        return known
    # Where Kinto's groupfinder remembers them.
    remembered = set(request.bound_data.get(f"{user_id}_principals", ()))
    groups = set(request.registry.permission.get_user_principals(user_id))
    return [name for name in known if name not in remembered - groups] + sorted(groups)
