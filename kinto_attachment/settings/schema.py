"""The definition of each setting: its key, its parser, its default, and its meaning.

A parser takes the text of a setting and raises ``ValueError`` with what it should be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

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
_CANNED_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)
# https://cloud.google.com/storage/docs/access-control/lists#predefined-acl
_OBJECT_ACLS = (
    "authenticatedRead",
    "bucketOwnerFullControl",
    "bucketOwnerRead",
    "private",
    "projectPrivate",
    "publicRead",
)
_BUCKET_ACLS = (
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
_MIMETYPES_EXAMPLE = ".ftl:application/vnd.fluent;.db:application/vnd.sqlite3"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}


def _text(value: str) -> str:
    return value


def _unquoted(value: str) -> str:
    if re.search(r"[\"']", value):
        raise ValueError("should have no quotes")
    return value


def _boolean(value: str) -> bool:
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise ValueError("should be true or false") from None


def _flag(value: str) -> bool:
    """The same; an empty one is false, as it was in earlier versions."""
    return _boolean(value) if value else False


def _integer(value: str) -> int:
    if not re.fullmatch(r"[0-9]+", value):
        raise ValueError("should be a whole number")
    return int(value)


def _seconds(value: str) -> float:
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


def _expiry(value: str) -> timedelta:
    expires = duration(value)
    # At most ten years: the date of expiry must fit into an HTTP header.
    if not timedelta() < expires <= timedelta(days=3660):
        raise ValueError("should be between 1s and ten years")
    return expires


def _link_expiry(value: str) -> timedelta:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
    expires = duration(value)
    if not timedelta() < expires <= timedelta(days=7):
        raise ValueError("should be between 1s and 7d")
    return expires


def _accel_prefix(value: str) -> str:
    if not _ACCEL_PREFIX.fullmatch(value):
        raise ValueError("should be a path like /internal-files/")
    return value if value.endswith("/") else f"{value}/"


def base_url(value: str) -> str:
    """Parse a URL or a path; add a slash to its end, unless it is empty."""
    if value and not _BASE_URL.fullmatch(value):
        raise ValueError("should be a URL (https://cdn.example.com/files/) or a path (/files/)")
    return value if not value or value.endswith("/") else f"{value}/"


def _endpoint_url(value: str) -> str:
    return base_url(value).rstrip("/")


def _base_urls(value: str) -> tuple[str, ...]:
    return tuple(base_url(url) for url in re.split(r"[\s,]+", value) if url)


def _base_path(value: str) -> str:
    if value[:1] in ('"', "'"):
        raise ValueError("should be a folder without quotes")
    path = Path(value)
    if path.exists() and not path.is_dir():
        raise ValueError("should be a folder")
    # The storage makes it absolute; commands refuse a relative one.
    return value


def _one_of(known: Sequence[str], value: str) -> str:
    if value and value not in known:
        raise ValueError(f"should be empty or one of {', '.join(known)}")
    return value


def _predefined_acl(known: Sequence[str], value: str) -> str:
    """Parse one of ``known``, also in the notation of Google's XML API (``public-read``), which
    earlier versions accepted."""
    json_name = re.sub("-([a-z])", lambda match: match[1].upper(), value)
    return _one_of(known, json_name if json_name in known else value)


def _cache_control(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("should be a value of HTTP's Cache-Control, in ASCII and in one line")
    return value


def _folder(value: str) -> Template:
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


def _filename_pattern(value: str) -> Template:
    template = Template(value, ("filename", "datetime", "rid"))
    if not value or not _UNRESERVED.fullmatch(template.literal):
        raise ValueError("should be of letters, digits and ._~- around its placeholders")
    return template


def _extensions(value: str) -> frozenset[str]:
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


def _mimetypes(value: str) -> Mapping[str, str]:
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


@dataclass(frozen=True)
class Setting:
    """One setting: its key after ``kinto.attachment.``, its parser, its default and its meaning.

    ``default`` is a text to parse. If it is ``None``, a setting that is left out or empty is
    ``None``. ``by_collection``: it may also stand under ``resources.{bucket}.`` and
    ``resources.{bucket}.{collection}.``. ``meaning`` is for the documentation, with literals as in
    this docstring.
    """

    name: str
    parse: Callable[[str], Any]
    default: str | None
    meaning: str
    by_collection: bool = False


SCHEMA = (
    Setting(
        "base_url",
        base_url,
        "",
        "Where the files are served, a URL or a path: a file's ``location`` is this, followed by "
        "its name. Empty: locations are relative.",
    ),
    Setting(
        "extra.base_url",
        base_url,
        None,
        "The base URL that the capability announces, for clients of relative locations. Default: "
        "``base_url``.",
    ),
    Setting(
        "former_base_urls",
        _base_urls,
        "",
        "Base URLs that the locations of older records may start with, with spaces between them.",
    ),
    Setting(
        "folder",
        _folder,
        "",
        "Folder of the files, with the placeholders ``{bucket_id}`` and ``{collection_id}``.",
        True,
    ),
    Setting(
        "keep_old_files",
        _boolean,
        "false",
        "Keep files that no record references any more, for clients that still have older "
        "records.",
        True,
    ),
    Setting(
        "randomize",
        _boolean,
        "true",
        "Store files under a random name, with their extension. Otherwise under their own, with a "
        "number if it is taken: ``photo.jpg``, ``photo-1.jpg``.",
        True,
    ),
    Setting(
        "filename_pattern",
        _filename_pattern,
        "{filename}",
        "Name of a stored file before its extension: ``{filename}`` (the random name, if "
        "``randomize`` is true), ``{datetime}`` (YYYYmmddHHMMSS in UTC) and ``{rid}`` (the id of "
        "the record).",
        True,
    ),
    Setting(
        "extensions",
        _extensions,
        "any",
        "Allowed extensions, with ``+`` between them: single ones, and groups ("
        + ", ".join(f"``{group}``" for group in EXTENSION_GROUPS)
        + "), as in ``images+pdf``. Unless it is ``any``, a file whose client declares a type "
        "that browsers run scripts of (HTML, XML, SVG, JavaScript) has the type of its extension. "
        "``images`` contains SVG, which may have scripts; ``raster-images`` does not.",
        True,
    ),
    Setting(
        "mimetypes",
        _mimetypes,
        "",
        f"Media types by extension, whatever the client says: ``{_MIMETYPES_EXAMPLE}``.",
        True,
    ),
    Setting("max_size_bytes", _integer, "0", "Largest file in bytes; 0: no limit.", True),
    Setting(
        "cache_control",
        _cache_control,
        None,
        "``Cache-Control`` of the files, in their metadata on S3 and Google Cloud Storage, as it "
        "is at the upload, and where Kinto sends them: ``public, max-age=31536000, immutable``. "
        "Empty: none is sent, and ``private, no-cache`` by Kinto.",
        True,
    ),
    Setting(
        "uploads.expires",
        _expiry,
        "24h",
        "How long a resumable upload is kept after its last byte: a number and ``s``, ``m``, "
        "``h``, ``d`` or ``w``.",
    ),
    Setting(
        "private",
        _boolean,
        "false",
        "Keep files private: those who may read a record may read its file, and nobody else. "
        "Needs a store for private files: ``private.base_path``, ``aws.private_bucket`` or "
        "``gcloud.private_bucket_name``.",
        True,
    ),
    Setting(
        "download.mode",
        partial(_one_of, DOWNLOAD_MODES),
        "stream",
        "How Kinto answers with a file: ``stream`` (it sends the bytes), ``redirect`` (to a "
        "presigned URL of S3 or Google Cloud Storage) or ``accel`` (nginx sends the file of the "
        "local disk).",
    ),
    Setting(
        "download.link_expires",
        _link_expiry,
        "1h",
        "How long a signed link and a presigned URL are valid at most: a number and ``s``, "
        "``m``, ``h`` or ``d``, up to ``7d``.",
    ),
    Setting(
        "download.accel_prefix",
        _accel_prefix,
        None,
        "Path of nginx's internal location, for the mode ``accel``: ``/internal-files/``.",
    ),
    Setting(
        "download.secret",
        _text,
        None,
        "Secret that links are signed with. Default: one derived from Kinto's "
        "``userid_hmac_secret``.",
    ),
    Setting(
        "download.former_secret",
        _text,
        None,
        "Secret that links were signed with before, to let them expire: they stay valid.",
    ),
    Setting("base_path", _base_path, None, "Folder on the local disk to store files in."),
    Setting(
        "serve_files",
        _boolean,
        "false",
        "Let Kinto serve the files of ``base_path``, at ``base_url``, whose path has to be below "
        "``/v1/``. For development and small sites.",
    ),
    Setting("aws.bucket", _unquoted, None, "Name of the S3 bucket to store files in."),
    Setting("aws.bucket_name", _unquoted, None, "The same, in pyramid_storage's name."),
    Setting(
        "private.base_path",
        _base_path,
        None,
        "Folder on the local disk to store private files in, outside of ``base_path``.",
    ),
    Setting("aws.private_bucket", _unquoted, None, "Name of the S3 bucket of private files."),
    Setting(
        "aws.acl",
        partial(_one_of, _CANNED_ACLS),
        "public-read",
        "Canned ACL of the files; empty: none is sent.",
    ),
    Setting("aws.access_key", _text, None, "Access key. Without it, boto3 looks for one."),
    Setting("aws.secret_key", _text, None, "Secret key. Without it, boto3 looks for one."),
    Setting("aws.region", _unquoted, None, "Region of the bucket."),
    Setting("aws.endpoint_url", _endpoint_url, None, "URL of another server that speaks S3."),
    Setting("aws.host", _unquoted, None, "Host of such a server, instead of its URL."),
    Setting("aws.port", _integer, None, "Port of that host."),
    Setting("aws.is_secure", _boolean, "true", "Whether that host speaks HTTPS."),
    Setting(
        "aws.use_path_style",
        _boolean,
        "false",
        "Write the bucket into the path of S3's URLs, not into their host.",
    ),
    Setting("aws.num_retries", _integer, "1", "How often a request to S3 is tried again."),
    Setting("aws.timeout", _seconds, "5", "Seconds to wait for a connection to S3."),
    Setting(
        "gcloud.bucket_name",
        _unquoted,
        None,
        "Name of the bucket of Google Cloud Storage to store files in.",
    ),
    Setting(
        "gcloud.private_bucket_name",
        _unquoted,
        None,
        "Name of the bucket of private files.",
    ),
    Setting(
        "gcloud.credentials",
        _unquoted,
        None,
        "Path of a service account's key, as JSON. Without it, Application Default Credentials "
        "are used.",
    ),
    Setting(
        "gcloud.project", _unquoted, None, "Project in which a missing bucket would be created."
    ),
    Setting(
        "gcloud.acl",
        partial(_predefined_acl, _OBJECT_ACLS),
        "publicRead",
        "Predefined ACL of the files; empty, or with ``gcloud.uniform_bucket_level_access``: none "
        "is sent.",
    ),
    Setting(
        "gcloud.uniform_bucket_level_access",
        _flag,
        "false",
        "The bucket has uniform access, without ACLs.",
    ),
    Setting("gcloud.auto_create_bucket", _flag, "false", "Create the bucket if it is missing."),
    Setting(
        "gcloud.auto_create_acl",
        partial(_predefined_acl, _BUCKET_ACLS),
        "projectPrivate",
        "Predefined ACL of a bucket that is created.",
    ),
    Setting(
        "gcloud.cache_control",
        _cache_control,
        None,
        "The same as ``cache_control``, in the name of earlier versions.",
    ),
    Setting(
        "gcloud.endpoint_url",
        _endpoint_url,
        None,
        "URL of another server that speaks the JSON API of Google Cloud Storage.",
    ),
    Setting(
        "gcloud.num_retries",
        _integer,
        "1",
        "How often a request to Google Cloud Storage is tried again.",
    ),
    Setting(
        "gcloud.timeout",
        _seconds,
        "5",
        "Seconds to wait for a connection to Google Cloud Storage.",
    ),
)
