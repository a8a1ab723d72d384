"""The definition of each setting: its key, its parser, its default, and its meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kinto_attachment.settings import parsers


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
        parsers.base_url,
        "",
        "Where the files are served, a URL or a path: a file's ``location`` is this, followed by "
        "its name. Empty: locations are relative.",
    ),
    Setting(
        "extra.base_url",
        parsers.base_url,
        None,
        "The base URL that the capability announces, for clients of relative locations. Default: "
        "``base_url``.",
    ),
    Setting(
        "former_base_urls",
        parsers.base_urls,
        "",
        "Base URLs that the locations of older records may start with, with spaces between them.",
    ),
    Setting(
        "folder",
        parsers.folder,
        "",
        "Folder of the files, with the placeholders ``{bucket_id}`` and ``{collection_id}``.",
        True,
    ),
    Setting(
        "keep_old_files",
        parsers.boolean,
        "false",
        "Keep files that no record references any more, for clients that still have older "
        "records.",
        True,
    ),
    Setting(
        "randomize",
        parsers.boolean,
        "true",
        "Store files under a random name, with their extension. Otherwise under their own, with a "
        "number if it is taken: ``photo.jpg``, ``photo-1.jpg``.",
        True,
    ),
    Setting(
        "filename_pattern",
        parsers.filename_pattern,
        "{filename}",
        "Name of a stored file before its extension: ``{filename}`` (the random name, if "
        "``randomize`` is true), ``{datetime}`` (YYYYmmddHHMMSS in UTC) and ``{rid}`` (the id of "
        "the record).",
        True,
    ),
    Setting(
        "extensions",
        parsers.extensions,
        "any",
        "Allowed extensions, with ``+`` between them: single ones, and groups ("
        + ", ".join(f"``{group}``" for group in parsers.EXTENSION_GROUPS)
        + "), as in ``images+pdf``. Unless it is ``any``, a file whose client declares a type "
        "that browsers run scripts of (HTML, XML, SVG, JavaScript) has the type of its extension. "
        "``images`` contains SVG, which may have scripts; ``raster-images`` does not.",
        True,
    ),
    Setting(
        "mimetypes",
        parsers.mimetypes,
        "",
        f"Media types by extension, whatever the client says: ``{parsers.MIMETYPES_EXAMPLE}``.",
        True,
    ),
    Setting("max_size_bytes", parsers.integer, "0", "Largest file in bytes; 0: no limit.", True),
    Setting(
        "quota_bytes",
        parsers.integer,
        "0",
        "Bytes of all the files that records reference; 0: no limit. Under ``resources.``, those "
        "of one bucket or collection: each of these quotas limits what it is set for.",
        True,
    ),
    Setting(
        "quota_files",
        parsers.integer,
        "0",
        "Number of all the files that records reference, likewise; 0: no limit.",
        True,
    ),
    Setting(
        "cache_control",
        parsers.cache_control,
        None,
        "``Cache-Control`` of the files, in their metadata on S3 and Google Cloud Storage, as it "
        "is at the upload, and where Kinto sends them: ``public, max-age=31536000, immutable``. "
        "Empty: none is sent, and ``private, no-cache`` by Kinto.",
        True,
    ),
    Setting(
        "uploads.expires",
        parsers.expiry,
        "24h",
        "How long a resumable upload is kept after its last byte: a number and ``s``, ``m``, "
        "``h``, ``d`` or ``w``.",
    ),
    Setting(
        "private",
        parsers.boolean,
        "false",
        "Keep files private: those who may read a record may read its file, and nobody else. "
        "Needs a store for private files: ``private.base_path``, ``aws.private_bucket`` or "
        "``gcloud.private_bucket_name``.",
        True,
    ),
    Setting(
        "download.mode",
        partial(parsers.one_of, parsers.DOWNLOAD_MODES),
        "stream",
        "How Kinto answers with a file: ``stream`` (it sends the bytes), ``redirect`` (to a "
        "presigned URL of S3 or Google Cloud Storage) or ``accel`` (nginx sends the file of the "
        "local disk).",
    ),
    Setting(
        "download.link_expires",
        parsers.link_expiry,
        "1h",
        "How long a signed link and a presigned URL are valid at most: a number and ``s``, "
        "``m``, ``h`` or ``d``, up to ``7d``.",
    ),
    Setting(
        "download.accel_prefix",
        parsers.accel_prefix,
        None,
        "Path of nginx's internal location, for the mode ``accel``: ``/internal-files/``.",
    ),
    Setting(
        "download.secret",
        parsers.text,
        None,
        "Secret that links are signed with. Default: one derived from Kinto's "
        "``userid_hmac_secret``.",
    ),
    Setting(
        "download.former_secret",
        parsers.text,
        None,
        "Secret that links were signed with before, to let them expire: they stay valid.",
    ),
    Setting("base_path", parsers.base_path, None, "Folder on the local disk to store files in."),
    Setting(
        "serve_files",
        parsers.boolean,
        "false",
        "Let Kinto serve the files of ``base_path``, at ``base_url``, whose path has to be below "
        "``/v1/``. For development and small sites.",
    ),
    Setting("aws.bucket", parsers.unquoted, None, "Name of the S3 bucket to store files in."),
    Setting("aws.bucket_name", parsers.unquoted, None, "The same, in pyramid_storage's name."),
    Setting(
        "private.base_path",
        parsers.base_path,
        None,
        "Folder on the local disk to store private files in, outside of ``base_path``.",
    ),
    Setting(
        "aws.private_bucket", parsers.unquoted, None, "Name of the S3 bucket of private files."
    ),
    Setting(
        "aws.acl",
        partial(parsers.one_of, parsers.CANNED_ACLS),
        "public-read",
        "Canned ACL of the files; empty: none is sent.",
    ),
    Setting("aws.access_key", parsers.text, None, "Access key. Without it, boto3 looks for one."),
    Setting("aws.secret_key", parsers.text, None, "Secret key. Without it, boto3 looks for one."),
    Setting("aws.region", parsers.unquoted, None, "Region of the bucket."),
    Setting(
        "aws.endpoint_url", parsers.endpoint_url, None, "URL of another server that speaks S3."
    ),
    Setting("aws.host", parsers.unquoted, None, "Host of such a server, instead of its URL."),
    Setting("aws.port", parsers.integer, None, "Port of that host."),
    Setting("aws.is_secure", parsers.boolean, "true", "Whether that host speaks HTTPS."),
    Setting(
        "aws.use_path_style",
        parsers.boolean,
        "false",
        "Write the bucket into the path of S3's URLs, not into their host.",
    ),
    Setting(
        "aws.sign_payload",
        parsers.boolean,
        "false",
        "Sign the content of each request to S3, even if the server compares its CRC32.",
    ),
    Setting("aws.num_retries", parsers.integer, "1", "How often a request to S3 is tried again."),
    Setting("aws.timeout", parsers.seconds, "5", "Seconds to wait for a connection to S3."),
    Setting(
        "gcloud.bucket_name",
        parsers.unquoted,
        None,
        "Name of the bucket of Google Cloud Storage to store files in.",
    ),
    Setting(
        "gcloud.private_bucket_name",
        parsers.unquoted,
        None,
        "Name of the bucket of private files.",
    ),
    Setting(
        "gcloud.credentials",
        parsers.unquoted,
        None,
        "Path of a service account's key, as JSON. Without it, Application Default Credentials "
        "are used.",
    ),
    Setting(
        "gcloud.project",
        parsers.unquoted,
        None,
        "Project in which a missing bucket would be created.",
    ),
    Setting(
        "gcloud.acl",
        partial(parsers.predefined_acl, parsers.OBJECT_ACLS),
        "publicRead",
        "Predefined ACL of the files; empty, or with ``gcloud.uniform_bucket_level_access``: none "
        "is sent.",
    ),
    Setting(
        "gcloud.uniform_bucket_level_access",
        parsers.flag,
        "false",
        "The bucket has uniform access, without ACLs.",
    ),
    Setting(
        "gcloud.auto_create_bucket", parsers.flag, "false", "Create the bucket if it is missing."
    ),
    Setting(
        "gcloud.auto_create_acl",
        partial(parsers.predefined_acl, parsers.BUCKET_ACLS),
        "projectPrivate",
        "Predefined ACL of a bucket that is created.",
    ),
    Setting(
        "gcloud.cache_control",
        parsers.cache_control,
        None,
        "The same as ``cache_control``, in the name of earlier versions.",
    ),
    Setting(
        "gcloud.endpoint_url",
        parsers.endpoint_url,
        None,
        "URL of another server that speaks the JSON API of Google Cloud Storage.",
    ),
    Setting(
        "gcloud.num_retries",
        parsers.integer,
        "1",
        "How often a request to Google Cloud Storage is tried again.",
    ),
    Setting(
        "gcloud.timeout",
        parsers.seconds,
        "5",
        "Seconds to wait for a connection to Google Cloud Storage.",
    ),
)
