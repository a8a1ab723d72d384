"""What can go wrong in a script, and what the user is told of it.

All that a server or another client wrote is printed escaped: ``shown()``.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator

import requests
from kinto_http.exceptions import KintoException

logger = logging.getLogger("kinto_http")


class Failed(Exception):
    """A file cannot be transferred; the message tells the user why."""


class Passing(Exception):
    """A transfer went wrong in a way that may pass: it is tried again."""


class Stopped(Exception):
    """The user does not want to wait any longer."""


def refusal(response: requests.Response) -> KintoException:
    """What kinto-http would raise for that response."""
    error = KintoException(response.reason)
    error.request = response.request
    error.response = response
    return error


def status_of(error: Exception) -> int | None:
    """The HTTP status that ``error`` stands for, if any."""
    response = getattr(error, "response", None)
    return None if response is None else response.status_code


def explain(error: Exception) -> str:
    """A sentence about ``error`` for the user."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("Details:\n%s", "\n".join(_details(error)))
    response = getattr(error, "response", None)
    if response is not None:
        text = f"the server answered {response.status_code}, {_message(response)}"
    elif isinstance(error, requests.exceptions.InvalidJSONError):
        text = "the answer is not JSON: is that the URL of a Kinto server"
    elif isinstance(error, (requests.RequestException, Passing)):
        text = f"connection failed, {_innermost(error)}"
    elif isinstance(error, OSError):
        text = error.strerror or str(error)
    else:
        text = str(error) or type(error).__name__
    return f"{shown(text).rstrip('.')}."


def shown(text: str) -> str:
    """``text`` without anything that a terminal could take for a command: control characters,
    line breaks, and what changes the direction of writing are escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _message(response: requests.Response) -> str:
    """What the server says about an error, in Kinto's words or in those of HTTP."""
    try:
        message = response.json()["message"]
    except (ValueError, TypeError, LookupError):
        message = None
    return str(message or response.reason or "without a reason")


def _innermost(error: BaseException) -> str:
    """What the library at the very bottom said: those above wrap it in their own types."""
    *_, last = _chain(error)
    return str(getattr(last, "strerror", None) or last or type(last).__name__)


def _details(error: BaseException) -> Iterator[str]:
    """Tracebacks for ``--debug``. Python's own would show the messages as they are."""
    for each in _chain(error):
        yield from (line.rstrip() for line in traceback.format_tb(each.__traceback__))
        yield f"{type(each).__name__}: {shown(str(each))}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that it was raised from."""
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__ or following.__context__
