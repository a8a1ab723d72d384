"""Requests to Google Cloud Storage's JSON API: who sends them, which are repeated, how they fail.

https://docs.cloud.google.com/storage/docs/json_api
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import google.auth
import requests
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account
from urllib3.exceptions import HTTPError, NewConnectionError

from kinto_attachment.storage.options import GCloudOptions

_GOOGLE = "https://storage.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
# Seconds. A compose of large objects takes a while.
_READ_TIMEOUT = 60.0
_CONNECTIONS = 50
# https://docs.cloud.google.com/storage/docs/retry-strategy
_TRANSIENT = {408, 429, 500, 502, 503, 504}
# Seconds.
_PAUSE = 0.2
_MAX_PAUSE = 8.0
# Characters of an unexpected answer that are told.
_EXCERPT = 500
# Of requests, urllib3 and google.auth: they share no base, and let others through. OSError is the
# base of all of requests'. RecursionError is json's, of what nobody means.
_TRANSPORT_ERRORS = (
    OSError,
    HTTPError,
    GoogleAuthError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
)


Object = dict[str, Any]
"""Google's description of an object."""


class GoogleError(Exception):
    """A request that was not answered with success."""

    may_have_happened = True
    """Whether Google may have done what it was asked for, in this try or an earlier one."""
    is_transient = False
    """Whether the same request may succeed later."""


class NoAnswer(GoogleError):
    """A request to which no answer came. ``__cause__`` is the transport's own error."""

    is_transient = True

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause) or type(cause).__name__)
        self.may_have_happened = not _was_never_sent(cause)


class NoCredentials(GoogleError):
    """Credentials that cannot be had. ``__cause__`` is google.auth's error, or the system's."""

    may_have_happened = False


class ApiError(GoogleError):
    """A request that Google refused.

    https://docs.cloud.google.com/storage/docs/json_api/v1/status-codes
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(f"{status} {sentence}")
        self.status = status
        self.is_transient = status in _TRANSIENT
        self.may_have_happened = status >= 500 or status == 408

    @classmethod
    def of(cls, response: requests.Response) -> ApiError:
        try:
            sentence = response.json()["error"]["message"]
        except (ValueError, TypeError, KeyError, RecursionError):
            sentence = response.text[:_EXCERPT].strip()
        return cls(response.status_code, sentence or response.reason)


class Session:
    """Sends requests for all the threads of a process; a forked one gets connections of its
    own."""

    def __init__(self, options: GCloudOptions) -> None:
        self._options = options
        self.url = (options.endpoint_url or _GOOGLE).rstrip("/")
        """The URL of the server, without a slash at its end."""
        self.on_retry: Callable[[], object] = lambda: None
        """Called before a request is repeated."""
        self._lock = threading.Lock()
        self._authorized: Any = None
        self._pid = 0
        self._project: str | None = None

    @property
    def project(self) -> str | None:
        """The project of the options, or else of the credentials."""
        self.connect()
        return self._options.project or self._project

    @property
    def retries(self) -> int:
        """How often a request is repeated after a transient error."""
        return self._options.num_retries

    @property
    def credentials(self) -> Any:
        """The credentials of google.auth."""
        return self.connect().credentials

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        expected: tuple[int, ...] = (200,),
        retries: int | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """Return the answer, if its status is one of ``expected``.

        ``path`` follows ``url``, or is a whole URL. ``data`` must be bytes, or an iterable that
        starts anew each time. ``retries`` is how often the request is repeated after a transient
        error (the options' number by default); 0 for one that must not be.
        Raises ``GoogleError``.
        """
        left = self.retries if retries is None else retries
        tries, uncertain = 0, False
        while True:
            try:
                return self._send(method, path, params, json, data, headers, expected, stream)
            except GoogleError as error:
                error.may_have_happened |= uncertain
                if tries == left or not error.is_transient:
                    raise
                uncertain = error.may_have_happened
            tries += 1
            self.on_retry()
            pause(tries)

    def connect(self) -> Any:
        """Return the ``AuthorizedSession`` of this process. Raises ``NoCredentials``."""
        # Not shared across fork(): both processes would use one connection.
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._authorized, self._project = _authorize(self._options)
                    self._pid = os.getpid()
        return self._authorized

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        json: Any,
        data: Any,
        headers: Mapping[str, str] | None,
        expected: tuple[int, ...],
        stream: bool,
    ) -> requests.Response:
        timeout = self._options.timeout
        session = self.connect()
        with transport_errors():
            response: requests.Response = session.request(
                method,
                path if path.startswith(("http://", "https://")) else self.url + path,
                params=params,
                json=json,
                data=data,
                headers=dict(headers or {}),
                timeout=(timeout, max(_READ_TIMEOUT, timeout)),
                stream=stream,
                allow_redirects=False,
            )
            if response.status_code in expected:
                return response
            with response:
                raise ApiError.of(response)


def json_of(response: requests.Response) -> dict[str, Any]:
    """Return the content of an answer. Raises ``NoAnswer`` unless it is a JSON object."""
    with transport_errors():
        found = response.json()
        if not isinstance(found, dict):
            raise ValueError(f"not what JSON was expected: {response.text[:_EXCERPT]}")
        return found


def object_of(response: requests.Response) -> Object:
    """Return the object that an answer describes. Raises ``NoAnswer``."""
    return described(json_of(response))


def described(found: Any) -> Object:
    """Return ``found`` if it is Google's description of an object. Raises ``NoAnswer``."""
    with transport_errors():
        size_of(found), created_of(found), base64.b64decode(found.get("crc32c"), validate=True)
        texts = [found.get("name"), found.get("generation"), found.get("contentType", "")]
        texts += found.get("metadata", {}).values()
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"not an object: {str(found)[:_EXCERPT]}")
        return dict(found)


