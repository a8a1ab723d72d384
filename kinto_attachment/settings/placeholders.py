"""Secrets that nobody has chosen: ``change-me``, as examples and templates have it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pyramid.exceptions import ConfigurationError

# Kinto's own two: the first one also signs links, the second one decides the ids of the buckets
# that "default" stands for.
_SECRETS = (
    "userid_hmac_secret",
    "default_bucket_hmac_secret",
    "attachment.download.secret",
    "attachment.download.former_secret",
    "attachment.aws.access_key",
    "attachment.aws.secret_key",
)
# With the password of a database or a cache.
_URLS = ("storage_url", "permission_url", "cache_url")
# Read by boto3, where the settings have no key.
_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

_PLACEHOLDER = re.compile("change[-_ ]?me", re.IGNORECASE)
_PASSWORD = re.compile("://[^/@]*:([^@]*)@")


def refuse_placeholders(settings: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Raise ``ConfigurationError``, which names the setting, if a secret of ``settings`` (Kinto's,
    without their prefix) or of ``environ`` is a placeholder."""
    for name, value in _secrets(settings, environ):
        if _PLACEHOLDER.search(value):
            raise ConfigurationError(
                f"{name} has a placeholder, which everybody knows, in place of a secret: set a "
                "value of your own, such as the output of: openssl rand -hex 32"
            )


def _secrets(settings: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    prefix = settings.get("settings_prefix", "kinto")
    for name in _SECRETS:
        yield f"{prefix}.{name}", str(settings.get(name) or "")
    for name in _URLS:
        passwords = _PASSWORD.findall(str(settings.get(name) or ""))
        yield f"{prefix}.{name}", "".join(passwords)
    for name in _VARIABLES:
        yield name, environ.get(name, "")
