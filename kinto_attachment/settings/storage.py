"""Which storage the settings choose: exactly one, with its options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pyramid.exceptions import ConfigurationError

from kinto_attachment.storage.options import (
    GCloudOptions,
    LocalOptions,
    S3Options,
    StorageOptions,
)

# Each chooses a storage; the first and the second of S3 are one setting with two names.
_CHOICES = ("base_path", "aws.bucket", "aws.bucket_name", "gcloud.bucket_name")
# What Google's library reads of a service account's key.
_KEY = ("client_email", "private_key", "token_uri")


def storage_options(given: Mapping[str, str], values: Mapping[str, Any]) -> StorageOptions:
    """Return the options of the storage that is chosen. ``given`` are the settings as they are
    written, ``values`` all of them, parsed.

    Settings of another storage are ignored: ini files keep those of a template. Raises
    ``ConfigurationError``.
    """
    chosen = _chosen(given, values)
    if values["serve_files"] and chosen != "base_path":
        raise ConfigurationError(
            "kinto.attachment.serve_files serves the local disk only: it needs "
            "kinto.attachment.base_path."
        )
    if chosen == "base_path":
        return LocalOptions(values["base_path"])
    if chosen == "gcloud.bucket_name":
        return _gcloud_options(given, values)
    return _s3_options(values, values[chosen])


def _chosen(given: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """Return the name of the setting that chooses the storage."""
    chosen = [name for name in _CHOICES if values[name] is not None]
    if chosen == ["aws.bucket", "aws.bucket_name"]:
        if values["aws.bucket"] != values["aws.bucket_name"]:
            raise ConfigurationError(
                "kinto.attachment.aws.bucket and kinto.attachment.aws.bucket_name name two "
                "buckets. Leave one of them out."
            )
        return "aws.bucket"
    if len(chosen) > 1:
        raise ConfigurationError(
            f"kinto.attachment.{chosen[0]} and kinto.attachment.{chosen[-1]} are both set: files "
            "can be stored in one place only. Leave one of them out."
        )
    if chosen:
        return chosen[0]
    for prefix, bucket in (("aws.", "aws.bucket"), ("gcloud.", "gcloud.bucket_name")):
        for name in sorted(given):
            if name.startswith(prefix):
                raise ConfigurationError(
                    f"kinto.attachment.{name} needs kinto.attachment.{bucket}."
                )
    raise ConfigurationError(
        "kinto_attachment does not know where to store files: set kinto.attachment.base_path "
        "(a folder on the local disk), kinto.attachment.aws.bucket (S3) or "
        "kinto.attachment.gcloud.bucket_name (Google Cloud Storage)."
    )


def _s3_options(values: Mapping[str, Any], bucket: str) -> S3Options:
    if (values["aws.access_key"] is None) != (values["aws.secret_key"] is None):
        raise ConfigurationError(
            "kinto.attachment.aws.access_key and kinto.attachment.aws.secret_key go together: "
            "set both, or none of them."
        )
    options = {each.name: values[f"aws.{each.name}"] for each in fields(S3Options)}
    return S3Options(**{**options, "bucket": bucket})


def _gcloud_options(given: Mapping[str, str], values: Mapping[str, Any]) -> GCloudOptions:
    names = {each.name for each in fields(GCloudOptions)} - {"bucket"}
    options = {name: values[f"gcloud.{name}"] for name in names}
    if options["uniform_bucket_level_access"]:
        for name in ("acl", "auto_create_acl"):
            if given.get(f"gcloud.{name}"):
                raise ConfigurationError(
                    f"kinto.attachment.gcloud.{name} is set, though with "
                    "kinto.attachment.gcloud.uniform_bucket_level_access the bucket has no ACLs. "
                    "Leave one of them out."
                )
            options[name] = ""
    if options["credentials"] is not None:
        _check_key(options["credentials"])
    return GCloudOptions(bucket=values["gcloud.bucket_name"], **options)


def _check_key(path: str) -> None:
    """Raise ``ConfigurationError`` unless the file is a service account's key."""
    setting = "kinto.attachment.gcloud.credentials"
    try:
        key = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"{setting} cannot be read: {path}: {error.strerror}. It should be the path of a "
            "service account's key as JSON, or empty for Application Default Credentials."
        ) from None
    except ValueError:
        raise ConfigurationError(
            f"{setting} should be a service account's key as JSON: {path} is not JSON."
        ) from None
    missing = [name for name in _KEY if not (isinstance(key, dict) and key.get(name))]
    if missing:
        raise ConfigurationError(
            f"{setting} should be a service account's key as JSON: {path} has no {missing[0]}."
        )
