"""``If-Match`` and ``If-None-Match``, as Kinto's resources understand them.

https://docs.kinto-storage.org/en/stable/api/1.x/timestamps.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import colander
from kinto.core.resource.schema import HeaderSchema
from kinto.core.schema import HeaderQuotedInteger

from kinto_attachment.errors import InvalidParameter, PreconditionFailed

HEADERS = ("If-Match", "If-None-Match")


class Preconditions:
    """What the client expects of the record."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Parse ``headers``. Raises ``InvalidParameter`` for a malformed one."""
        self.headers = {name: headers[name] for name in HEADERS if name in headers}
        """The headers as they were sent."""
        self._if_match = self._parsed("If-Match")
        self._if_none_match = self._parsed("If-None-Match")

    @property
    def forbids_replacing(self) -> bool:
        """Whether the record must not exist yet (``If-None-Match: *``)."""
        return self._if_none_match == "*"

    def check(self, record: dict[str, Any] | None) -> None:
        """Compare with ``record``, ``None`` if there is none. Raises ``PreconditionFailed``."""
        if record is None:
            if self._if_match is not None:
                raise PreconditionFailed(None)
            return
        if self.forbids_replacing or self._if_match not in (None, "*", record["last_modified"]):
            raise PreconditionFailed(record)

    def _parsed(self, name: str) -> int | str | None:
        """The timestamp in a header, ``"*"``, or ``None`` if it was not sent."""
        if name not in self.headers:
            return None
        sent = {name: self.headers[name]}
        try:
            value: int | str | None = HeaderSchema().deserialize(sent).get(name)
        except (colander.Invalid, ValueError):
            # Kinto's pattern lets `*"1"` pass, and then reads a number from it.
            description = HeaderQuotedInteger.error_message
            raise InvalidParameter("header", name, description) from None
        return value
