"""The parsers of settings: each takes the text of one, and raises ``ValueError`` with what it
should be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from pyramid_storage.extensions import GROUPS

from kinto_attachment.settings.template import Template
from kinto_attachment.storage.media_types import is_media_type
from kinto_attachment.storage.names import PRIVATE_PREFIX

# RFC 3986, section 2.3: what a path segment may hold without being encoded.
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")
_BASE_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?/\S*")
_EXTENSION = re.compile(r"[^\s./\\:;,+*|&\"'(){}\[\]]+")
# The "images" of pyramid_storage have SVG among them, which runs scripts where it is opened.
EXTENSION_GROUPS: Mapping[str, Sequence[str]] = {
    **GROUPS,
    "raster-images": (
        *(name for name in GROUPS["images"] if name != "svg"),
        *("tif", "webp", "avif"),
    ),
}
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#canned-acl
CANNED_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)
# https://cloud.google.com/storage/docs/access-control/lists#predefined-acl
OBJECT_ACLS = (
    "authenticatedRead",
    "bucketOwnerFullControl",
    "bucketOwnerRead",
    "private",
    "projectPrivate",
    "publicRead",
)
BUCKET_ACLS = (
    "authenticatedRead",
    "private",
    "projectPrivate",
    "publicRead",
    "publicReadWrite",
)
# RFC 9110, section 5.5, without what is not ASCII.
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
DOWNLOAD_MODES = ("stream", "redirect", "accel")
_ACCEL_PREFIX = re.compile(r"/[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*/?")
_EXTENSIONS_SENTENCE = "should be groups and extensions with + between them (images+pdf)"
MIMETYPES_EXAMPLE = ".ftl:application/vnd.fluent;.db:application/vnd.sqlite3"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}


def text(value: str) -> str:
    return value


def unquoted(value: str) -> str:
    if re.search(r"[\"']", value):
        raise ValueError("should have no quotes")
    return value


def boolean(value: str) -> bool:
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise ValueError("should be true or false") from None


def flag(value: str) -> bool:
    """The same; an empty one is false, as it was in earlier versions."""
    return boolean(value) if value else False


def integer(value: str) -> int:
    if not re.fullmatch(r"[0-9]+", value):
        raise ValueError("should be a whole number")
    return int(value)


def seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise ValueError("should be a number of seconds")
    return seconds


def duration(value: str) -> timedelta:
    """Parse a number and s, m, h, d or w."""
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", value)
    if not match:
        raise ValueError("should be like 24h or 30d")
    number, unit = match.groups()
    return timedelta(**{_UNITS[unit]: int(number)})


def expiry(value: str) -> timedelta:
    expires = duration(value)
    # At most ten years: the date of expiry must fit into an HTTP header.
    if not timedelta() < expires <= timedelta(days=3660):
        raise ValueError("should be between 1s and ten years")
    return expires


def link_expiry(value: str) -> timedelta:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
    expires = duration(value)
    if not timedelta() < expires <= timedelta(days=7):
        raise ValueError("should be between 1s and 7d")
    return expires


def accel_prefix(value: str) -> str:
    if not _ACCEL_PREFIX.fullmatch(value):
        raise ValueError("should be a path like /internal-files/")
    return value if value.endswith("/") else f"{value}/"


def base_url(value: str) -> str:
    """Parse a URL or a path; add a slash to its end, unless it is empty."""
    if value and not _BASE_URL.fullmatch(value):
        raise ValueError("should be a URL (https://cdn.example.com/files/) or a path (/files/)")
    return value if not value or value.endswith("/") else f"{value}/"


def endpoint_url(value: str) -> str:
    return base_url(value).rstrip("/")


def base_urls(value: str) -> tuple[str, ...]:
    return tuple(base_url(url) for url in re.split(r"[\s,]+", value) if url)


def base_path(value: str) -> str:
    if value[:1] in ('"', "'"):
        raise ValueError("should be a folder without quotes")
    path = Path(value)
    if path.exists() and not path.is_dir():
        raise ValueError("should be a folder")
    # The storage makes it absolute; commands refuse a relative one.
    return value


def one_of(known: Sequence[str], value: str) -> str:
    if value and value not in known:
        raise ValueError(f"should be empty or one of {', '.join(known)}")
    return value


def predefined_acl(known: Sequence[str], value: str) -> str:
    """Parse one of ``known``, also in the notation of Google's XML API (``public-read``), which
    earlier versions accepted."""
    json_name = re.sub("-([a-z])", lambda match: match[1].upper(), value)
    return one_of(known, json_name if json_name in known else value)


def cache_control(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("should be a value of HTTP's Cache-Control, in ASCII and in one line")
    return value


def folder(value: str) -> Template:
    template = Template(value.strip("/"), ("bucket_id", "collection_id"))
    parts = template.literal.split("/")
    if value.strip("/").startswith(PRIVATE_PREFIX.rstrip("/")):
        raise ValueError("should not begin with _private, where private files are")
    if value.strip("/").startswith("~"):
        raise ValueError("should not begin with ~, as links to files do")
    if value.strip("/") and not all(
        part not in ("", ".", "..") and _UNRESERVED.fullmatch(part) for part in parts
    ):
        raise ValueError("should be folders of letters, digits and ._~- with / between them")
    return template


def filename_pattern(value: str) -> Template:
    template = Template(value, ("filename", "datetime", "rid"))
    if not value or not _UNRESERVED.fullmatch(template.literal):
        raise ValueError("should be of letters, digits and ._~- around its placeholders")
    return template


def extensions(value: str) -> frozenset[str]:
    """Parse the allowed extensions, without dots; an empty set allows any."""
    allowed: set[str] = set()
    is_any = False
    for group in value.lower().split("+"):
        names = group.split()
        if not names:
            raise ValueError(_EXTENSIONS_SENTENCE)
        for name in names:
            is_any = is_any or name == "any"
            extensions = EXTENSION_GROUPS.get(name) or [name.removeprefix(".")]
            if not all(_EXTENSION.fullmatch(extension) for extension in extensions):
                raise ValueError(_EXTENSIONS_SENTENCE)
            allowed.update(extensions)
    return frozenset() if is_any else frozenset(allowed)


def mimetypes(value: str) -> Mapping[str, str]:
    """Parse the media types by extension, with its dot, in lower case."""
    mimetypes = {}
    for item in (item.strip() for item in value.split(";") if item.strip()):
        extension, _, mimetype = (part.strip() for part in item.partition(":"))
        extension = extension.removeprefix(".").lower()
        if not _EXTENSION.fullmatch(extension) or not is_media_type(mimetype):
            raise ValueError(
                "should be like .ftl:application/vnd.fluent;.db:application/vnd.sqlite3"
            )
        mimetypes[f".{extension}"] = mimetype
    return mimetypes
