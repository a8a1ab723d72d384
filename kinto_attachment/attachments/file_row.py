"""What the row of a file says, beside what a record shows of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from kinto_attachment.attachments.inspection import Metadata
from kinto_attachment.attachments.locations import may_be_same_file
from kinto_attachment.database.objects import Object
from kinto_attachment.database.rows import Row
from kinto_attachment.storage.names import is_private


def meant(attachment: Object, holding: Row | None, files: Mapping[str, Row]) -> str | None:
    """Return which of ``files``, those that the location ends with, the record references.

    That is the one that it holds, else the one with the longest name.
    """
    possible = {
        name
        for name, row in files.items()
        if may_be_same_file(attachment, row) or metadata_matches(attachment, row, holding)
    }
    if holding is not None and holding["name"] in possible:
        name: str = holding["name"]
        return name
    return max(possible, key=len, default=None)


def metadata_matches(attachment: dict[str, Any], row: Row, holding: Row | None) -> bool:
    """Whether a record's ``attachment`` equals the metadata of the file of ``row``, or what the
    record's own ``holding`` has of it. Locations are not compared."""
    metadata = {key: value for key, value in attachment.items() if key != "location"}
    if _equal_as_json(metadata, metadata_of(row)):
        return True
    own = holding.get("shown") if holding and holding["name"] == row["name"] else None
    return own is not None and _equal_as_json(metadata, own)


def is_consistent(row: Row) -> bool:
    """Whether the row says of the file what its name does: whether it is private."""
    return is_private(row["name"]) == ("private" in row)


def _equal_as_json(one: Any, other: Any) -> bool:
    # In Python, unlike JSON, 1 equals 1.0 and True.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def metadata_of(row: Row) -> dict[str, Any]:
    """Return the ``attachment`` attribute of the file's holders, without its location."""
    known = {field.name: row[field.name] for field in fields(Metadata)}
    given = {key: value for key, value in known.items() if value is not None}
    return {**given, **row.get("extra", {})}
