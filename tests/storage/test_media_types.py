"""Media types: which extension has which, and which of them run scripts."""

from __future__ import annotations

import mimetypes

import pytest

from kinto_attachment.settings.parsers import EXTENSION_GROUPS
from kinto_attachment.storage import media_types
from kinto_attachment.storage.media_type_table import BY_EXTENSION


def test_the_machine_does_not_matter(monkeypatch):
    monkeypatch.setattr(mimetypes, "guess_type", lambda *args: ("text/html", None))

    assert media_types.guess("a.txt") == "text/plain"
    assert media_types.guess("a.unknown") == "application/octet-stream"


def test_types_are_well_formed_and_extensions_in_lower_case():
    assert len(BY_EXTENSION) > 300
    for extension, media_type in BY_EXTENSION.items():
        assert extension == extension.lower().strip(".")
        assert media_types.is_media_type(media_type)


def test_nothing_that_a_group_allows_is_unknown_but_for_binaries():
    unknown = {
        extension
        for extensions in EXTENSION_GROUPS.values()
        for extension in extensions
        if extension not in BY_EXTENSION
    }

    assert unknown == {"dvr"}


def test_the_group_for_pictures_of_strangers_runs_no_scripts():
    group = EXTENSION_GROUPS["raster-images"]

    assert not any(media_types.runs_scripts(BY_EXTENSION[extension]) for extension in group)


@pytest.mark.parametrize(
    "media_type",
    [
        "text/html",
        "Text/HTML",
        "application/xhtml+xml",
        "image/svg+xml",
        "application/xml",
        "text/xml",
        "text/xml-external-parsed-entity",
        "application/rss+xml",
        "text/xsl",
        "text/javascript",
        "application/x-javascript",
        "text/javascript1.5",
        "text/livescript",
        "application/ecmascript",
        "multipart/x-mixed-replace",
        "message/rfc822",
        # Browsers look into the content of these.
        "application/unknown",
        "unknown/unknown",
    ],
)
def test_types_that_browsers_run(media_type):
    assert media_types.runs_scripts(media_type)


@pytest.mark.parametrize(
    "media_type",
    [
        "image/png",
        "text/plain",
        "text/css",
        "application/pdf",
        "application/json",
        "application/octet-stream",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.mozilla.xul",
    ],
)
def test_types_that_browsers_do_not_run(media_type):
    assert not media_types.runs_scripts(media_type)
