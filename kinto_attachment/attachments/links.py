"""Signed links: whoever has one may read one file, without credentials, until it expires.

The token of a link is ``{expires}.{flag}.{mac}``: seconds since 1970, whether browsers save or
show the file, and an HMAC over these, the file's name and its hash. The key is derived from a
secret of the settings, which may have other uses.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

_VERSION = "1"
_PURPOSE = "kinto-attachment: link"
_KEY_LABEL = b"kinto-attachment: key of links"
_FLAGS = {"show": "v", "save": "d"}
_TOKEN = re.compile(r"([0-9]{1,12})\.([vd])\.([A-Za-z0-9_-]{43})")
_SKEW = timedelta(seconds=60)
"""How far the clocks of two nodes may be apart."""


@dataclass(frozen=True)
class Target:
    """What a link is bound to: the file's name, and its SHA-256 digest in lower-case hex, empty
    if it is not known."""

    name: str
    hash: str


@dataclass(frozen=True)
class Link:
    """What is signed: ``expires`` is in seconds since 1970; with ``save``, browsers save the
    file."""

    expires: int
    save: bool


def sign(secret: str, target: Target, link: Link) -> str:
    """Return the token of a link."""
    flag = _flag(link)
    return f"{link.expires}.{flag}.{_mac(secret, target, link.expires, flag)}"


def verify(
    token: str, secrets: Iterable[str], target: Target, now: float, lifetime: timedelta
) -> Link | None:
    """Return the link of a token; ``None`` unless one of ``secrets`` has signed it for the target,
    and it is valid ``now`` (seconds since 1970).

    A link that would be valid for longer than ``lifetime`` was made when the limit was a higher
    one: it is not valid any more.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    expires, flag = int(match[1]), match[2]
    # The mac is over numbers as they are written here.
    if str(expires) != match[1]:
        return None
    # All of them: how long it takes says nothing of which one it is.
    signed = [hmac.compare_digest(match[3], _mac(each, target, expires, flag)) for each in secrets]
    latest = now + (lifetime + _SKEW).total_seconds()
    if not any(signed) or not now < expires <= latest:
        return None
    return Link(expires, flag == _FLAGS["save"])


def _flag(link: Link) -> str:
    return _FLAGS["save" if link.save else "show"]


def _mac(secret: str, target: Target, expires: int, flag: str) -> str:
    """Return the HMAC-SHA256 (RFC 2104) in base64url without padding (RFC 4648, section 5)."""
    key = hmac.digest(secret.encode(), _KEY_LABEL, "sha256")
    fields = (_VERSION, _PURPOSE, target.name, target.hash, str(expires), flag)
    # With the length of each: no two lists of fields have the same bytes.
    encoded = [each.encode("utf-8", "surrogateescape") for each in fields]
    message = b"".join(len(each).to_bytes(8, "big") + each for each in encoded)
    return base64.urlsafe_b64encode(hmac.digest(key, message, "sha256")).rstrip(b"=").decode()
