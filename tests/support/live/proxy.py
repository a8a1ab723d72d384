"""A proxy in front of an S3 server, which lets requests fail as networks and servers do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

from tests.support.servers.http import Exchange, Fault, Proxy, Request
from tests.support.servers.s3 import S3Server

_ALWAYS = 1000
# So that nobody is connected any more once it is down.
_CLOSE = {"Connection": "close"}


class S3Proxy(Proxy):
    """Hands everything on to ``server``, unless it was told to ``fail``."""

    def __init__(self, server: S3Server) -> None:
        super().__init__(server.endpoint_url)
        self.server = server

    @property
    def settings(self) -> Mapping[str, str]:
        """Those of a Kinto that stores its files there."""
        return {
            "kinto.attachment.aws.bucket": self.server.bucket,
            "kinto.attachment.aws.endpoint_url": f"http://127.0.0.1:{self.port}",
            "kinto.attachment.aws.access_key": self.server.access_key,
            "kinto.attachment.aws.secret_key": self.server.secret_key,
            "kinto.attachment.aws.region": self.server.region,
            "kinto.attachment.aws.use_path_style": "true",
            "kinto.attachment.aws.num_retries": "0",
        }

    def is_file(self, request: Request) -> bool:
        return True

    def serve(self, exchange: Exchange) -> None:
        status, headers, body = self.forward(exchange)
        exchange.answer(status, {**headers, **_CLOSE}, body)

    def fail(self, operation: str, fault: Fault, after: int = 0) -> None:
        """Let every request of that operation (``put``, ``create``, ``part``, ``copy``,
        ``complete``, ``abort``, ``delete``...) end in ``fault``, after so many that do not."""
        self.concerned = lambda request: operation_of(request) == operation
        self.faults = [S3Proxy.serve_one] * after + [fault] * _ALWAYS

    @staticmethod
    def serve_one(exchange: Exchange) -> None:
        exchange.owner.serve(exchange)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nobody listens on the port meanwhile."""
        port = self.port
        self.stop()
        try:
            yield
        finally:
            self.start(port)


def operation_of(request: Request) -> str:
    """What S3 is asked for."""
    query = parse_qs(urlsplit(request.path).query, keep_blank_values=True)
    operations: dict[str, Callable[[], bool]] = {
        "create": lambda: request.method == "POST" and "uploads" in query,
        "copy": lambda: "x-amz-copy-source" in request.headers,
        "part": lambda: request.method == "PUT" and "partNumber" in query,
        "complete": lambda: request.method == "POST" and "uploadId" in query,
        "abort": lambda: request.method == "DELETE" and "uploadId" in query,
    }
    for operation, matches in operations.items():
        if matches():
            return operation
    return request.method.lower()


def fails_inside(exchange: Exchange) -> None:
    """The server answers 500."""
    exchange.read()
    exchange.answer(500, _CLOSE, b"<Error><Code>InternalError</Code></Error>")


def breaks_off(exchange: Exchange) -> None:
    """The connection is cut when some of the request, if it has a body, has come."""
    exchange.read(1000)
    exchange.drop()
