"""Objects as the JSON API writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from tests.support.servers.gcs.bucket import StoredObject
from tests.support.servers.gcs.errors import invalid

_GRANTS = {
    "authenticatedRead": ("allAuthenticatedUsers", "READER"),
    "publicRead": ("allUsers", "READER"),
}


def resource_of(stored: StoredObject, endpoint: str, full: bool) -> dict[str, Any]:
    """https://cloud.google.com/storage/docs/json_api/v1/objects#resource; ``full`` with ACL."""
    path = f"b/{stored.bucket}/o/{quote(stored.name, safe='')}"
    resource: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "selfLink": f"{endpoint}/storage/v1/{path}",
        "mediaLink": (
            f"{endpoint}/download/storage/v1/{path}?generation={stored.generation}&alt=media"
        ),
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "storageClass": "STANDARD",
        "size": str(stored.size),
        "crc32c": stored.crc32c,
        "etag": etag_of(stored),
        "timeCreated": _time(stored.created),
        "updated": _time(stored.updated or stored.created),
        "timeStorageClassUpdated": _time(stored.created),
        "timeFinalized": _time(stored.created),
        **stored.properties,
    }
    if stored.component_count:
        resource["componentCount"] = stored.component_count
    elif stored.md5:
        resource["md5Hash"] = stored.md5
    if full:
        entity, role = _GRANTS.get(stored.acl or "", ("", ""))
        grants = [(entity, role)] if entity else []
        resource["acl"] = [
            {"kind": "storage#objectAccessControl", "entity": entity, "role": role}
            for entity, role in [("project-owners-1", "OWNER"), *grants]
        ]
    return resource


def etag_of(stored: StoredObject) -> str:
    return f"{stored.generation:x}/{stored.metageneration}"


def partial(value: Any, fields: str) -> Any:
    """Only the ``fields`` of an answer: ``items(name,size),nextPageToken``, ``items/name``.

    https://cloud.google.com/storage/docs/json_api#partial-response
    """
    if isinstance(value, list):
        return [partial(each, fields) for each in value]
    if not isinstance(value, dict):
        return value
    kept: dict[str, Any] = {}
    for selector in _split(fields):
        match = re.fullmatch(r"([\w*]+)(?:/(.+)|\((.+)\))?", selector)
        if match is None:
            raise invalid(f"Invalid field selection {selector}", "invalidParameter")
        inner = match[2] or match[3]
        for key in value if match[1] == "*" else [match[1]]:
            if key in value:
                kept[key] = partial(value[key], inner) if inner else value[key]
    return kept


def _split(fields: str) -> Iterator[str]:
    depth, start = 0, 0
    for position, character in enumerate(fields):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            yield fields[start:position]
            start = position + 1
    yield fields[start:]


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
