"""Which Kinto permission a request on an attachment needs, and on which object.

The permissions are those of the record: GET needs what a GET of the record does, POST what a PUT,
DELETE what a DELETE. Kinto's own policy then decides, from what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any
from urllib.parse import quote

from kinto.authorization import RouteFactory
from kinto.core.authorization import DYNAMIC
from kinto.core.utils import instance_uri
from kinto.views import raise_404_if_invalid_id

from kinto_attachment.database.objects import (
    Object,
    get,
    get_both,
    is_transactional,
    key,
    lock_with_parent,
)
from kinto_attachment.errors import Forbidden, InvalidParameter, UnknownCollection


def attachment_context(request: Any) -> RouteFactory:
    """Make the context of a request on an attachment. Raises what ``AttachmentContext`` does."""
    is_read = request.method in ("GET", "HEAD")
    return ReadContext(request) if is_read else AttachmentContext(request)


class ReadContext(RouteFactory):
    """The record whose attachment is read.

    Looks at no object: who may not read the record is not told what there is.
    """

    resource_name = "record"
    required_permission = "read"

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.permission_object_id = instance_uri(request, "record", **request.matchdict)


class AttachmentContext(RouteFactory):
    """The record that a request on an attachment names, as it is when this is made.

    Reads only: unlike ``Record(request)``, it writes no timestamp. Raises ``UnknownCollection``,
    and Kinto's 404 for an id that no bucket or collection can have.
    """

    resource_name = "record"

    methods: tuple[str, ...] = ("POST", "DELETE")
    """The methods that look at objects: a preflight and a 405 do not."""

    collection: Object | None = None
    """The collection; ``None`` where the default bucket will create it."""

    is_locked = False
    """Whether the record stays as it is."""

    def __init__(self, request: Any, *, locked: bool = False) -> None:
        """With ``locked``, the record cannot change, nor the collection go, until the transaction
        ends."""
        super().__init__(request)
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
        # Quoted as in the request's path: PostgreSQL refuses a NUL, even in a question.
        self.record_uri = f"{self.collection_uri}/records/{quote(self.record_id)}"
        check_parent_ids(request)
        self._look(request, locked)

    def locked(self, request: Any) -> AttachmentContext:
        """Return the context of the same request, with the record as it is now: it cannot change,
        nor the collection go, until the transaction ends. Raises ``UnknownCollection``."""
        context = copy(self)
        context._look(request, locked=True)
        return context

    def _look(self, request: Any, locked: bool) -> None:
        self.collection, self.current_object = self._find(request, locked)
        self.is_locked = locked and is_transactional(request.registry.storage)
        if self.collection is None and self.create_parents is None:
            raise UnknownCollection(request.matchdict["collection_id"])
        self.permission_object_id, self.required_permission = self._required(request)

    @property
    def is_implicit(self) -> bool:
        """Whether the default bucket will create the bucket or the collection."""
        return self.collection is None

    def check_permission(self, principals: Any, bound_perms: Any) -> bool:
        """Whether the user may; the owner of an implicit bucket or collection may write there."""
        return self.is_implicit or bool(super().check_permission(principals, bound_perms))

    def _find(self, request: Any, locked: bool) -> tuple[Object | None, Object | None]:
        kinto_storage = request.registry.storage
        collection = key("collection", self.bucket_uri, request.matchdict["collection_id"])
        if not has_valid_id(request):
            return get(kinto_storage, collection), None
        read = lock_with_parent if locked else get_both
        return read(kinto_storage, collection, key("record", self.collection_uri, self.record_id))

    def _required(self, request: Any) -> tuple[str, str]:
        """The URI of the object, and the permission on it."""
        if request.method == "POST":
            return self.required_to_attach(request.headers.get("If-None-Match"))
        return self.record_uri, "write"

    def required_to_attach(self, if_none_match: str | None) -> tuple[str, str]:
        """The URI of the object, and the permission on it, for a request with that header."""
        # With "*" Kinto wants the permission to create, even on what exists.
        if self.current_object is None or if_none_match == "*":
            return f"{self.collection_uri}/records", "create"
        return self.record_uri, "write"


def valid_context(request: Any) -> AttachmentContext:
    """Return the request's context. Raises ``InvalidParameter`` for an id that no record can
    have."""
    context: AttachmentContext = request.context
    check_record_id(request)
    return context


def check_parent_ids(request: Any) -> None:
    """Raise Kinto's 404 for an id that no bucket or collection can have."""
    for kind in ("bucket", "collection"):
        object_id = _without_line_break(request.matchdict[f"{kind}_id"])
        raise_404_if_invalid_id(request, kind, object_id)


def check_record_id(request: Any) -> None:
    """Raise ``InvalidParameter`` for an id that no record can have."""
    if not has_valid_id(request):
        raise InvalidParameter("path", None, "Invalid object id")


def has_valid_id(request: Any) -> bool:
    """Whether a record may have the id of the request's path."""
    generators = request.registry.id_generators
    generator = generators.get("record", generators[""])
    return bool(generator.match(_without_line_break(request.matchdict["id"])))


def authorize_again(request: Any) -> AttachmentContext:
    """Lock the record, read it again, and check the permission again: minutes may have passed.

    Returns the context with the record as it is now. Kinto's memory of principals and parents is
    refreshed. Raises ``Forbidden``, ``UnknownCollection``.
    """
    for kind in ("buckets", "collections"):
        request.bound_data.pop(kind, None)
    context: AttachmentContext = request.context.locked(request)
    principals = _current_principals(request)
    context.get_prefixed_principals = lambda: principals
    if not request.has_permission(DYNAMIC, context):
        raise Forbidden()
    return context


def _current_principals(request: Any) -> list[str]:
    """The user's principals, with the groups that have the user as a member now."""
    known: list[str] = request.prefixed_principals
    user_id = request.prefixed_userid
    if user_id is None:
        return known
    # Where Kinto's groupfinder remembers them for the time of a request.
    remembered = set(request.bound_data.get(f"{user_id}_principals", ()))
    groups = set(request.registry.permission.get_user_principals(user_id))
    return [name for name in known if name not in remembered - groups] + sorted(groups)


def _without_line_break(object_id: str) -> str:
    """Make Kinto's pattern refuse an id that ends in a line break: no folder may have one in its
    name."""
    return object_id.replace("\n", "\0")
