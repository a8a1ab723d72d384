"""A Pyramid plugin that stops requests at a step which they ask for, and the other end of it.

A request with the header ``Stop-At: written 12345`` connects to that port of 127.0.0.1 once it has
come so far, and goes on when the connection is closed. The steps of an upload, in their order:

- ``receiving``: the first bytes of the file are about to be written;
- ``complete``: the file is in the storage, and has its name; nothing else knows of it;
- ``written``: record and rows are written; the transaction is about to commit;
- ``committed``: it has; a file that nobody references any more is about to be deleted.

With the header ``Fail-At: written`` a subscriber of ``ResourceChanged`` raises instead.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import transaction
from kinto.core.events import ResourceChanged
from pyramid.events import NewRequest
from pyramid.tweens import INGRESS
from pyramid_storage.interfaces import IFileStorage
from typing_extensions import Self

from kinto_attachment.storage import StagedFile

SECONDS = 60.0

_current = threading.local()


class Stop:
    """Stops one request at a step: send ``headers`` with it."""

    def __init__(self, step: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS)
        self._request: socket.socket | None = None
        self.headers = {"Stop-At": f"{step} {self._listener.getsockname()[1]}"}

    def wait(self) -> Self:
        """Return once the request has come to the step."""
        self._request, _ = self._listener.accept()
        return self

    def go_on(self) -> None:
        """Let the request go on, or not stop at all. May be called again."""
        self._listener.close()
        if self._request is not None:
            self._request.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.go_on()


def includeme(config: Any) -> None:
    """To be included after ``kinto_attachment``, whose storage must be there."""
    config.add_tween("tests.support.live.stops.tween", under=INGRESS)
    config.add_subscriber(_on_new_request, NewRequest)
    config.add_subscriber(_on_resource_changed, ResourceChanged)
    _stop_in_uploads()
    storage = config.registry.getUtility(IFileStorage)
    storage.delete = _stopping_before("committed", storage.delete)


def tween(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """Remember what the request of this thread asks for, also after its transaction."""

    def handle(request: Any) -> Any:
        _current.stop_at = request.headers.get("Stop-At", " ")
        try:
            return handler(request)
        finally:
            _current.stop_at = " "

    return handle


def _on_new_request(event: Any) -> None:
    # The plugin hands hooks on from a transaction that it ends to the next one.
    if "Stop-At" in event.request.headers:
        transaction.get().addBeforeCommitHook(_stop, ("written",))


def _on_resource_changed(event: Any) -> None:
    if event.request.headers.get("Fail-At") == "written":
        raise RuntimeError("a subscriber fails, as the request asked for")


def _stop_in_uploads() -> None:
    """Once for all applications of this process."""
    if not hasattr(StagedFile.write, "stops"):
        StagedFile.write = _stopping_before("receiving", StagedFile.write)
        StagedFile.finish = _stopping_after("complete", StagedFile.finish)


def _stopping_before(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def stopping(*arguments: Any) -> Any:
        _stop(step)
        return function(*arguments)

    stopping.stops = step
    return stopping


def _stopping_after(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def stopping(*arguments: Any) -> Any:
        result = function(*arguments)
        _stop(step)
        return result

    return stopping


def _stop(step: str) -> None:
    wanted, _, port = getattr(_current, "stop_at", " ").partition(" ")
    if step != wanted:
        return
    _current.stop_at = " "
    with socket.create_connection(("127.0.0.1", int(port)), timeout=SECONDS) as connection:
        # Empty when the other end closes, or an error when it does so with a reset.
        connection.recv(1)
