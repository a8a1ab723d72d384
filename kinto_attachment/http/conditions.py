"""Conditional requests for a file (RFC 9110, section 13), and byte ranges of it (section 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from kinto_attachment.errors import FileModified, RangeNotSatisfiable

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_DAY = r"(?P<day>[ 0][1-9]|[12]\d|3[01])"
_TIME = r"(?P<time>(?:[01]\d|2[0-3]):[0-5]\d:[0-6]\d)"
# Section 5.6.7: the format to send, and two that are obsolete.
_DATES = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"[A-Z][a-z]{{2}}, {_DAY} {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT",
        rf"[A-Z][a-z]{{5,8}}, {_DAY}-{_MONTH}-(?P<year>\d\d) {_TIME} GMT",
        rf"[A-Z][a-z]{{2}} {_MONTH} {_DAY} {_TIME} (?P<year>\d{{4}})",
    )
)
_ETAG = re.compile(r'(W/)?"([^"\x00-\x20\x7f]*)"')
# More digits than a size has are no range.
_RANGE = re.compile(r"bytes=\s*(\d{0,20})-(\d{0,20})\s*", re.ASCII | re.IGNORECASE)

# Year, month, day, and the time as text. Unlike a ``datetime``, it has any year.
_Date = tuple[int, int, int, str]


@dataclass(frozen=True)
class Validators:
    """What tells versions of a file apart: its strong ETag, if it has one, and its date."""

    etag: str | None
    modified: datetime

    def check(self, headers: Mapping[str, str]) -> bool:
        """Evaluate the preconditions in the order of section 13.2.2. Return ``False`` if the
        client has the file already. Raises ``FileModified``."""
        if "If-Match" in headers:
            if not self._is_in(headers["If-Match"], weak=False):
                raise FileModified()
        elif (since := _parsed(headers.get("If-Unmodified-Since"))) and self._date > since:
            raise FileModified()
        if "If-None-Match" in headers:
            return not self._is_in(headers["If-None-Match"], weak=True)
        since = _parsed(headers.get("If-Modified-Since"))
        return since is None or self._date > since

    def allow_range(self, if_range: str | None) -> bool:
        """Whether ``If-Range`` lets a range be sent (section 13.1.5)."""
        if if_range is None:
            return True
        match = _ETAG.fullmatch(if_range.strip())
        if match:
            return match[1] is None and match[2] == self.etag
        return _parsed(if_range) == self._date

    @property
    def _date(self) -> _Date:
        utc = self.modified.astimezone(timezone.utc)
        return utc.year, utc.month, utc.day, f"{utc:%H:%M:%S}"

    def _is_in(self, listed: str, *, weak: bool) -> bool:
        if listed.strip() == "*":
            return True
        return any(
            match[2] == self.etag and (weak or match[1] is None)
            for match in _ETAG.finditer(listed)
        )


def byte_range(asked: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last that ``Range`` asks for; ``None`` is the
    whole file: for several ranges, and for what is no range.

    Raises ``RangeNotSatisfiable``.
    """
    match = _RANGE.fullmatch(asked.strip()) if asked else None
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size) if last else None
    start, stop = int(first), int(last) + 1 if last else size
    if last and stop <= start:
        return None
    if start >= size:
        raise RangeNotSatisfiable(size=size)
    return start, min(stop, size)


def _suffix(length: int, size: int) -> tuple[int, int] | None:
    if not length:
        raise RangeNotSatisfiable(size=size)
    # An empty file has no range that could be sent.
    return (max(0, size - length), size) if size else None


def _parsed(text: str | None) -> _Date | None:
    """Parse a date. Return ``None`` if it is none, which counts as if it were not sent."""
    for pattern in _DATES:
        if match := pattern.fullmatch((text or "").strip()):
            year = int(match["year"])
            if len(match["year"]) == 2:
                # Section 5.6.7: not more than 50 years in the future.
                now = datetime.now(timezone.utc).year
                year += now - now % 100
                year -= 100 if year > now + 50 else 0
            return year, _MONTHS.index(match["month"]) + 1, int(match["day"]), match["time"]
    return None
