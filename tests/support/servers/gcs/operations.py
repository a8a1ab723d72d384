"""What every operation of the API needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tests.support.servers.gcs import errors
from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.bucket import Bucket, StoredObject
from tests.support.servers.gcs.requests import GcsRequest
from tests.support.servers.gcs.resources import partial, resource_of

if TYPE_CHECKING:
    from tests.support.servers.gcs.server import GcsServer


class Body(Protocol):
    """The body of a request."""

    @property
    def length(self) -> int | None:
        """Its bytes that are still to come; ``None`` is not known (chunked)."""

    def read(self, size: int | None = None) -> bytes:
        """Read up to ``size`` bytes, fewer only at its end, or where the line is broken."""

    @property
    def is_broken(self) -> bool:
        """Whether it ended before it should."""

    def whole(self) -> bytes:
        """Read all of it. Raises ``ConnectionError`` where the line is broken."""


class Operations:
    """Operations on the state of ``server``: a method for each, which returns the answer or
    raises ``GcsError``."""

    def __init__(self, server: GcsServer) -> None:
        self.server = server

    def bucket(self, name: str) -> Bucket:
        try:
            return self.server.buckets[name]
        except KeyError:
            raise errors.missing_bucket() from None

    def of(self, request: GcsRequest, value: Any) -> Answer:
        fields = request.query.get("fields")
        return Answer.of_json(200, partial(value, fields) if fields else value)

    def of_object(self, request: GcsRequest, stored: StoredObject) -> Answer:
        return self.of(request, self.resource(request, stored))

    def resource(self, request: GcsRequest, stored: StoredObject) -> dict[str, Any]:
        is_full = request.query.get("projection") == "full"
        return resource_of(stored, self.server.endpoint_url, is_full)
