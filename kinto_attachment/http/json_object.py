"""A JSON object that comes with a file: the ``data`` or ``permissions`` of its record."""

from __future__ import annotations

import re
from typing import Any

from kinto.core.utils import json

from kinto_attachment.errors import InvalidField

# Kinto copies objects recursively, and schemas look at each value: 20,000 take 0.1 s and 10 MiB.
MAX_DEPTH = 200
MAX_VALUES = 20_000
# A string goes to the end of the text if it is not closed: nothing is looked at twice.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[][{},]', re.DOTALL)
# PostgreSQL has none in a text.
_NUL = "\x00"
# The years 1 to 9999, which a date in a header can have. In milliseconds since 1970.
_FIRST_TIMESTAMP, _LAST_TIMESTAMP = -62_135_596_800_000, 253_402_300_799_999


def json_object(name: str, text: bytes) -> dict[str, Any]:
    """Parse the field ``name``. Raises ``InvalidField`` unless a record can store it."""
    _check_structure(name, text)
    try:
        content = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidField(f"body: {name} is not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise InvalidField(f"body: {name} is not a JSON object")
    _check_values(name, content)
    if not _is_timestamp_or_ignored(content.get("last_modified")):
        raise InvalidField(f"body: {name}.last_modified is not a timestamp in milliseconds")
    return content


def _is_timestamp_or_ignored(value: Any) -> bool:
    """Whether Kinto can store ``last_modified``; it ignores anything but a number."""
    if isinstance(value, bool):
        return False
    return not isinstance(value, int) or _FIRST_TIMESTAMP <= value <= _LAST_TIMESTAMP


def _check_structure(name: str, text: bytes) -> None:
    """Bound the work before it is done: a MiB of brackets would make 350,000 lists."""
    depth = values = 0
    for match in _TOKEN.finditer(text):
        token = match[0][:1]
        if token in b"]}":
            depth -= 1
        elif token != b'"':
            values += 1
            depth += token != b","
        if depth > MAX_DEPTH:
            # A limit that a parser may have: RFC 8259, section 9.
            raise InvalidField(
                f"body: {name} is not valid JSON (nested more than {MAX_DEPTH} levels deep)"
            )
        if values > MAX_VALUES:
            raise InvalidField(f"body: {name} has more than {MAX_VALUES} values")


def _check_values(name: str, content: Any) -> None:
    # Level by level: no level needs a frame of its own.
    level = [content]
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and _NUL in value:
                raise InvalidField(f"body: {name} has a NUL character (\\u0000)")
        level = below