def size_of(found: Object) -> int:
    """Return the size of an object in bytes. A server may leave out that of an empty one."""
    return int(found.get("size", 0))


def created_of(found: Object) -> datetime:
    """Return when an object was created. Others may change its metadata: that is "updated"."""
    return datetime.fromisoformat(str(found.get("timeCreated")).replace("Z", "+00:00"))


@contextlib.contextmanager
def transport_errors() -> Iterator[None]:
    """Turn the errors of requests, urllib3 and google.auth into ``NoAnswer``."""
    try:
        yield
    except _TRANSPORT_ERRORS as error:
        raise NoAnswer(error) from error


def pause(tries: int) -> None:
    """Wait before a request is repeated, longer after more ``tries``."""
    time.sleep(random.uniform(0.5, 1) * min(_PAUSE * 2**tries, _MAX_PAUSE))  # noqa: S311


def _authorize(options: GCloudOptions) -> tuple[AuthorizedSession, str | None]:
    """Return a session with the credentials of ``options``, and the project that these are of."""
    # There is nothing to refresh of anonymous ones: a 401 is Google's answer.
    refresh_after = [401]
    try:
        if options.credentials:
            credentials = service_account.Credentials.from_service_account_file(
                options.credentials, scopes=[_SCOPE]
            )
            project = credentials.project_id
        elif options.endpoint_url:
            credentials, project, refresh_after = AnonymousCredentials(), None, []
        else:
            credentials, project = google.auth.default(scopes=[_SCOPE])
    except _TRANSPORT_ERRORS as error:
        # A missing file of credentials must not look like a missing stored file.
        raise NoCredentials(f"no credentials: {error}") from error
    session = AuthorizedSession(credentials, refresh_status_codes=refresh_after)
    for scheme in ("https://", "http://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return session, project


def _was_never_sent(error: BaseException) -> bool:
    """Whether Google cannot have got the request."""
    if isinstance(error, (requests.ConnectTimeout, GoogleAuthError)):
        return True
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError)
