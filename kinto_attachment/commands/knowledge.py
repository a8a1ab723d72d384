"""What the database knows of a stored file: whether it is in use, and what to store it as."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard

from kinto_attachment.attachments.holder import Holder
from kinto_attachment.commands.site import Site
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
    with site.references() as references:
        row = references.file(name) or {"gone": True}
        records: list[tuple[Holder, Mapping[str, Any]]] = []
        # Kept files have no holders: the records need not be asked.
        if "gone" in row or (row["holders"] and row["mimetype"] is None):
            records += references.showing([name], scan=True).get(name, ())
    if "gone" in row and not records and name not in site.needed():
        return None
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
