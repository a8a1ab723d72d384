"""Which stored file a location may mean, whatever base URL stands before the file's name.

Liberal, to keep files: strict is ``References``, which decides what clients may write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

MAX_SEGMENTS = 20
"""Longer names are not looked for: a client may write any location."""


def names_in(location: Any) -> list[str]:
    """Return the names that ``location`` may end with, the longest first.

    A name is the whole location or what follows a slash, raw or percent-encoded.
    """
    if not isinstance(location, str):
        return []
    found: dict[str, None] = {}
    for text in (location, unquote(location)):
        segments = text.rsplit("/", MAX_SEGMENTS)[-MAX_SEGMENTS:]
        # A name has no empty segment, and so neither what "https://" ends with.
        while "" in segments:
            del segments[: segments.index("") + 1]
        found.update(("/".join(segments[first:]), None) for first in range(len(segments)))
    return sorted(found, key=len, reverse=True)


def last_segments(name: str) -> list[str]:
    """Return the last segments that a location of the file may have: raw, and percent-encoded."""
    segment = name.rpartition("/")[2]
    return sorted({segment, quote(segment)})


def may_be_same_file(attachment: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Whether ``attachment`` may describe the file of ``metadata``: not if both have a hash, and
    another one."""
    one, other = attachment.get("hash"), metadata.get("hash")
    return one is None or other is None or one == other
