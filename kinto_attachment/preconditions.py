"""``If-Match`` and ``If-None-Match``, as Kinto's resources understand them.

https://docs.kinto-storage.org/en/stable/api/1.x/timestamps.html
"""

from __future__ import annotations

from typing import Any

import colander
from kinto.core.errors import ERRORS, http_error, raise_invalid
from kinto.core.resource.schema import HeaderSchema
from pyramid.httpexceptions import HTTPPreconditionFailed


class Preconditions:
    """What the client believes of the record."""

    def __init__(self, request: Any) -> None:
        """Raises Kinto's 400 for a malformed header."""
        try:
            headers = HeaderSchema().deserialize(dict(request.headers))
        except colander.Invalid as error:
            name, description = next(iter(error.asdict().items()))
            raise_invalid(request, location="header", name=name, description=description)
        except ValueError:
            # Kinto's pattern lets `*"1"` pass, and then reads a number from it.
            raise_invalid(
                request,
                location="header",
                name="If-Match",
                description="The value should be integer between double quotes.",
            )
        self._if_match: int | str | None = headers.get("If-Match")
        self._if_none_match: int | str | None = headers.get("If-None-Match")

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
