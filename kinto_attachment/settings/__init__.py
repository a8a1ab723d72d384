"""The settings: every ``attachment.*`` key, parsed and checked once, at start-up.

An invalid one stops the server with a sentence that names the key. The rest of the package reads
:class:`Settings`, never the registry.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

from kinto.core.utils import native_value
from pyramid.exceptions import ConfigurationError
from pyramid.settings import aslist

from kinto_attachment.settings.placeholders import refuse_placeholders
from kinto_attachment.settings.schema import SCHEMA, Setting
from kinto_attachment.settings.storage import private_options, storage_options
from kinto_attachment.settings.template import Template
from kinto_attachment.storage import names
from kinto_attachment.storage.options import GCloudOptions, LocalOptions, StorageOptions

DEFAULT_BUCKET_PLUGIN = "kinto.plugins.default_bucket"

_PREFIX = "attachment."
_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]*")
_BY_NAME = {setting.name: setting for setting in SCHEMA}
_BY_COLLECTION = tuple(setting.name for setting in SCHEMA if setting.by_collection)
# Of all that is in the site, a bucket or a collection: unlike with other settings, the one of a
# collection does not replace that of its bucket.
_QUOTAS = ("quota_bytes", "quota_files")
_KINDS = ("buckets", "collections")
_OF_FILES = tuple(name for name in _BY_COLLECTION if name not in _QUOTAS)


class InvalidSetting(ConfigurationError):
    """One setting, ``key`` as Kinto has it, cannot be right, whatever the others are."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class CollectionSettings:
    """The settings for the files of one collection."""

    folder: Template
    keep_old_files: bool
    randomize: bool
    filename_pattern: Template
    extensions: frozenset[str]
    mimetypes: Mapping[str, str]
    max_size_bytes: int
    cache_control: str | None
    private: bool


@dataclass(frozen=True)
class Quota:
    """How many bytes and files there may be; 0: no limit."""

    bytes: int
    files: int

    @property
    def limits(self) -> dict[str, int]:
        """Those that there are, as ``bytes`` and ``files``."""
        return {name: limit for name, limit in asdict(self).items() if limit}


@dataclass(frozen=True)
class DownloadSettings:
    """How files are sent to those who may read them.

    ``secrets`` are keys for links: the first one signs, each is accepted. Without one, there are
    no links.
    """

    mode: str
    link_expires: timedelta
    accel_prefix: str | None
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Settings:
    """All the settings of the plugin.

    ``uploads_expire`` counts from the last byte of a resumable upload. ``defaults`` are for
    collections without ``overrides``, whose keys are (bucket,) or (bucket, collection).
    ``quotas`` are by the URI of their bucket or collection; that of the site is empty.
    """

    base_url: str
    extra_base_url: str
    former_base_urls: tuple[str, ...]
    storage: StorageOptions
    private_storage: StorageOptions | None
    download: DownloadSettings
    serve_files: bool
    uploads_expire: timedelta
    defaults: CollectionSettings
    overrides: Mapping[tuple[str, ...], CollectionSettings] = field(default_factory=dict)
    quotas: Mapping[str, Quota] = field(default_factory=dict)

    @classmethod
    def from_kinto(cls, settings: Mapping[str, Any]) -> Settings:
        """Read Kinto's settings. Raises ``ConfigurationError``."""
        given = dict(given_settings(settings))
        resources = {key: given.pop(key) for key in list(given) if key.startswith("resources.")}
        for name in given:
            if name not in _BY_NAME:
                raise _unknown(name, _BY_NAME)
        legacy = _legacy_keep_old_files(settings, given)
        values = {
            name: _parsed(name, setting, given.get(name, setting.default))
            for name, setting in _BY_NAME.items()
        } | legacy
        storage = storage_options(given, values)
        if isinstance(storage, GCloudOptions):
            values |= _gcloud_cache_control(given, values)
        defaults = CollectionSettings(**{name: values[name] for name in _OF_FILES})
        own = _by_ids(
            resources, has_alias=DEFAULT_BUCKET_PLUGIN in aslist(settings.get("includes", ""))
        )
        overrides = _overrides(own, defaults)
        has_private = any(each.private for each in (defaults, *overrides.values()))
        # After what is wrong with one setting, all of which ``former`` looks for.
        refuse_placeholders(settings, os.environ)
        return cls(
            base_url=values["base_url"],
            extra_base_url=values["extra.base_url"] or values["base_url"],
            former_base_urls=values["former_base_urls"],
            storage=storage,
            private_storage=private_options(values, storage, is_needed=has_private),
            download=_download(settings, values, storage),
            serve_files=values["serve_files"],
            uploads_expire=values["uploads.expires"],
            defaults=defaults,
            overrides=overrides,
            quotas=_quotas({(): values, **own}),
        )

    @property
    def keeps_old_files(self) -> bool:
        """Whether old files are kept in any collection."""
        return any(each.keep_old_files for each in (self.defaults, *self.overrides.values()))

    def for_collection(self, bucket_id: str, collection_id: str) -> CollectionSettings:
        """Return the collection's own settings, else its bucket's, else the defaults."""
        return (
            self.overrides.get((bucket_id, collection_id))
            or self.overrides.get((bucket_id,))
            or self.defaults
        )

    def has_quota(self, ids: Mapping[str, str]) -> bool:
        """Whether there is one for files of the record with these ids."""
        if not self.quotas:
            return False
        bucket = f"/buckets/{ids['bucket_id']}"
        uris = ("", bucket, f"{bucket}/collections/{ids['collection_id']}")
        return any(uri in self.quotas for uri in uris)

    def is_random(self, name: str) -> bool:
        """Whether the plugin makes names like that of a stored file, where ``randomize`` is true:
        no other file ever has it."""
        segment = name.rpartition("/")[2]
        return names.is_random(name) or any(
            pattern.fullmatch(segment) for pattern in self._random_names
        )

    @cached_property
    def _random_names(self) -> list[re.Pattern[str]]:
        templates = {
            each.filename_pattern
            for each in (self.defaults, *self.overrides.values())
            if (each.randomize or each.private) and "{filename}" in each.filename_pattern.text
        }
        values = {"filename": names.UUID4, "datetime": "[0-9]{14}", "rid": "[A-Za-z0-9_.-]+"}
        return [re.compile(rf"{each.regex(**values)}(\.[a-z0-9_-]+)?") for each in templates]

    def location(self, name: str) -> str:
        """Return the ``location`` of the file with this relative name."""
        return f"{self.base_url}{name}"

    @property
    def base_urls(self) -> list[str]:
        """All the base URLs that a location may have, the longest first, without the empty one of
        relative locations."""
        bases = {self.base_url, self.extra_base_url, *self.former_base_urls} - {""}
        return sorted(bases, key=len, reverse=True)

    def relative_names(self, location: Any) -> Iterator[str]:
        """Yield the names that ``location`` may mean: one for each base URL it starts with."""
        if not isinstance(location, str):
            return
        for base in self.base_urls:
            if location.startswith(base):
                yield location.removeprefix(base)
        if not location.startswith("/") and "://" not in location:
            yield location


