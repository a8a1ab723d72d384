"""A JSON object that comes with a file: the ``data`` or ``permissions`` of its record."""

from __future__ import annotations

from typing import Any

from kinto.core.utils import json

from kinto_attachment.errors import InvalidField

# Kinto copies objects recursively, and PostgreSQL has no NUL in a text.
_MAX_DEPTH = 200
_NUL = "\x00"
# The years 1 to 9999, which a date in a header can have. In milliseconds since 1970.
_FIRST_TIMESTAMP, _LAST_TIMESTAMP = -62_135_596_800_000, 253_402_300_799_999


def json_object(name: str, text: bytes) -> dict[str, Any]:
    """Parse the field ``name``. Raises ``InvalidField`` unless a record can store it."""
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


def _check_values(name: str, content: Any) -> None:
    # Level by level: recursion is what the limit guards against.
    level, depth = [content], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise InvalidField(f"body: {name} is nested more than {_MAX_DEPTH} levels deep")
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and _NUL in value:
                raise InvalidField(f"body: {name} has a NUL character (\\u0000)")
        level = below
