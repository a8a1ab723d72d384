"""``If-Match`` and ``If-None-Match``, as Kinto's resources understand them.

https://docs.kinto-storage.org/en/stable/api/1.x/timestamps.html
"""

from __future__ import annotations

from typing import Any

import colander
from kinto.core.errors import ERRORS, http_error, raise_invalid
from kinto.core.resource.schema import HeaderSchema
from kinto.core.schema import HeaderQuotedInteger
from pyramid.httpexceptions import HTTPPreconditionFailed


class Preconditions:
    """What the client believes of the record."""

    def __init__(self, request: Any) -> None:
        """Raises Kinto's 400 for a malformed header."""
        self._if_match = _header(request, "If-Match")
        self._if_none_match = _header(request, "If-None-Match")

    def check(self, record: dict[str, Any] | None) -> None:
        """Raise Kinto's 412 unless they hold for ``record``, ``None`` if there is none."""
        if record is None:
            if self._if_match is not None:
                raise _failed(None)
            return
        if self._if_none_match == "*":
            raise _failed(record)
        if self._if_match not in (None, "*", record["last_modified"]):
            raise _failed(record)


def _header(request: Any, name: str) -> int | str | None:
    """The timestamp in a header, ``"*"``, or ``None`` if it was not sent."""
    given = {name: request.headers[name]} if name in request.headers else {}
    try:
        value: int | str | None = HeaderSchema().deserialize(given).get(name)
    except (colander.Invalid, ValueError):
        # Kinto's pattern lets `*"1"` pass, and then reads a number from it.
        description = HeaderQuotedInteger.error_message
        raise_invalid(request, location="header", name=name, description=description)
    return value


def _failed(record: dict[str, Any] | None) -> HTTPPreconditionFailed:
    error = http_error(
        HTTPPreconditionFailed(),
        errno=ERRORS.MODIFIED_MEANWHILE,
        message="Resource was modified meanwhile",
        details={"existing": record} if record else {},
    )
    if record is not None:
        error.last_modified = record["last_modified"] / 1000
        error.headers["ETag"] = f'"{record["last_modified"]}"'
    return error
