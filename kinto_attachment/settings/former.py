"""What the settings of versions 0.x to 9.x mean to this version: what stops the server, what has
another default or meaning, and what stays as it was.

Earlier versions accepted every key below ``kinto.attachment.``, and ignored the unknown ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from kinto.core.utils import native_value
from pyramid.exceptions import ConfigurationError
from pyramid_storage.extensions import resolve_extensions

from kinto_attachment.settings import InvalidSetting, Settings, given_settings, parsers
from kinto_attachment.settings.placeholders import refuse_placeholders

_ADVICE = {
    "gzipped": "Versions up to 6.4 compressed files where it was true. Leave it out: files are"
    " stored as they are sent. Compressed ones stay, and so does 'original' in their records.",
    "use_content_encoding": "Versions 2.1 to 3.0 compressed files on S3 where it was true. Leave"
    " it out. Records of such files have the size and SHA-256 of the original, so that check"
    " reports the stored ones as different.",
    "max_size": "The README of the versions since 8.0.0 named it, but none has read it: no limit"
    " applied. To have one, write kinto.attachment.max_size_bytes; else leave it out.",
}
_DEFAULT_EXTENSIONS = "default"
# What chose the storage, in this order, and what does now. Versions since 8.0.0 knew no S3.
_CHOICES = (
    ("base_path", "base_path"),
    ("gcloud.credentials", "gcloud.bucket_name"),
    ("aws.bucket_name", "aws.bucket_name"),
)
_OF_STORAGE = tuple(
    f"attachment.{name}" for name in ("base_path", "aws.", "gcloud.", "private.", "serve_files")
)


@dataclass(frozen=True)
class Change:
    """A setting that means something else than it did. ``decide``: it has to be changed or
    confirmed before this version is started."""

    key: str
    sentence: str
    decide: bool


@dataclass(frozen=True)
class FormerSettings:
    """Settings of an earlier version, as this one takes them.

    ``refusals`` are sentences for what stops the server; ``settings`` is ``None`` if anything
    would. ``base_urls`` are those that are known, with the empty one of relative locations.
    ``unchanged`` are names of settings without their prefix.
    """

    settings: Settings | None
    refusals: list[str]
    changes: list[Change]
    unchanged: list[str]
    base_urls: list[str]


def read(settings: Mapping[str, Any]) -> FormerSettings:
    """Read Kinto's settings, however wrong those of the plugin are."""
    remaining = dict(settings)
    refusals = [*_placeholders(settings)]
    dropped: set[str] = set()
    given: dict[str, str] | None = None
    result = None
    while result is None:
        try:
            result = Settings.from_kinto(remaining)
        except InvalidSetting as error:
            advice = _ADVICE.get(error.key.rpartition(".")[2])
            refusals.append(f"kinto.{error.key} is no setting. {advice}" if advice else str(error))
            dropped.add(error.key)
            del remaining[error.key]
            if given is not None:
                given.pop(error.key.removeprefix("attachment."), None)
        except ConfigurationError as error:
            if given is not None:
                break
            # That a setting is missing may only follow from leaving it out here.
            follows = any(key.startswith(_OF_STORAGE) for key in dropped)
            if not follows and str(error) not in refusals:
                refusals.append(str(error))
            # What else is wrong is told with any storage.
            given = dict(given_settings(remaining))
            for key in [key for key in remaining if key.startswith(_OF_STORAGE)]:
                del remaining[key]
            remaining["attachment.base_path"] = "files"
    given = dict(given_settings(remaining)) if given is None else given
    changes = [*_changes(settings, given)]
    changed = {change.key for change in changes}
    return FormerSettings(
        settings=None if refusals else result,
        refusals=refusals,
        changes=changes,
        unchanged=[name for name in given if name not in changed],
        base_urls=_base_urls(given),
    )


def _placeholders(settings: Mapping[str, Any]) -> Iterator[str]:
    try:
        refuse_placeholders(settings, os.environ)
    except ConfigurationError as error:
        yield str(error)


