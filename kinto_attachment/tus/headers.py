"""The headers of tus 1.0.0: their names, and how they are parsed.

https://tus.io/protocols/resumable-upload#headers
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

from kinto_attachment.errors import InvalidHeader

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

TUS_RESUMABLE = "Tus-Resumable"
TUS_VERSION = "Tus-Version"
TUS_EXTENSION = "Tus-Extension"
TUS_MAX_SIZE = "Tus-Max-Size"
TUS_CHECKSUM_ALGORITHM = "Tus-Checksum-Algorithm"
UPLOAD_OFFSET = "Upload-Offset"
UPLOAD_LENGTH = "Upload-Length"
UPLOAD_DEFER_LENGTH = "Upload-Defer-Length"
UPLOAD_METADATA = "Upload-Metadata"
UPLOAD_EXPIRES = "Upload-Expires"
UPLOAD_CHECKSUM = "Upload-Checksum"
UPLOAD_CONCAT = "Upload-Concat"

EXPOSED_HEADERS = (
    "Content-Location",
    TUS_RESUMABLE,
    TUS_VERSION,
    TUS_EXTENSION,
    TUS_MAX_SIZE,
    TUS_CHECKSUM_ALGORITHM,
    UPLOAD_OFFSET,
    UPLOAD_LENGTH,
    UPLOAD_DEFER_LENGTH,
    UPLOAD_METADATA,
    UPLOAD_EXPIRES,
)
"""The headers that CORS lets scripts read."""

CONTENT_TYPE = "application/offset+octet-stream"

# Printable ASCII but the space and the comma.
_KEY = re.compile(r"[!-+\--~]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Checksum:
    """The announced digest of a request's body."""

    algorithm: str
    digest: bytes

    def start(self) -> Any:
        """Return a hash object of ``hashlib``, to be fed with the body."""
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def matches(self, hashed: Any) -> bool:
        """Whether ``hashed``, from ``start()``, has the announced digest."""
        return hmac.compare_digest(hashed.digest(), self.digest)


def number(headers: Mapping[str, str], name: str) -> int | None:
    """Return the number of bytes in a header, ``None`` if it was not sent.

    Raises ``InvalidHeader``.
    """
    text = headers.get(name)
    if text is None:
        return None
    # int() accepts other digits, too. No file has a size of more than 18 digits.
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InvalidHeader(f"{name} should be a number of bytes")
    return int(text)


def length(headers: Mapping[str, str]) -> int | None:
    """Return the length of a new upload in bytes, ``None`` if it is deferred.

    Raises ``InvalidHeader``.
    """
    announced = number(headers, UPLOAD_LENGTH)
    deferred = headers.get(UPLOAD_DEFER_LENGTH)
    if (announced is None) == (deferred is None):
        raise InvalidHeader("Either Upload-Length or Upload-Defer-Length is required")
    if deferred not in (None, "1"):
        raise InvalidHeader("Upload-Defer-Length should be 1")
    return announced


def metadata(text: str) -> dict[str, bytes]:
    """Parse ``Upload-Metadata``: pairs of a key and a value in base64; an empty text has none.

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
    """Parse ``Upload-Checksum``; ``None`` if it was not sent. Raises ``InvalidHeader``."""
    text = headers.get(UPLOAD_CHECKSUM)
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
    """Decode a value of the metadata. Raises ``InvalidHeader``."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidHeader(f"Upload-Metadata: {name!r} is not UTF-8") from None


def sha256(value: bytes) -> str:
    """Return the digest of the whole file in lower-case hex. Raises ``InvalidHeader``."""
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
