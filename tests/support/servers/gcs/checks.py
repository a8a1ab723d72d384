"""What clients send, held against Google's rules: names, preconditions, metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from tests.support.servers.gcs.errors import invalid, not_modified, precondition_failed

_MAX_NAME = 1024
_MAX_METADATA = 8 * 1024
_TEXTS = (
    "contentType",
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "customTime",
    "storageClass",
)
_FLAGS = ("temporaryHold", "eventBasedHold")


class Generation(Protocol):
    """What preconditions look at."""

    generation: int
    metageneration: int


def number(parameter: str, value: str) -> int:
    """Read a number of a query. Raises ``GcsError`` (400)."""
    if not re.fullmatch(r"[0-9]{1,19}", value):
        raise invalid(f"Invalid value for {parameter}: '{value}'")
    return int(value)


def check_name(name: str) -> None:
    """Raise ``GcsError`` (400) for what cannot be an object's name."""
    if not name:
        raise invalid("Required", "required")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise invalid("Object name is not valid UTF-8.") from None
    if size > _MAX_NAME:
        raise invalid(
            f"The maximum object length is {_MAX_NAME} characters, but got a name with {size} "
            f"characters: ''{name[:64]}...''"
        )
    if "\r" in name or "\n" in name:
        raise invalid(f"Disallowed unicode characters present in object name {name!r}")
    if name in (".", "..") or name.startswith(".well-known/acme-challenge/"):
        raise invalid(f"Invalid object name: '{name}'")


def check_conditions(
    query: Mapping[str, str],
    stored: Generation | None,
    prefix: str = "if",
    *,
    is_read: bool = False,
) -> None:
    """Raise ``GcsError`` (412, or 304 of a read) where a precondition does not hold. A missing
    object has the generation 0."""
    actual = {
        "Generation": stored.generation if stored else 0,
        "Metageneration": stored.metageneration if stored else 0,
    }
    for kind, value in actual.items():
        for suffix, should_equal in (("Match", True), ("NotMatch", False)):
            parameter = f"{prefix}{kind}{suffix}"
            wanted = query.get(parameter)
            if wanted is None or (number(parameter, wanted) == value) == should_equal:
                continue
            raise not_modified() if is_read and not should_equal else precondition_failed()


def check_properties(resource: Mapping[str, Any]) -> dict[str, Any]:
    """What a client may set of an object, of all that it sent. Raises ``GcsError`` (400)."""
    properties: dict[str, Any] = {}
    for key in (*_TEXTS, *_FLAGS, "metadata"):
        if key not in resource:
            continue
        value = properties[key] = resource[key]
        kind = {"metadata": dict, **dict.fromkeys(_FLAGS, bool)}.get(key, str)
        has_kind = value is None or isinstance(value, kind)
        if not has_kind or (isinstance(value, str) and re.search(r"[\r\n]", value)):
            raise invalid(f"Invalid value for: {key}")
    if properties.get("customTime") is not None:
        _time(properties["customTime"])
    metadata = properties.get("metadata") or {}
    if not all(value is None or isinstance(value, str) for value in metadata.values()):
        raise invalid("Invalid value for: metadata")
    size = sum(len(key.encode()) + len((value or "").encode()) for key, value in metadata.items())
    if size > _MAX_METADATA:
        raise invalid("The metadata for your object is too large.")
    return properties


def check_custom_time(previous: str | None, changes: Mapping[str, Any]) -> None:
    if previous is None or "customTime" not in changes:
        return
    if changes["customTime"] is None or _time(changes["customTime"]) < _time(previous):
        raise invalid("Custom time cannot be unset or set to an earlier time.")


def _time(value: str) -> datetime:
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        raise invalid(f"Invalid value for: customTime: {value}") from None
