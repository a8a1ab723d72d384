"""The content of an object, as it is sent: ranges, conditions, headers."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from email.utils import format_datetime

from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.bucket import StoredObject
from tests.support.servers.gcs.errors import precondition_failed, range_not_satisfiable
from tests.support.servers.gcs.resources import etag_of


def media_of(
    stored: StoredObject, headers: Mapping[str, str], *, is_public: bool = False
) -> Answer:
    """The answer to a GET or HEAD. Raises ``GcsError`` (412, 416)."""
    etag = f'"{etag_of(stored)}"'
    described = describe(stored, etag, is_public)
    wanted = headers.get("If-Match")
    if wanted is not None and not _matches(wanted, etag):
        raise precondition_failed()
    if _matches(headers.get("If-None-Match", ""), etag):
        return Answer(304, described)
    if _is_decompressed(stored, headers):
        # Ranges are ignored then.
        del described["Content-Encoding"]
        return Answer(200, described, gzip.decompress(stored.content))
    start, stop = _range(headers.get("Range"), stored.size)
    status = 200
    if start is not None and headers.get("If-Range", etag) == etag:
        status = 206
        described["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    else:
        start, stop = 0, stored.size
    pieces = stored.data.read(start, stop)
    return Answer(status, described, pieces=pieces, size=stop - start)


def describe(stored: StoredObject, etag: str, is_public: bool) -> dict[str, str]:
    md5 = f",md5={stored.md5}" if stored.md5 else ""
    default = "public, max-age=3600" if is_public else "no-cache, no-store, max-age=0"
    described = {
        "Content-Type": stored.content_type or "application/octet-stream",
        "ETag": etag,
        "Last-Modified": format_datetime(stored.updated or stored.created, usegmt=True),
        "Cache-Control": stored.cache_control or default,
        "Accept-Ranges": "bytes",
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-hash": f"crc32c={stored.crc32c}{md5}",
        "x-goog-stored-content-length": str(stored.size),
        "x-goog-stored-content-encoding": stored.properties.get("contentEncoding", "identity"),
        "x-goog-storage-class": "STANDARD",
    }
    for key, header in (
        ("contentDisposition", "Content-Disposition"),
        ("contentEncoding", "Content-Encoding"),
        ("contentLanguage", "Content-Language"),
    ):
        if key in stored.properties:
            described[header] = stored.properties[key]
    if is_public:
        described |= {f"x-goog-meta-{key}": value for key, value in stored.metadata.items()}
    return described


def _is_decompressed(stored: StoredObject, headers: Mapping[str, str]) -> bool:
    """https://cloud.google.com/storage/docs/transcoding#decompressive_transcoding"""
    return (
        stored.properties.get("contentEncoding") == "gzip"
        and "gzip" not in headers.get("Accept-Encoding", "")
        and "no-transform" not in (stored.cache_control or "")
    )


def _matches(header: str, etag: str) -> bool:
    tags = [tag.strip() for tag in header.split(",")]
    return "*" in tags or etag in tags


def _range(header: str | None, size: int) -> tuple[int | None, int]:
    """Where the wanted bytes start and stop; no start is no range."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or match[0] == "bytes=-":
        return None, size
    if not match[1]:
        start, stop = max(size - int(match[2]), 0), size
        is_possible = int(match[2]) > 0 and size > 0
    else:
        start = int(match[1])
        stop = min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None, size
        is_possible = start < size
    if not is_possible:
        raise range_not_satisfiable(size)
    return start, stop
