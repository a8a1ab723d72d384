"""Which operation answers a request, and who may ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.support.servers.gcs import errors
from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.buckets import Buckets
from tests.support.servers.gcs.errors import GcsError
from tests.support.servers.gcs.objects import Objects
from tests.support.servers.gcs.operations import Body
from tests.support.servers.gcs.public import Public
from tests.support.servers.gcs.requests import GcsRequest
from tests.support.servers.gcs.uploads import Uploads

if TYPE_CHECKING:
    from tests.support.servers.gcs.server import GcsServer


_PERMISSIONS = {
    "list": "storage.objects.list",
    "get": "storage.objects.get",
    "media": "storage.objects.get",
    "patch": "storage.objects.update",
    "delete": "storage.objects.delete",
    "create_bucket": "storage.buckets.create",
    "get_bucket": "storage.buckets.get",
    "permissions": "storage.buckets.get",
}


class Api:
    """Answers requests, on the state of ``server``."""

    def __init__(self, server: GcsServer) -> None:
        self._server = server
        self._operations = [room(server) for room in (Buckets, Objects, Public, Uploads)]

    def answer(self, request: GcsRequest, body: Body) -> Answer:
        """Do what a request asks for. A line that breaks raises ``ConnectionError``."""
        operation = request.operation
        try:
            if operation == "unknown":
                raise errors.not_found()
            if operation not in ("token", "public"):
                self._authorize(request)
            answer: Answer = self._find(operation)(request, body)
        except GcsError as error:
            if operation == "public":
                return error.as_xml()
            return error.as_text() if operation == "media" else error.as_json()
        return answer

    def _authorize(self, request: GcsRequest) -> None:
        header = request.headers.get("Authorization")
        if header is None:
            # The URI of a session is a credential itself.
            if not self._server.anonymous and "upload_id" not in request.query:
                raise errors.anonymous(
                    _PERMISSIONS.get(request.operation, "storage.objects.create")
                )
        else:
            self._server.account.check_token(header.removeprefix("Bearer "))

    def _find(self, operation: str) -> Callable[[GcsRequest, Body], Answer]:
        if operation == "token":
            return self._token
        room = next(each for each in self._operations if hasattr(each, operation))
        found: Callable[[GcsRequest, Body], Answer] = getattr(room, operation)
        return found

    def _token(self, request: GcsRequest, body: Body) -> Answer:
        return self._server.account.exchange(body.read(), f"{self._server.endpoint_url}/token")
