"""Reading ``multipart/form-data`` (RFC 7578) as it comes in.

The file goes to a sink, chunk by chunk; two small fields are collected, within limits. Memory
does not depend on the size of the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from kinto_attachment.errors import FieldTooLarge, MalformedForm, UnexpectedPart
from kinto_attachment.http.body import CHUNK_BYTES, Stream, chunks
from kinto_attachment.http.filename import clean_filename, sent_filename

FILE = "attachment"
FIELDS = ("data", "permissions")
MAX_FIELD_BYTES = 1024 * 1024

# Parse a shorter rest together with what comes before it.
_TAIL_BYTES = 1024
# RFC 2045, section 6.2: the content is as it is.
_IDENTITY = ("", "identity", "binary", "8bit", "7bit")


@dataclass(frozen=True)
class FilePart:
    """The headers of the file: its name, and its media type if the client declares one."""

    filename: str
    content_type: str | None


class Sink(Protocol):
    """Where the file goes."""

    def write(self, chunk: bytes, /) -> object:
        """Append the next bytes."""
        ...


AnySink = TypeVar("AnySink", bound=Sink)


def boundary_of(content_type: str | None) -> str:
    """Return the boundary in a Content-Type header. Raises ``MalformedForm``."""
    media_type, options = parse_options_header(content_type or "")
    if media_type != "multipart/form-data":
        raise MalformedForm("Content-Type should be multipart/form-data")
    boundary = options.get("boundary")
    if not boundary:
        raise MalformedForm("Content-Type should be multipart/form-data with a boundary")
    return boundary


def read_form(
    stream: Stream, length: int | None, boundary: str, open_file: Callable[[FilePart], AnySink]
) -> tuple[AnySink, dict[str, bytes]]:
    """Read a form to its end. Return the sink of its file, and its fields.

    ``length`` is the body's size in bytes, ``None`` if only the end of ``stream`` tells.
    ``open_file`` returns the sink once the headers of the file are known.
    Raises ``MalformedBody``, ``UnexpectedPart``, ``FieldTooLarge``, and what ``open_file`` and the
    sink raise.
    """
    form = _Form(open_file)
    try:
        parser = PushMultipartParser(
            boundary,
            content_length=-1 if length is None else length,
            max_segment_count=1 + len(FIELDS) + 1,
            strict=True,
        )
        with parser:
            for chunk in _joined(chunks(stream, length), length):
                form.take(parser.parse(chunk))
                # Release it before the next read.
                del chunk
    except MultipartError as error:
        raise MalformedForm(f"body: {error.args[0]}.") from None
    if form.file is None:
        raise UnexpectedPart("Attachment missing.")
    return form.file, {name: bytes(content) for name, content in form.fields.items()}


class _Form(Generic[AnySink]):
    """The parts of a form, as the parser finds them."""

    def __init__(self, open_file: Callable[[FilePart], AnySink]) -> None:
        self.file: AnySink | None = None
        self.fields: dict[str, bytearray] = {}
        self._open_file = open_file
        self._receive: Callable[[bytes], object]

    def take(self, events: Iterable[MultipartSegment | bytes | None]) -> None:
        """Take the start of a part (a segment), some of its content, or its end (``None``)."""
        for event in events:
            if isinstance(event, MultipartSegment):
                self._start(event)
            elif event is not None:
                self._receive(event)

    def _start(self, part: MultipartSegment) -> None:
        _check_encoding(part)
        if part.name == FILE:
            if self.file is not None:
                raise UnexpectedPart("Only one attachment is accepted.")
            self.file = self._open_file(FilePart(_filename(part), part.content_type))
            self._receive = self.file.write
        elif part.name not in FIELDS:
            raise UnexpectedPart(f"body: {part.name!r} not in {FIELDS}")
        elif _sent_filename(part) is not None:
            raise UnexpectedPart(
                f"body: {part.name!r} field should be passed as form data, not files"
            )
        elif part.name in self.fields:
            raise UnexpectedPart(f"body: {part.name!r} field should be passed once")
        else:
            self._collect(part.name)

    def _collect(self, name: str) -> None:
        content = self.fields[name] = bytearray()

        def receive(chunk: bytes) -> None:
            if len(content) + len(chunk) > MAX_FIELD_BYTES:
                raise FieldTooLarge(name=name, limit=MAX_FIELD_BYTES)
            content.extend(chunk)

        self._receive = receive


def _joined(body: Iterator[bytes], length: int | None) -> Iterator[bytes]:
    """Join a short last chunk to the one before it.

    The strict parser refuses a chunk after the last boundary, and many clients end the body with
    CRLF.
    """
    remaining = length
    held = b""
    for chunk in body:
        if remaining is not None:
            remaining -= len(chunk)
        if held and (len(chunk) >= _TAIL_BYTES or len(held) > CHUNK_BYTES):
            yield held
            held = b""
        held += chunk
        del chunk
        if remaining is not None and remaining >= _TAIL_BYTES:
            yield held
            held = b""
    if held:
        yield held


def _filename(part: MultipartSegment) -> str:
    sent = _sent_filename(part)
    if sent is None:
        raise MalformedForm("body: Filename is required.")
    return clean_filename(sent)


def _sent_filename(part: MultipartSegment) -> str | None:
    return sent_filename(part.header("Content-Disposition", ""))


def _check_encoding(part: MultipartSegment) -> None:
    """Refuse content that is not sent as it is (RFC 7578, section 4.7)."""
    for name in ("Content-Transfer-Encoding", "Content-Encoding"):
        encoding = part.header(name, "").strip().lower()
        if encoding not in _IDENTITY:
            raise MalformedForm(
                f"body: {part.name!r} has the {name} {encoding!r}: send its bytes as they are."
            )
