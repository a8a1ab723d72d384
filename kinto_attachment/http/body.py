"""The body of a request, read as it comes in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, Protocol

# A small form is read at once; much behind its end is seen to be too much.
_FIRST_CHUNK_BYTES = 128 * 1024
# Gunicorn receives 1 MiB at a time, and copies what is left of it after each smaller read.
CHUNK_BYTES = 512 * 1024


# Some times what servers receive at once (gunicorn: 1 MiB), with the copies that they make of it.
_BLOCK_BYTES = 8 * 1024 * 1024


class MalformedBody(Exception):
    """The body cannot be read; the message says why."""


class ConnectionLost(MalformedBody):
    """The client went away before the end of the body."""

    def __init__(self) -> None:
        super().__init__("body: the connection was lost.")


class Stream(Protocol):
    """``wsgi.input`` (PEP 3333)."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none of them at the end."""
        ...


def content_length(environ: Mapping[str, Any]) -> int | None:
    """The size of the body in bytes; ``None`` if only its end will tell.

    Raises ``MalformedBody``.
    """
    declared = environ.get("CONTENT_LENGTH")
    if declared:
        # int() takes other digits, too, and no more than a few thousand of them.
        if not re.fullmatch(r"[0-9]{1,18}", declared):
            raise MalformedBody("Content-Length should be a number of bytes")
        return int(declared)
    return None if environ.get("wsgi.input_terminated") else 0


def taken(environ: dict[str, Any]) -> Any:
    """The body's stream, which the request then no longer keeps open."""
    stream = environ["wsgi.input"]
    environ["wsgi.input"] = BytesIO()
    environ["CONTENT_LENGTH"] = "0"
    return stream


def chunks(stream: Stream, length: int | None) -> Iterator[bytes]:
    """Read a body of ``length`` bytes, or to its end, in chunks of a bounded size.

    It may end early. Raises ``ConnectionLost`` where the server tells so.
    """
    remaining = length
    largest = _FIRST_CHUNK_BYTES
    while remaining is None or remaining > 0:
        size = largest if remaining is None else min(largest, remaining)
        largest = CHUNK_BYTES
        try:
            chunk = stream.read(size)
        except OSError as error:
            raise ConnectionLost() from error
        if not chunk:
            return
        if remaining is not None:
            remaining -= len(chunk)
        yield chunk
        # Not held while the next one is read.
        del chunk


def keep_freed_memory() -> None:
    """Let the next chunk have the memory of the one before.

    glibc gives free memory back to the system when it is more than twice the largest block that
    was freed so far, at first 128 KiB. The next chunk then gets it anew, page by page: an upload
    took twice the processor time. So free one large block, which nobody has written to. Where an
    operator has set the limits, they stay; other C libraries do not have them.

    https://man7.org/linux/man-pages/man3/mallopt.3.html, M_MMAP_THRESHOLD
    """
    bytes(_BLOCK_BYTES)
