"""The body of a request, read in chunks of a bounded size as it comes in."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any, Protocol

from kinto_attachment.errors import ConnectionLost, MalformedBody

# Receive a small form in one read, and little behind the end of a form that is too large.
_FIRST_CHUNK_BYTES = 128 * 1024
# Gunicorn receives 1 MiB at a time, and copies what is left of it after each smaller read.
CHUNK_BYTES = 512 * 1024
# Several times what servers receive at once (gunicorn: 1 MiB), with the copies that they make.
_BLOCK_BYTES = 8 * 1024 * 1024
_M_ARENA_MAX = -8
_TUNABLES = "GLIBC_TUNABLES"


class Stream(Protocol):
    """``wsgi.input``. https://peps.python.org/pep-3333/#input-and-error-streams"""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none of them at the end."""
        ...


def content_length(environ: Mapping[str, Any]) -> int | None:
    """Return the size of the body in bytes; ``None`` if only its end tells.

    Raises ``MalformedBody``.
    """
    declared = environ.get("CONTENT_LENGTH")
    if declared:
        # int() accepts other digits, too, and no more than a few thousand of them.
        if not re.fullmatch(r"[0-9]{1,18}", declared):
            raise MalformedBody("Content-Length should be a number of bytes")
        return int(declared)
    return None if environ.get("wsgi.input_terminated") else 0


def take_stream(environ: dict[str, Any]) -> Any:
    """Return the body's stream, and leave an empty body in its place.

    The request lives until it is answered, and would keep the stream open.
    """
    stream = environ["wsgi.input"]
    environ["wsgi.input"] = BytesIO()
    environ["CONTENT_LENGTH"] = "0"
    return stream


def chunks(stream: Stream, length: int | None) -> Iterator[bytes]:
    """Yield a body of ``length`` bytes, or all up to its end, in chunks of a bounded size.

    The body may end early. Raises ``ConnectionLost`` where the server reports it, and
    ``MalformedBody`` if it cannot read a chunked body (RFC 9112, section 7.1).
    """
    remaining = length
    largest = _FIRST_CHUNK_BYTES
    while remaining is None or remaining > 0:
        size = largest if remaining is None else min(largest, remaining)
        largest = CHUNK_BYTES
        try:
            chunk = stream.read(size)
        except Exception as error:
            # Servers have exceptions of their own for it.
            yield from _read_before(stream, error)
            raise _refusal(error) from error
        if not chunk:
            return
        if remaining is not None:
            remaining -= len(chunk)
        yield chunk
        # Release it before the next read.
        del chunk


def _read_before(stream: Stream, error: Exception) -> Iterator[bytes]:
    """Yield what the server had read before it raised ``error``, and would forget.

    Gunicorn collects whole reads, and its parser ends with the error: what is left then was
    well-formed. Other servers may go on in the midst of what is malformed.
    """
    if not _is_of_gunicorn(stream) or isinstance(error, TimeoutError):
        return
    with suppress(Exception):
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _refusal(error: Exception) -> MalformedBody:
    if isinstance(error, OSError) and not _is_of_gunicorn(error):
        return ConnectionLost()
    return MalformedBody("body: its chunks are malformed, or end early.")


def _is_of_gunicorn(thing: object) -> bool:
    return type(thing).__module__.startswith("gunicorn.")


def keep_freed_memory() -> None:
    """Let the next chunk reuse the memory of the one before.

    glibc returns free memory to the system when it is more than twice the largest block that was
    freed so far, at first 128 KiB. The next chunk then gets it anew, page by page: an upload took
    twice the processor time. So free one large block that nobody has written to. Limits that an
    operator has set stay; other C libraries ignore the call.

    https://man7.org/linux/man-pages/man3/mallopt.3.html, M_MMAP_THRESHOLD
    """
    bytes(_BLOCK_BYTES)


def share_freed_memory() -> None:
    """Let a thread reuse the memory that another one has freed.

    glibc gives each thread an arena of its own, eight for each processor: eight uploads at a time
    kept 25 MiB in them. While Python has one lock for all threads, two arenas are as fast. A limit
    that an operator has set stays; other C libraries have no arenas.

    https://man7.org/linux/man-pages/man3/mallopt.3.html, M_ARENA_MAX
    """
    if "MALLOC_ARENA_MAX" in os.environ or "malloc.arena_max" in os.environ.get(_TUNABLES, ""):
        return
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
