"""What stands in the headers of tus, the protocol of resumable uploads, version 1.0.0.

https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSION = "1.0.0"
EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "termination",
    "expiration",
    "checksum",
)
CHECKSUMS = ("sha1", "sha256")
CONTENT_TYPE = "application/offset+octet-stream"

# Printable ASCII but the space and the comma.
_KEY = re.compile(r"[!-+\--~]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class InvalidHeader(ValueError):
    """The header cannot be understood; the message says which, and why."""


@dataclass(frozen=True)
class Checksum:
    """What the body of a request has to hash to."""

    algorithm: str
    digest: bytes

    def start(self) -> Any:
        """A hash object of ``hashlib``, to feed with the body."""
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def matches(self, hashed: Any) -> bool:
        """Whether what ``start()`` returned has come to the expected digest."""
        return hmac.compare_digest(hashed.digest(), self.digest)


def number(headers: Mapping[str, str], name: str) -> int | None:
    """The number of bytes in a header, ``None`` if it was not sent. Raises ``InvalidHeader``."""
    text = headers.get(name)
    if text is None:
        return None
    # int() takes other digits, too. Nobody has a file of more than 18 digits.
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InvalidHeader(f"{name} should be a number of bytes")
    return int(text)


def length(headers: Mapping[str, str]) -> int | None:
    """The length of a new upload in bytes, ``None`` if the client will tell it later.

    Raises ``InvalidHeader``.
    """
    announced = number(headers, "Upload-Length")
    deferred = headers.get("Upload-Defer-Length")
    if (announced is None) == (deferred is None):
        raise InvalidHeader("Either Upload-Length or Upload-Defer-Length is required")
    if deferred not in (None, "1"):
        raise InvalidHeader("Upload-Defer-Length should be 1")
    return announced


def metadata(text: str) -> dict[str, bytes]:
    """The pairs in ``Upload-Metadata``, whose values are in base64; an empty text has none.

    Raises ``InvalidHeader``.
    """
    pairs: dict[str, bytes] = {}
    if not text.strip():
        return pairs
    for pair in text.split(","):
        key, _, encoded = pair.strip().partition(" ")
        if not _KEY.fullmatch(key):
            raise InvalidHeader("Upload-Metadata should be pairs of a key and a value in base64")
        if key in pairs:
            raise InvalidHeader(f"Upload-Metadata has {key!r} twice")
        pairs[key] = _decoded(encoded, f"Upload-Metadata: the value of {key!r}")
    return pairs


def checksum(headers: Mapping[str, str]) -> Checksum | None:
    """``Upload-Checksum``, ``None`` if it was not sent. Raises ``InvalidHeader``."""
    text = headers.get("Upload-Checksum")
    if text is None:
        return None
    algorithm, _, encoded = text.partition(" ")
    if algorithm not in CHECKSUMS:
        raise InvalidHeader(f"Upload-Checksum should be one of {', '.join(CHECKSUMS)}")
    found = Checksum(algorithm, _decoded(encoded, "Upload-Checksum"))
    if len(found.digest) != found.start().digest_size:
        raise InvalidHeader("Upload-Checksum has not the length of its algorithm")
    return found


def text(name: str, value: bytes) -> str:
    """A value of the metadata as text. Raises ``InvalidHeader``."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidHeader(f"Upload-Metadata: {name!r} is not UTF-8") from None


def sha256(value: bytes) -> str:
    """The digest of the whole file, in lower-case hex. Raises ``InvalidHeader``."""
    digest = text("sha256", value).lower()
    if not _SHA256.fullmatch(digest):
        raise InvalidHeader("Upload-Metadata: 'sha256' should be 64 hexadecimal digits")
    return digest


def _decoded(encoded: str, what: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        # ValueError: it is not even ASCII.
        raise InvalidHeader(f"{what} is not base64") from None
