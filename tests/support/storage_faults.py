"""Faults of a file storage that one cannot ask the real one for."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import requests
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from kinto_attachment.storage import FileStorage
from kinto_attachment.storage.gcloud import GCloudStorage
from kinto_attachment.storage.s3 import S3Storage


class Faults:
    """Lets single requests of a storage fail in ways that one cannot ask a server for."""

    def __init__(self, storage: S3Storage) -> None:
        self.client = storage.s3_client
        self.requests: list[Any] = []
        """Every request that was about to be sent."""
        self._handlers: list[tuple[str, Any]] = []
        self._register("before-send.s3", self._remember)

    def answer(
        self,
        operation: str,
        status: int,
        code: str,
        *,
        times: int = 1000,
        when: Callable[[Any], bool] = lambda request: True,
    ) -> None:
        """Have the next requests answered with an error, without asking the server."""
        body = f"<Error><Code>{code}</Code><Message>Made up.</Message></Error>".encode()

        def reply(request: Any, **_: Any) -> AWSResponse | None:
            nonlocal times
            if not times or not when(request):
                return None
            times -= 1
            return AWSResponse(
                request.url, status, {"Content-Type": "application/xml"}, _Raw(body)
            )

        self._register(f"before-send.s3.{operation}", reply)

    def lose_answers(
        self,
        operation: str,
        *,
        times: int = 1000,
        when: Callable[[Any], bool] = lambda request: True,
    ) -> None:
        """Let the server do what it is asked to, but its answer get lost on the way."""

        def lose(request: Any, **_: Any) -> None:
            nonlocal times
            if times and when(request):
                times -= 1
                self.client._endpoint.http_session.send(request)
                raise ReadTimeoutError(endpoint_url=request.url)

        self._register(f"before-send.s3.{operation}", lose)

    def before(self, operation: str, action: Callable[[dict[str, Any]], None]) -> None:
        """Call ``action(params)`` before the request of ``operation`` is made."""

        def call(params: dict[str, Any], **_: Any) -> None:
            action(params)

        self._register(f"before-call.s3.{operation}", call)

    def after(self, operation: str, action: Callable[..., None]) -> None:
        """Call ``action(parsed=...)`` with each answer to ``operation``."""
        self._register(f"after-call.s3.{operation}", action)

    def end(self) -> None:
        """Let all requests through again."""
        for event, handler in self._handlers:
            self.client.meta.events.unregister(event, handler)

    def _register(self, event: str, handler: Any) -> None:
        self.client.meta.events.register(event, handler)
        self._handlers.append((event, handler))

    def _remember(self, request: Any, **_: Any) -> None:
        self.requests.append(request)


class _Raw(io.BytesIO):
    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


class Fuse:
    """Blows after so many steps of a storage: a step is a request to a server, or a call of the
    system that changes a disk. With ``done``, the one that blows it is still done."""

    def __init__(self, steps: int, *, done: bool, blow: Callable[[], None] = lambda: None) -> None:
        self._steps_left = steps
        self._done = done
        self._blow = blow

    @property
    def blown(self) -> bool:
        return self._steps_left < 0

    @property
    def loses_next(self) -> bool:
        """Whether the next step is done, and nobody hears of it."""
        return self._done and self._steps_left == 0

    def step(self, do: Callable[[], Any], fail: Callable[[], Any]) -> Any:
        """Do the step, or fail."""
        lost = self.loses_next
        self._steps_left -= 1
        if not self.blown:
            return do()
        if lost:
            do()
        self._blow()
        return fail()


@contextlib.contextmanager
def disk_fails(fuse: Fuse) -> Iterator[None]:
    """The disk does nothing any more once the fuse has blown."""

    def fail() -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: fuse.step(lambda: call(*args, **kwargs), fail)

    calls = ("open", "write", "fsync", "link", "unlink", "mkdir", "ftruncate")
    with mock.patch.multiple(os, **{name: guarded(getattr(os, name)) for name in calls}):
        yield


@contextlib.contextmanager
def s3_fails(fuse: Fuse, storage: S3Storage) -> Iterator[None]:
    """No request of ``storage`` reaches S3 any more once the fuse has blown."""
    client = storage.s3_client

    def send(request: Any, **_: Any) -> None:
        lost = fuse.loses_next

        def do() -> None:
            # Else boto3 does it.
            if lost:
                client._endpoint.http_session.send(request)

        def fail() -> None:
            raise (ReadTimeoutError if lost else EndpointConnectionError)(endpoint_url=request.url)

        fuse.step(do, fail)

    client.meta.events.register("before-send.s3", send)
    try:
        yield
    finally:
        client.meta.events.unregister("before-send.s3", send)


@contextlib.contextmanager
def gcloud_fails(fuse: Fuse, storage: GCloudStorage) -> Iterator[None]:
    """No request of ``storage`` reaches Google any more once the fuse has blown."""
    session = storage._bucket.session.connect()
    send = session.request

    def guarded(*args: Any, **kwargs: Any) -> Any:
        lost = fuse.loses_next

        def fail() -> None:
            raise (requests.ReadTimeout if lost else requests.ConnectTimeout)("Made up.")

        return fuse.step(lambda: send(*args, **kwargs), fail)

    with mock.patch.object(session, "request", guarded):
        yield


def fails(fuse: Fuse, storage: FileStorage) -> AbstractContextManager[None]:
    """Whatever ``storage`` is, it does nothing any more once the fuse has blown."""
    if isinstance(storage, GCloudStorage):
        return gcloud_fails(fuse, storage)
    return s3_fails(fuse, storage) if isinstance(storage, S3Storage) else disk_fails(fuse)
