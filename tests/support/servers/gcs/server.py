"""The server, and what a test may ask of it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from kinto_attachment.attachments.site import MARKER
from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.api import Api
from tests.support.servers.gcs.bucket import Bucket, StoredObject, Switches
from tests.support.servers.gcs.credentials import ServiceAccount
from tests.support.servers.gcs.errors import GcsError
from tests.support.servers.gcs.exchange import GcsExchange, LoopbackServer
from tests.support.servers.gcs.requests import GcsRequest
from tests.support.servers.gcs.session import Session
from tests.support.servers.http import Exchange, Fault, Server

_ALWAYS = 1000


class GcsServer(Switches, Server):
    """Runs, and ``bucket`` exists, once the constructor returns.

    ``requests`` are those that arrived; ``account`` is the only service account.
    """

    bucket = "tests"
    project = "tests-project"

    def __init__(self, port: int = 0) -> None:
        Switches.__init__(self)
        self.directory = Path(tempfile.mkdtemp(prefix="test-gcs-"))
        self.account = ServiceAccount(self.project)
        self.credentials_file = self.directory / "credentials.json"
        self.buckets: dict[str, Bucket] = {}
        self.all_sessions: dict[str, Session] = {}
        self.requests: list[GcsRequest] = []  # type: ignore[assignment]
        self.lock = threading.Lock()
        self._faults: list[list[Any]] = []
        self._api = Api(self)
        self.create_bucket(self.bucket)
        self.start(port)
        self.account.write(self.credentials_file, f"{self.endpoint_url}/token")

    def start(self, port: int = 0) -> None:
        """Listen, after a ``stop()`` on the same port maybe; 0 is a free one."""
        handler = type("Handler", (GcsExchange,), {"owner": self})
        self._server = LoopbackServer(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """Those of a Kinto that stores its files here."""
        return {
            "kinto.attachment.gcloud.bucket_name": self.bucket,
            "kinto.attachment.gcloud.endpoint_url": self.endpoint_url,
            "kinto.attachment.gcloud.num_retries": "0",
        }

    def create_bucket(self, name: str, *, uniform_access: bool = False) -> Bucket:
        """Add an empty bucket."""
        self.buckets[name] = Bucket(name, self, uniform_access)
        return self.buckets[name]

    def drop_bucket(self, name: str | None = None) -> None:
        """Remove a bucket with everything in it."""
        del self.buckets[name or self.bucket]

    def objects(self, bucket: str | None = None) -> dict[str, StoredObject]:
        """The live objects by their names."""
        stored = self.buckets[bucket or self.bucket]
        with stored.lock:
            return dict(sorted(stored.live.items()))

    def keys(self, bucket: str | None = None) -> list[str]:
        """The names of the live objects, without the marker of the site."""
        return [name for name in self.objects(bucket) if name != MARKER]

    def sessions(self) -> list[Session]:
        """The resumable uploads that are neither finished, nor cancelled, nor refused."""
        return [each for each in list(self.all_sessions.values()) if each.is_unfinished]

    def lose_sessions(self, status: int = 410) -> None:
        """Forget all unfinished sessions; they are answered with ``status`` (404 or 410)."""
        for session in self.sessions():
            session.refusal = GcsError(
                status, "notFound", "Gone" if status == 410 else "Not Found"
            )

    def expire_tokens(self) -> None:
        """Answer 401 to all access tokens issued so far."""
        self.account.tokens.clear()

    def empty(self) -> None:
        """Remove all objects and sessions of all buckets."""
        for bucket in self.buckets.values():
            with bucket.lock:
                bucket.clear()
        self.all_sessions.clear()

    def reset(self) -> None:
        """Forget everything: the objects, requests, faults, switches, and other buckets."""
        Switches.reset(self)
        self._faults.clear()
        self.requests.clear()
        self.buckets.clear()
        self.all_sessions.clear()
        self.create_bucket(self.bucket)

    def fail(
        self,
        operation: str | Callable[[GcsRequest], bool],
        fault: Fault,
        times: int = _ALWAYS,
        after: int = 0,
    ) -> None:
        """Let so many requests of an ``operation`` (see ``operation_of()``; ``*`` is any, a
        function chooses itself) end in ``fault``, after so many that do not."""
        self._faults.append([operation, fault, times, after])

    def heal(self) -> None:
        """Let no request fail any more."""
        self._faults.clear()

    def disconnect(self) -> None:
        """Close every connection that clients keep open: each is a thread of this process."""
        cast(LoopbackServer, self._server).disconnect()

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Nobody listens on the port meanwhile."""
        port = self.port
        self.stop()
        try:
            yield
        finally:
            self.start(port)

    def serve(self, exchange: Exchange) -> None:
        cast(GcsExchange, exchange).send(self.answer_to(exchange))

    def answer_to(self, exchange: Exchange) -> Answer:
        """Do what a request asks for, without sending the answer."""
        sent = cast(GcsExchange, exchange)
        return self._api.answer(sent.asked, sent)

    def fault_for(self, request: GcsRequest) -> Fault | None:
        """Remember a request, and choose what becomes of it."""
        with self.lock:
            self.requests.append(request)
            for entry in self._faults:
                operation, fault, times, after = entry
                if not (
                    operation(request)
                    if callable(operation)
                    else operation in ("*", request.operation)
                ):
                    continue
                if after:
                    entry[3] -= 1
                elif times:
                    entry[2] -= 1
                    chosen: Fault = fault
                    return chosen
            return None

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