def given_settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the plugin's keys, without their prefix, and their values as text.

    Kinto parses a value that looks like JSON: ``aws.bucket = 2024`` arrives as a number, and
    ``aws.bucket = "2024"`` as a text without quotes. It keeps what was written under the key with
    its own prefix.
    """
    prefix = settings.get("settings_prefix", "kinto")
    for key, value in settings.items():
        if key.startswith(_PREFIX):
            written = settings.get(f"{prefix}.{key}")
            if isinstance(value, list) and all(isinstance(item, str) for item in value):
                value = " ".join(value)
            elif isinstance(value, str):
                pass
            elif isinstance(written, str) and native_value(written) == value:
                value = written
            else:
                value = json.dumps(value)
            yield key.removeprefix(_PREFIX), value.strip()


def _parsed(key: str, setting: Setting, value: str | None) -> Any:
    if value is None or (value == "" and setting.default is None):
        return None
    try:
        return setting.parse(value)
    except ValueError as error:
        message = f"kinto.{_PREFIX}{key} {error}, not {value!r}."
        raise InvalidSetting(f"{_PREFIX}{key}", message) from None


def _unknown(name: str, known: Any, prefix: str = "") -> ConfigurationError:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    return InvalidSetting(
        f"{_PREFIX}{prefix}{name}",
        f"kinto.{_PREFIX}{prefix}{name} is not a setting. "
        f"Did you mean kinto.{_PREFIX}{prefix}{nearest}?",
    )


def _legacy_keep_old_files(
    settings: Mapping[str, Any], given: Mapping[str, str]
) -> dict[str, bool]:
    """Read ``kinto.keep_old_files``, the name of the setting in version 0.4.0."""
    if "keep_old_files" not in settings:
        return {}
    setting = _BY_NAME["keep_old_files"]
    text = settings["keep_old_files"]
    try:
        value = setting.parse(text if isinstance(text, str) else json.dumps(text))
    except ValueError as error:
        message = f"kinto.keep_old_files {error}, not {text!r}."
        raise InvalidSetting("keep_old_files", message) from None
    current = given.get("keep_old_files")
    if current is not None and _parsed("keep_old_files", setting, current) != value:
        raise InvalidSetting(
            "keep_old_files",
            "kinto.keep_old_files and kinto.attachment.keep_old_files contradict each other. "
            "Leave the first one out.",
        )
    return {"keep_old_files": value}


def _download(
    settings: Mapping[str, Any], values: Mapping[str, Any], storage: StorageOptions
) -> DownloadSettings:
    mode, is_local = values["download.mode"], isinstance(storage, LocalOptions)
    if mode == "redirect" and is_local:
        raise ConfigurationError(
            "kinto.attachment.download.mode = redirect needs S3 or Google Cloud Storage. On the "
            "local disk, use stream or accel."
        )
    if mode == "accel" and not (is_local and values["download.accel_prefix"]):
        raise ConfigurationError(
            "kinto.attachment.download.mode = accel needs kinto.attachment.base_path, and "
            "kinto.attachment.download.accel_prefix, the path of nginx's internal location."
        )
    secret = values["download.secret"] or settings.get("userid_hmac_secret")
    # The former one never signs.
    secrets = (secret, values["download.former_secret"] if secret else None)
    return DownloadSettings(
        mode,
        values["download.link_expires"],
        values["download.accel_prefix"],
        tuple(str(each) for each in secrets if each),
    )


def _gcloud_cache_control(
    given: Mapping[str, str], values: Mapping[str, Any]
) -> dict[str, str | None]:
    """Read ``gcloud.cache_control``, the name of the setting in versions 6.3 to 9.x."""
    value = values["gcloud.cache_control"]
    if value is None:
        return {}
    if "cache_control" in given and values["cache_control"] != value:
        raise ConfigurationError(
            "kinto.attachment.cache_control and kinto.attachment.gcloud.cache_control contradict "
            "each other. Leave the second one out."
        )
    return {"cache_control": value}


_ByIds = Mapping[tuple[str, ...], Mapping[str, Any]]
"""Settings by their names, under () for all, (bucket,) or (bucket, collection)."""


def _by_ids(given: Mapping[str, str], *, has_alias: bool) -> _ByIds:
    """Parse the settings of buckets and collections."""
    values: dict[tuple[str, ...], dict[str, Any]] = {}
    for key, value in given.items():
        *ids, name = key.split(".")[1:]
        if len(ids) not in (1, 2) or not all(_ID.fullmatch(part) for part in ids):
            raise InvalidSetting(
                f"{_PREFIX}{key}",
                f"kinto.{_PREFIX}{key} is malformed: it should be resources.(bucket).(setting) or "
                "resources.(bucket).(collection).(setting), with ids that have no dots, as in "
                f"kinto.{_PREFIX}resources.{'.'.join(_nearest_ids(ids))}."
                f"{difflib.get_close_matches(name, _BY_COLLECTION, n=1, cutoff=0)[0]}.",
            )
        if name not in _BY_COLLECTION:
            raise _unknown(name, _BY_COLLECTION, f"resources.{'.'.join(ids)}.")
        if has_alias and ids[0] == "default":
            # The same bucket is written under its own id as well, by its user and by others.
            raise InvalidSetting(
                f"{_PREFIX}{key}",
                f"kinto.{_PREFIX}{key} would apply to no bucket: with {DEFAULT_BUCKET_PLUGIN}, "
                "default stands for a bucket of each user, which has an id of its own. Set "
                f"kinto.{_PREFIX}{name}, and other values for buckets with an id.",
            )
        values.setdefault(tuple(ids), {})[name] = _parsed(key, _BY_NAME[name], value)
    return values


def _overrides(
    values: _ByIds, defaults: CollectionSettings
) -> dict[tuple[str, ...], CollectionSettings]:
    merged = {ids: {**values.get(ids[:1], {}), **own} for ids, own in values.items()}
    return {
        ids: replace(defaults, **{name: own[name] for name in _OF_FILES if name in own})
        for ids, own in merged.items()
    }


def _quotas(values: _ByIds) -> dict[str, Quota]:
    """Return the quotas that limit anything, by the URI of what they limit."""
    quotas = {
        "".join(f"/{kind}/{part}" for kind, part in zip(_KINDS, ids, strict=False)): Quota(
            *(own.get(name, 0) for name in _QUOTAS)
        )
        for ids, own in values.items()
    }
    return {uri: quota for uri, quota in quotas.items() if quota != Quota(0, 0)}


def _nearest_ids(ids: list[str]) -> list[str]:
    cleaned = [re.sub(r"^[^a-zA-Z0-9]+|[^a-zA-Z0-9_-]", "", part) for part in ids]
    return [part for part in cleaned if part][:2] or ["bucket"]
