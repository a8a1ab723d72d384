"""Signed links to files: the endpoint that makes them, and the way of their tokens past the logs.

The URL of a link is ``/v1/attachments/~{token}/{name}``. Nothing of a token is in a query: Kinto,
gunicorn and nginx log queries, and Kinto the whole WSGI environment where one is no UTF-8.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from kinto.core.authorization import DYNAMIC
from pyramid.response import Response
from pyramid.tweens import INGRESS

from kinto_attachment.attachments.authorization import (
    ReadContext,
    check_parent_ids,
    check_record_id,
)
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.links import Link, sign
from kinto_attachment.attachments.readers import Readers
from kinto_attachment.attachments.reading import ReadableFiles
from kinto_attachment.database.transactions import outermost
from kinto_attachment.errors import InvalidParameter, MalformedBody, answered
from kinto_attachment.http import openapi
from kinto_attachment.http.body import chunks, content_length, take_stream

FOLDER = "attachments"
"""Below ``/v1/``: where files are by their name."""

_TAKEN = "kinto_attachment.link"
_MAX_BODY_BYTES = 1024


def register(config: Any, attachment_path: str, by_name: str) -> None:
    """Add the service below that of attachments, for links to the route ``by_name``.

    Without a secret to sign with, there is none.
    """
    config.add_tween(f"{__name__}.take_token_tween", under=INGRESS)
    if not config.registry.attachment_settings.download.secrets:
        return
    from kinto.core import Service

    def post(request: Any) -> Response:
        return post_link(request, by_name)

    service = Service(
        name="attachment-link",
        path=f"{attachment_path}/link",
        description="Make a link to the file of a record",
        factory=answered()(ReadContext),
    )
    service.add_view(
        "POST", post, operation_id="link_file", permission=DYNAMIC, tags=["Attachments"]
    )
    config.add_cornice_service(service)
    openapi.describe_link(service)


@answered()
def post_link(request: Any, by_name: str) -> Response:
    """Answer with a link to the file of the record."""
    check_parent_ids(request)
    check_record_id(request)
    settings = request.registry.attachment_settings
    readable = ReadableFiles(request.registry.storage, settings, Readers(request))
    lifetime, save = _options(request, settings.download.link_expires)
    file = readable.attached_to(Holder.of(request.matchdict))
    link = Link(int(time.time()) + lifetime, save)
    token = sign(settings.download.secrets[0], file.target, link)
    # A request in a batch does not know the client's scheme.
    url = outermost(request).route_url(by_name, name=f"~{token}/{file.name}")
    return _LinkResponse({"url": url, "expires": link.expires})


def _options(request: Any, longest: timedelta) -> tuple[int, bool]:
    """Read what the body asks for: for how many seconds, and whether browsers save the file.

    Raises ``MalformedBody`` and ``InvalidParameter``.
    """
    body, length = b"", content_length(request.environ)
    for chunk in chunks(take_stream(request.environ), length):
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise MalformedBody(f"body: it should have at most {_MAX_BODY_BYTES} bytes.")
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise MalformedBody("body: it is not valid JSON.") from None
    if not isinstance(asked, dict):
        raise MalformedBody("body: it is not a JSON object.")
    for name in asked:
        if name not in ("expires_in", "download"):
            raise InvalidParameter("body", None, f"{name!r} not in ('expires_in', 'download')")
    most = int(longest.total_seconds())
    lifetime, save = asked.get("expires_in", most), asked.get("download", False)
    if type(lifetime) is not int or not 1 <= lifetime <= most:
        raise InvalidParameter(
            "body", "expires_in", f"should be a whole number of seconds from 1 to {most}"
        )
    if not isinstance(save, bool):
        raise InvalidParameter("body", "download", "should be true or false")
    return lifetime, save


def take_token_tween(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """Take the token of a link out of the request, before anything logs its path."""
    folder = f"/{registry.route_prefix}/{FOLDER}/"

    def tween(request: Any) -> Any:
        environ = request.environ
        path: str = environ.get("PATH_INFO", "")
        rest = path.removeprefix(folder)
        if path.startswith(folder) and rest.startswith("~"):
            token, _, name = rest[1:].partition("/")
            environ[_TAKEN] = _Unlogged(token)
            environ["PATH_INFO"] = folder + name
            _rewrite(environ)
        return handler(request)

    return tween


def token_of(request: Any) -> str | None:
    """Return the token that the tween has taken, ``None`` if the request is not of a link."""
    token = request.environ.get(_TAKEN)
    return None if token is None else token.text


def _rewrite(environ: dict[str, Any]) -> None:
    """Let what servers remember of the request line say what the path is now: gunicorn logs it
    after the request."""
    path = f"{environ.get('SCRIPT_NAME', '')}{environ['PATH_INFO']}"
    query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
    # Its characters are bytes: https://peps.python.org/pep-3333/#unicode-issues
    target = quote(path, safe="/~:@!$&'()*+,;=", encoding="latin-1") + query
    for name in ("RAW_URI", "REQUEST_URI"):
        if name in environ:
            environ[name] = target


class _Unlogged:
    """A text that does not show where its holder is logged."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "<a link's token>"


class _LinkResponse(Response):
    """Has no ``body`` for those who only look at it: Kinto may log it."""

    def __init__(self, content: dict[str, Any]) -> None:
        encoded = json.dumps(content).encode()
        super().__init__(status=201, content_type="application/json", app_iter=[encoded])
        self.headers["Cache-Control"] = "no-store"
        self.content_length = len(encoded)
        self._content = content

    @property
    def body(self) -> bytes:
        return b""

    @property
    def json(self) -> dict[str, Any]:
        """For a batch, which shows bodies as JSON."""
        return self._content
