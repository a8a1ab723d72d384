"""Which stored file a location may mean, whatever base URL stands before the file's name.

Liberal, to keep files: strict is ``References``, which decides what clients may write.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import md5
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


def digests_of(name: str) -> list[str]:
    """Return the digests of the last segment that a location of the file may have.

    The index on Kinto's objects is of these: a client may write a location that is longer than
    what PostgreSQL indexes.
    """
    segment = name.rpartition("/")[2]
    return sorted({_digest(segment), _digest(quote(segment, safe=""))})


def may_be_same_file(attachment: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Whether ``attachment`` may describe the file of ``metadata``: not if both have a hash, and
    another one."""
    one, other = attachment.get("hash"), metadata.get("hash")
    return one is None or other is None or one == other


def _digest(segment: str) -> str:
    return md5(segment.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
