"""What each setting is: its key, its default, how its text is read, and what it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyramid_storage.extensions import GROUPS

from kinto_attachment.settings.template import Template
from kinto_attachment.storage.media_types import is_media_type

# RFC 3986, section 2.3: what a path segment may hold without being encoded.
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")
_BASE_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?/\S*")
_EXTENSION = re.compile(r"[^\s./\\:;+]+")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#canned-acl
_CANNED_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}


class Wrong(ValueError):
    """Why a value cannot be right: what it should be."""


def _text(value: str) -> str:
    return value


def _boolean(value: str) -> bool:
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise Wrong("should be true or false") from None


def _whole(value: str) -> int:
    if not re.fullmatch(r"[0-9]+", value):
        raise Wrong("should be a whole number")
    return int(value)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise Wrong("should be a number of seconds")
    return seconds


def duration(value: str) -> timedelta:
    """A length of time: a number and s, m, h, d or w. Raises ``Wrong``."""
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", value)
    if not match:
        raise Wrong("should be like 24h or 30d")
    number, unit = match.groups()
    return timedelta(**{_UNITS[unit]: int(number)})


def _expiry(value: str) -> timedelta:
    expires = duration(value)
    # Ten years: so that a date after it is always one that a header can have.
    if not timedelta() < expires <= timedelta(days=3660):
        raise Wrong("should be between 1s and ten years")
    return expires


def base_url(value: str) -> str:
    """A base URL or path, with a slash at its end; empty is none. Raises ``Wrong``."""
    if value and not _BASE_URL.fullmatch(value):
        raise Wrong("should be a URL (https://cdn.example.com/files/) or a path (/files/)")
    return value if not value or value.endswith("/") else f"{value}/"


def _base_urls(value: str) -> tuple[str, ...]:
    return tuple(base_url(url) for url in re.split(r"[\s,]+", value) if url)


def _base_path(value: str) -> str:
    path = Path(value).absolute()
    if path.exists() and not path.is_dir():
        raise Wrong("should be a folder")
    return str(path)


def _acl(value: str) -> str:
    if value and value not in _CANNED_ACLS:
        raise Wrong(f"should be empty or one of {', '.join(_CANNED_ACLS)}")
    return value


def _folder(value: str) -> Template:
    template = _template(value.strip("/"), ("bucket_id", "collection_id"))
    parts = template.literal.split("/")
    if value.strip("/") and not all(
        part not in ("", ".", "..") and _UNRESERVED.fullmatch(part) for part in parts
    ):
        raise Wrong("should be folders of letters, digits and ._~- with / between them")
    return template


def _filename_pattern(value: str) -> Template:
    template = _template(value, ("filename", "datetime", "rid"))
    if not value or not _UNRESERVED.fullmatch(template.literal):
        raise Wrong("should be of letters, digits and ._~- around its placeholders")
    return template


def _template(value: str, placeholders: tuple[str, ...]) -> Template:
    try:
        return Template(value, placeholders)
    except ValueError as error:
        raise Wrong(str(error)) from None


def _extensions(value: str) -> frozenset[str]:
    """The allowed extensions, without a dot; none means that any is allowed."""
    allowed: set[str] = set()
    for group in (group.strip().lower() for group in value.split("+")):
        if group == "any":
            return frozenset()
        extensions = GROUPS.get(group) or [name.removeprefix(".") for name in group.split()]
        if not extensions or not all(_EXTENSION.fullmatch(name) for name in extensions):
            raise Wrong("should be groups and extensions with + between them (images+pdf)")
        allowed.update(extensions)
    return frozenset(allowed)


def _mimetypes(value: str) -> Mapping[str, str]:
    """The media types by extension, with its dot, in lower case."""
    mimetypes = {}
    for item in (item.strip() for item in value.split(";") if item.strip()):
        extension, _, mimetype = (part.strip() for part in item.partition(":"))
        extension = extension.removeprefix(".").lower()
        if not _EXTENSION.fullmatch(extension) or not is_media_type(mimetype):
            raise Wrong("should be like .ftl:application/vnd.fluent;.db:application/vnd.sqlite3")
        mimetypes[f".{extension}"] = mimetype
    return mimetypes


@dataclass(frozen=True)
class Definition:
    """One setting: its key after ``kinto.attachment.``, how it is read, and what it means.

    ``parse`` takes the text and raises ``Wrong``. ``default`` is such a text; ``None``: there is
    no value without one, and an empty text is the same as none. ``by_collection`` tells whether
    it may also stand under ``resources.{bucket}.`` and ``resources.{bucket}.{collection}.``.
    ``meaning`` is what the documentation says of it, with literals as in this docstring.
    """

    name: str
    parse: Callable[[str], Any]
    default: str | None
    meaning: str
    by_collection: bool = False


DEFINITIONS = (
    Definition(
        "base_url",
        base_url,
        "",
        "Where the files can be downloaded from, a URL or a path: the ``location`` of a file is "
        "this, followed by its name. Empty: locations are relative.",
    ),
    Definition(
        "extra.base_url",
        base_url,
        None,
        "The base URL that the capability announces, for clients of relative locations. Without "
        "it, that is ``base_url``.",
    ),
    Definition(
        "former_base_urls",
        _base_urls,
        "",
        "Base URLs that the locations of older records may start with, with spaces between them.",
    ),
    Definition(
        "folder",
        _folder,
        "",
        "Folder of the files, with the placeholders ``{bucket_id}`` and ``{collection_id}``.",
        True,
    ),
    Definition(
        "keep_old_files",
        _boolean,
        "false",
        "Files stay when no record shows them any more: for clients that still have older "
        "records.",
        True,
    ),
    Definition(
        "randomize",
        _boolean,
        "true",
        "Files are stored under a random name, with their extension. Otherwise under their own, "
        "with a number where it is taken: ``photo.jpg``, ``photo-1.jpg``.",
        True,
    ),
    Definition(
        "filename_pattern",
        _filename_pattern,
        "{filename}",
        "Name of a stored file before its extension, where ``randomize`` is false: "
        "``{filename}``, ``{datetime}`` (YYYYmmddHHMMSS in UTC) and ``{rid}`` (the id of the "
        "record).",
        True,
    ),
    Definition(
        "extensions",
        _extensions,
        "any",
        "Allowed extensions, with ``+`` between them: single ones, and groups ("
        + ", ".join(f"``{group}``" for group in GROUPS)
        + "), as in ``images+pdf``.",
        True,
    ),
    Definition(
        "mimetypes",
        _mimetypes,
        "",
        "Media types by extension, before what the client says: "
        "``.ftl:application/vnd.fluent;.db:application/vnd.sqlite3``.",
        True,
    ),
    Definition("max_size_bytes", _whole, "0", "Largest file in bytes; 0: no limit.", True),
    Definition(
        "uploads.expires",
        _expiry,
        "24h",
        "How long a resumable upload is kept after its last byte: a number and ``s``, ``m``, "
        "``h``, ``d`` or ``w``.",
    ),
    Definition("base_path", _base_path, None, "Folder on the local disk, where files are stored."),
    Definition(
        "serve_files",
        _boolean,
        "false",
        "Kinto serves the files of ``base_path`` itself, at ``base_url``, whose path has to be "
        "below ``/v1/``. For development and small sites.",
    ),
    Definition("aws.bucket", _text, None, "Name of the S3 bucket, where files are stored."),
    Definition("aws.bucket_name", _text, None, "The same, as pyramid_storage calls it."),
    Definition("aws.acl", _acl, "public-read", "Canned ACL of the files; empty: none is sent."),
    Definition("aws.access_key", _text, None, "Access key; left out: boto3 looks for one."),
    Definition("aws.secret_key", _text, None, "Secret key; left out: boto3 looks for one."),
    Definition("aws.region", _text, None, "Region of the bucket."),
    Definition("aws.endpoint_url", base_url, None, "URL of another server that speaks S3."),
    Definition("aws.host", _text, None, "Host of such a server, in place of its URL."),
    Definition("aws.port", _whole, None, "Port of that host."),
    Definition("aws.is_secure", _boolean, "true", "Whether that host speaks HTTPS."),
    Definition(
        "aws.use_path_style",
        _boolean,
        "false",
        "The bucket stands in the path of S3's URLs, not in their host.",
    ),
    Definition("aws.num_retries", _whole, "1", "How often a request to S3 is tried again."),
    Definition("aws.timeout", _seconds, "5", "Seconds to wait for a connection to S3."),
)
