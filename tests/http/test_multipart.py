"""The form reader, where HTTP cannot steer it: how the body is cut into chunks."""

from __future__ import annotations

import tracemalloc
from io import BytesIO

import pytest

from kinto_attachment.errors import ConnectionLost, MalformedBody
from kinto_attachment.http.body import chunks
from kinto_attachment.http.multipart import read_form
from tests.support.forms import BOUNDARY, field_part, file_part, form

CHUNK = 128 * 1024


class Cut:
    """A stream that gives at most so many bytes at a time."""

    def __init__(self, content: bytes, *sizes: int) -> None:
        self._stream = BytesIO(content)
        self._sizes = list(sizes)

    def read(self, size: int) -> bytes:
        if len(self._sizes) > 1:
            return self._stream.read(min(size, self._sizes.pop(0)))
        return self._stream.read(min(size, self._sizes[0]))


def read(stream, length, boundary=BOUNDARY):
    sink, fields = read_form(stream, length, boundary, lambda part: BytesIO())
    return sink.getvalue(), fields


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1023, 1024, 1025])
def test_the_chunks_of_the_stream_do_not_matter(size):
    content = b"x\r\n--" * 500
    body = form([field_part("data", "{}"), file_part(content)])

    assert read(Cut(body, size), len(body)) == (content, {"data": b"{}"})
    assert read(Cut(body, size), None) == (content, {"data": b"{}"})


@pytest.mark.parametrize("rest", range(6))
def test_the_end_of_the_form_may_be_cut_anywhere(rest):
    bare = len(form([file_part(b"")]))
    content = b"x" * (2 * CHUNK - bare + rest)
    body = form([file_part(content)])
    assert len(body) == 2 * CHUNK + rest

    assert read(BytesIO(body), len(body))[0] == content
    assert read(BytesIO(body), None)[0] == content
    assert read(Cut(body, len(body) - rest, CHUNK), None)[0] == content


def test_no_more_is_read_than_was_announced():
    body = form([file_part(b"content")])
    stream = BytesIO(body + b"of the next request")

    read(stream, len(body))

    assert stream.read() == b"of the next request"


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), OSError("gone")])
def test_a_connection_that_breaks(error):
    class Broken:
        def read(self, size: int) -> bytes:
            raise error

    with pytest.raises(ConnectionLost, match="connection was lost"):
        read(Broken(), 100)


@pytest.mark.parametrize("error", [ValueError("zz"), Exception("a bad trailer"), EOFError()])
def test_a_server_that_cannot_read_the_body(error):
    class Malformed:
        def read(self, size: int) -> bytes:
            raise error

    with pytest.raises(MalformedBody, match="chunks are malformed"):
        read(Malformed(), None)


def stream_of_gunicorn(*events):
    """A stream that gives or raises these, and then ends."""
    left = list(events)

    def read(self, size):
        event = left.pop(0) if left else b""
        if isinstance(event, Exception):
            raise event
        return event

    return type("Body", (), {"__module__": "gunicorn.http.body", "read": read})()


@pytest.mark.parametrize("end", [b"", OSError()])
def test_what_gunicorn_has_read_before_an_error_counts(end):
    events = (b"first", ValueError("zz"), b"second", b"third", end)
    body = chunks(stream_of_gunicorn(*events), None)

    assert [next(body), next(body), next(body)] == [b"first", b"second", b"third"]
    with pytest.raises(MalformedBody):
        next(body)


def test_nothing_more_is_read_of_a_client_that_has_fallen_silent():
    body = chunks(stream_of_gunicorn(TimeoutError(), b"late"), None)

    with pytest.raises(ConnectionLost):
        next(body)


def test_memory_does_not_grow_with_the_body():
    class Endless:
        """A form of 64 MiB, made while it is read."""

        def __init__(self) -> None:
            self.head = form([file_part(b"")])[: -len(BOUNDARY) - 8]
            self.left = 512
            self.tail = f"\r\n--{BOUNDARY}--\r\n".encode()

        def read(self, size: int) -> bytes:
            if self.head:
                head, self.head = self.head, b""
                return head
            if self.left:
                self.left -= 1
                return b"x" * CHUNK
            tail, self.tail = self.tail, b""
            return tail

    class Counter:
        size = 0

        def write(self, chunk: bytes) -> None:
            self.size += len(chunk)

    tracemalloc.start()
    try:
        sink, _ = read_form(Endless(), None, BOUNDARY, lambda part: Counter())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert sink.size == 512 * CHUNK
    assert peak < 2 * 1024 * 1024
