"""HTTP for both scripts: credentials go to Kinto's own origin, and to nobody else.

Locations are written by whoever may write a record. So a host is taken from the URL of the
request as it is sent (the *prepared* one of requests), and a URL that two parsers could read
differently is refused. No redirect, ``.netrc`` or cookie takes anything to another origin.
"""

from __future__ import annotations

import re
import threading
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import kinto_http.session
import requests
from errors import Failed
from kinto_http.constants import USER_AGENT

# Seconds to connect, and seconds in which nothing comes. A server that has just received a large
# file needs a while to store it.
TIMEOUT = (10, 300)

Origin = tuple[str, str, int]

_PORTS = {"http": 80, "https": 443}
# What one parser drops, another one ends the host with, and a third one encodes.
_AMBIGUOUS = re.compile(r"[\\\x00-\x1f\x7f]|^\s")


def origin(url: str) -> Origin:
    """Scheme, host and port that a request to ``url`` goes to (RFC 6454).

    Raises ``Failed`` if it is no plain URL: http or https, a host, no credentials.
    """
    try:
        prepared = requests.Request("GET", url).prepare().url or ""
        parts = urlsplit(prepared)
        is_plain = not _AMBIGUOUS.search(url) and "@" not in urlsplit(url).netloc + parts.netloc
        if is_plain and parts.scheme in _PORTS and parts.hostname:
            return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]
    except ValueError:
        # That of requests, InvalidURL, is one, too.
        pass
    raise Failed(f"{url} is no plain http or https URL")


class Connections(threading.local):
    """A session for each thread, and the credentials: sessions are not made to be shared."""

    def __init__(self, server_url: str, auth: Any) -> None:
        """Raises ``Failed`` if ``server_url`` is no plain URL."""
        self.origin = origin(server_url)
        self.auth = auth
        self.session = _Session()

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """Ask Kinto itself. Raises ``Failed`` if that is another server, or if it redirects."""
        if origin(url) != self.origin:
            raise Failed(f"the server sends this to {url}, which is not its own address")
        response = self.session.request(
            method, url, auth=self.auth, timeout=TIMEOUT, allow_redirects=False, **options
        )
        if response.is_redirect:
            elsewhere = response.headers["Location"]
            raise Failed(f"the server redirects to {elsewhere}; change --server accordingly")
        return response

    def get(self, url: str, headers: dict[str, str]) -> requests.Response:
        """Ask for a file, wherever it is. Raises ``Failed`` if ``url`` is no plain URL."""
        auth = self.auth if origin(url) == self.origin else None
        return self.session.get(url, headers=headers, auth=auth, stream=True, timeout=TIMEOUT)


class KintoSession(kinto_http.session.Session):
    """kinto-http's session, over these connections."""

    def __init__(self, connections: Connections, server_url: str) -> None:
        super().__init__(server_url, connections.auth, timeout=TIMEOUT)
        self._connections = connections

    @property
    def _session(self) -> requests.Session:
        return self._connections.session


class _Session(requests.Session):
    """Proxies and certificates come from the environment as usual, credentials do not."""

    def __init__(self) -> None:
        super().__init__()
        self.headers["User-Agent"] = USER_AGENT
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # Without any, requests would look into .netrc.
        self.auth = _anonymous

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Before a redirect is followed. requests itself also looks into ``.netrc`` here."""
        # requests takes those of a redirect without asking for the policy.
        prepared_request.headers.pop("Cookie", None)
        if origin(prepared_request.url or "") != origin(response.request.url or ""):
            prepared_request.headers.pop("Authorization", None)


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
