"""Attachments that are on a server before anything is measured: the rows of one that was really
uploaded, over and over with other names.

Used by the benchmark, and inside of the servers, which find no other module of it: the setting
``seeds.template`` is a file with these rows, ``seeds.count`` how many attachments there are.
"""

from __future__ import annotations

import gc
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORD_URI = "/buckets/b/collections/c/records/{}"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_PLACEHOLDERS = ("@digest-of-uri@", "@digest-of-name@", "@name@", "@record@")

Row = list[str]
"""The table, and the columns as text."""


def names(record_id: str, file_name: str) -> dict[str, str]:
    """What differs between the rows of two attachments with the same content, by placeholder."""
    uri = RECORD_URI.format(record_id)
    digests = (hashlib.sha256(text.encode()).hexdigest() for text in (uri, file_name))
    return dict(zip(_PLACEHOLDERS, (*digests, file_name, record_id), strict=True))


def template(rows: list[Row], record_id: str, file_name: str) -> list[Row]:
    """The rows of one attachment, with placeholders for what is its own; those that have nothing
    of its own are left out."""
    found = []
    for row in rows:
        text = json.dumps(row)
        for placeholder, value in names(record_id, file_name).items():
            text = text.replace(value, placeholder)
        # A row may have a random id.
        text = _UUID.sub("@random@", text)
        if any(placeholder in text for placeholder in _PLACEHOLDERS):
            found.append(json.loads(text))
    return sorted(found)


def rows(of_one: list[Row], count: int) -> Iterator[Row]:
    """The rows of ``count`` attachments."""
    text = json.dumps(of_one)
    for number in range(count):
        filled = text
        for placeholder, value in names(f"seed-{number}", f"{_uuid()}.bin").items():
            filled = filled.replace(placeholder, value)
        while "@random@" in filled:
            filled = filled.replace("@random@", _uuid(), 1)
        yield from json.loads(filled)


def includeme(config: Any) -> None:
    """Put the rows into Kinto's memory backends."""
    settings = config.get_settings()
    storage, permission = config.registry.storage, config.registry.permission
    of_one = json.loads(Path(settings["seeds.template"]).read_text())
    # There is no garbage among what is made here to stay.
    gc.disable()
    for table, *columns in rows(of_one, int(settings["seeds.count"])):
        if table == "objects":
            object_id, parent_id, resource_name, data = columns
            storage.update(
                resource_name=resource_name,
                parent_id=parent_id,
                object_id=object_id,
                obj=json.loads(data),
            )
        elif table == "access_control_entries":
            permission.add_principal_to_ace(*columns)
    gc.enable()


def _uuid() -> str:
    return str(uuid.uuid4())
