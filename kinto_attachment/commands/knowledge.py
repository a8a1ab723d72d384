"""What the database knows of a stored file: whether it is in use, and what to store it as."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard

from kinto_attachment.attachments.holder import Holder
from kinto_attachment.commands.site import Site
from kinto_attachment.database.objects import Object
from kinto_attachment.database.rows import Row
from kinto_attachment.settings import CollectionSettings, Settings
from kinto_attachment.storage.media_types import is_media_type, runs_scripts

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Knowledge(NamedTuple):
    """What is known of a file in use, from its row, else from the records that reference it.
    ``None`` is not known."""

    sha256: str | None
    content_type: str | None
    settings: CollectionSettings
    """Those of the file's collection."""


def look_up(site: Site, settings: Settings, name: str) -> Knowledge | None:
    """Ask the database what it knows of a file now, ``None`` if nobody needs it any more."""
    found = _find(site, name)
    if found is None:
        # An upload that needs it no more has written its record.
        found = ({}, []) if name in site.needed() else _find(site, name)
    if found is None:
        return None
    row, records = found
    holders = [*map(Holder.at, row.get("holders", ())), *(holder for holder, _ in records)]
    own = settings.defaults
    if holders:
        own = settings.for_collection(holders[0].bucket_id, holders[0].collection_id)
    attachments = [attachment for _, attachment in records]
    return Knowledge(
        row.get("hash") or _hash_of(attachments),
        row.get("mimetype") or _type_of(attachments, own),
        own,
    )


def _find(site: Site, name: str) -> tuple[Row, list[tuple[Holder, Object]]] | None:
    """Return the file's row, and the records that reference it where the row does not tell all;
    ``None`` if it is in no use."""
    with site.references() as references:
        row = references.file(name) or {}
        in_use = bool(row) and "gone" not in row
        if in_use and (row["mimetype"] is not None or not row["holders"]):
            return row, []
        records = references.showing([name], scan=True).get(name, [])
    return (row, records) if in_use or records else None


def is_content_type(text: Any) -> TypeGuard[str]:
    """Whether ``text`` is a media type, maybe with parameters, that may stand in a header."""
    return (
        isinstance(text, str)
        and text.isascii()
        and text.isprintable()
        and is_media_type(text.partition(";")[0].strip())
    )


def _hash_of(attachments: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the SHA-256 that all records agree on: any client may write a record."""
    values = [attachment.get("hash") for attachment in attachments]
    hashes = {each for each in values if isinstance(each, str) and _SHA256.fullmatch(each)}
    return hashes.pop() if len(hashes) == 1 else None


def _type_of(attachments: Iterable[Mapping[str, Any]], settings: CollectionSettings) -> str | None:
    """Return the first media type of a record that may be believed, as it would of an upload."""
    for attachment in attachments:
        declared = attachment.get("mimetype")
        if is_content_type(declared) and not (settings.extensions and runs_scripts(declared)):
            return declared
    return None