def _changes(settings: Mapping[str, Any], given: Mapping[str, str]) -> Iterator[Change]:
    """Yield what changes, of the settings that this version accepts."""
    yield from _extensions(given)
    yield from _base_url(given)
    yield from _storage(given)
    yield from _randomize(given)
    yield from _patterns(given)
    if (
        given.get("gcloud.bucket_name")
        and given.get("gcloud.acl") == ""
        and not parsers.flag(given.get("gcloud.uniform_bucket_level_access", ""))
    ):
        yield Change(
            "gcloud.acl",
            "kinto.attachment.gcloud.acl is empty: files had publicRead, and get no ACL now. Write"
            " publicRead, or leave out the setting, to keep them public; else set"
            " kinto.attachment.gcloud.uniform_bucket_level_access.",
            decide=True,
        )
    if "keep_old_files" in settings:
        yield Change(
            "keep_old_files",
            "kinto.keep_old_files was read by no version, and is the same as"
            " kinto.attachment.keep_old_files now.",
            decide="keep_old_files" not in given,
        )


def _extensions(given: Mapping[str, str]) -> Iterator[Change]:
    text = given.get("extensions")
    former = resolve_extensions(_DEFAULT_EXTENSIONS if text is None else text)
    if text is None:
        sentence = (
            "kinto.attachment.extensions is not set: versions since 6.0 allowed the group default"
            " only, this one allows any extension. Write kinto.attachment.extensions = default, or"
            " = any."
        )
    elif former != parsers.extensions(text):
        sentence = (
            f"kinto.attachment.extensions = {text} allowed only {' '.join(sorted(former))}: beside"
            " others, any had no effect, nor had an extension with its dot, or a group in upper"
            " case. They have now. Write what you want."
        )
    else:
        return
    yield Change("extensions", sentence, decide=True)


def _base_url(given: Mapping[str, str]) -> Iterator[Change]:
    text = given.get("base_url", "")
    # What earlier versions did with a name; any name will do.
    former = urljoin(text, "name").removesuffix("name")
    if former != parsers.base_url(text):
        known = former in parsers.base_urls(given.get("former_base_urls", ""))
        yield Change(
            "base_url",
            f"kinto.attachment.base_url = {text}: earlier versions dropped what follows its last"
            f" slash, so that locations began with {former!r}. They begin with"
            f" {parsers.base_url(text)} now. Write the URL that files are downloaded from; if it"
            " is another one than that of the records, add theirs to"
            " kinto.attachment.former_base_urls.",
            decide=not known,
        )


def _storage(given: Mapping[str, str]) -> Iterator[Change]:
    chosen = [name for key, name in _CHOICES if key in given and given.get(name)]
    for other in chosen[1:]:
        yield Change(
            other,
            f"kinto.attachment.{other} was ignored: files were stored in that of"
            f" kinto.attachment.{chosen[0]}. Leave out one of them.",
            decide=True,
        )


def _randomize(given: Mapping[str, str]) -> Iterator[Change]:
    text = given.get("randomize", "true")
    if native_value(text) and not parsers.boolean(text):
        yield Change(
            "randomize",
            f"kinto.attachment.randomize = {text} left names random, for only false in lower case"
            " counted; now files keep their names. Write true or false.",
            decide=True,
        )


def _patterns(given: Mapping[str, str]) -> Iterator[Change]:
    for key, text in given.items():
        if key.rpartition(".")[2] != "filename_pattern":
            continue
        ends = not text.endswith("{filename}")
        if ends or "{datetime}" in text:
            yield Change(
                key,
                f"kinto.attachment.{key} = {text}: names of new files differ:"
                f"{' their extension is at the end.' if ends else ''}"
                f"{' {datetime} is in UTC.' if '{datetime}' in text else ''}",
                decide=False,
            )


def _base_urls(given: Mapping[str, str]) -> list[str]:
    current = (parsers.base_url(given.get(name, "")) for name in ("base_url", "extra.base_url"))
    return sorted({*current, *parsers.base_urls(given.get("former_base_urls", "")), ""})
