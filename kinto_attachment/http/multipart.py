"""A streaming ``multipart/form-data`` reader (RFC 7578).

The file part goes to a sink, chunk by chunk; the two small fields are collected, within limits.
What is held in memory does not depend on the size of the body.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote

from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from kinto_attachment.http.body import CHUNK_BYTES, MalformedBody, Stream, chunks

FILE = "attachment"
FIELDS = ("data", "permissions")
MAX_FIELD_BYTES = 1024 * 1024

# A rest shorter than this is parsed together with what comes before it.
_TAIL_BYTES = 1024
# RFC 5987, section 3.2.1: the charsets that a recipient has to know.
_EXTENDED_FILENAME = re.compile(
    r";\s*filename\*\s*=\s*\"?(utf-8|iso-8859-1)'[^']*'([^\s;\"]*)\"?", re.IGNORECASE
)


class MalformedForm(MalformedBody):
    """The body is not the form that it should be."""


class UnexpectedPart(Exception):
    """The form is well-formed, but one of its parts is missing, unknown, or sent twice."""


class FieldTooLarge(Exception):
    """One of the fields is larger than ``MAX_FIELD_BYTES``."""


@dataclass(frozen=True)
class FilePart:
    """What the client says of the file: its name, and its media type if it gave one."""

    filename: str
    content_type: str | None


class Sink(Protocol):
    """What takes the file."""

    def write(self, chunk: bytes, /) -> object:
        """Take the next bytes of it."""
        ...


AnySink = TypeVar("AnySink", bound=Sink)


def boundary_of(content_type: str | None) -> str:
    """The boundary in a Content-Type header. Raises ``MalformedForm``."""
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
    """Read a form to its end. Returns what took the file, and the fields.

    ``length`` is the body's size in bytes, ``None`` if only the end of ``stream`` tells.
    ``open_file`` is called with the file part once its headers are known, and returns what the
    chunks of the file are then written to.
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
            for chunk in _chunks(stream, length):
                form.take(parser.parse(chunk))
                # Not in memory any more while the next one is read.
                del chunk
    except MultipartError as error:
        raise MalformedForm(f"body: {error.args[0]}.") from None
    if form.file is None:
        raise UnexpectedPart("Attachment missing.")
    return form.file, {name: bytes(content) for name, content in form.fields.items()}


class _Form(Generic[AnySink]):
    """The parts of a form as they come."""

    def __init__(self, open_file: Callable[[FilePart], AnySink]) -> None:
        self.file: AnySink | None = None
        self.fields: dict[str, bytearray] = {}
        self.receive: Callable[[bytes], object] = len
        """What takes the next bytes of the part that came last."""
        self._open_file = open_file

    def take(self, events: Iterable[MultipartSegment | bytes | None]) -> None:
        """Take what the parser has found."""
        for event in events:
            if isinstance(event, MultipartSegment):
                self._start(event)
            elif event is not None:
                self.receive(event)

    def _start(self, part: MultipartSegment) -> None:
        if part.name == FILE:
            if self.file is not None:
                raise UnexpectedPart("Only one attachment is accepted.")
            self.file = self._open_file(FilePart(_filename(part), part.content_type))
            self.receive = self.file.write
        elif part.name not in FIELDS:
            raise UnexpectedPart(f"body: {part.name!r} not in {FIELDS}")
        elif _disposition_filename(part) is not None:
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
                raise FieldTooLarge(
                    f"body: {name} is larger than {MAX_FIELD_BYTES} bytes: send the rest with a "
                    "PATCH of the record."
                )
            content.extend(chunk)

        self.receive = receive


def _chunks(stream: Stream, length: int | None) -> Iterator[bytes]:
    """Read the body in chunks of a bounded size.

    The strict parser refuses a chunk that comes after the last boundary. Many clients end the body
    with CRLF, so a short rest is never left alone.
    """
    remaining = length
    held = b""
    for chunk in chunks(stream, length):
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
    """The file's name, without folders and control characters."""
    sent = _disposition_filename(part)
    if sent is None:
        raise MalformedForm("body: Filename is required.")
    return clean_filename(sent)


def clean_filename(sent: str) -> str:
    """The name without folders and control characters. Raises ``MalformedForm``."""
    name = re.split(r"[/\\]", sent)[-1]
    # Line and paragraph separators break lines as control characters do.
    name = "".join(c for c in name if unicodedata.category(c) not in ("Cc", "Zl", "Zp"))
    if name.strip() in ("", ".", ".."):
        raise MalformedForm("body: Filename is required.")
    return name


def _disposition_filename(part: MultipartSegment) -> str | None:
    """``filename``, else a lone ``filename*`` (RFC 5987), which some clients still send."""
    if part.filename is not None:
        return part.filename
    disposition = part.header("Content-Disposition", "")
    if not re.search(r";\s*filename\*", disposition, re.IGNORECASE):
        return None
    match = _EXTENDED_FILENAME.search(disposition)
    try:
        if match is None:
            raise ValueError
        return unquote(match[2], encoding=match[1], errors="strict")
    except ValueError:
        raise MalformedForm("body: Filename cannot be decoded.") from None
