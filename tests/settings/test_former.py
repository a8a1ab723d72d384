"""What the settings of earlier versions mean now."""

from __future__ import annotations

import pytest

from kinto_attachment.settings import former

# As the README of version 8.0.0 writes them, with what it says of extensions decided.
ACCEPTED = {
    "base_url": "http://cdn.service.org/files/",
    "base_path": "files",
    "extensions": "default",
    "folder": "{bucket_id}/{collection_id}",
    "keep_old_files": "true",
    "resources.blog.articles.keep_old_files": "false",
    "mimetypes": ".ftl:application/vnd.fluent;.db:application/vnd.sqlite3",
    "max_size_bytes": "10485760",
}


def read(_other=(), **given):
    """The settings of ``ACCEPTED``, and these. A value of ``None`` leaves one out."""
    merged = {**ACCEPTED, **{key.replace("__", "."): value for key, value in given.items()}}
    written = {f"attachment.{key}": value for key, value in merged.items() if value is not None}
    return former.read({**written, **dict(_other)})


def test_most_settings_stay_as_they_are():
    result = read()

    assert result.settings is not None
    assert (result.refusals, result.changes) == ([], [])
    assert result.unchanged == [*ACCEPTED]
    assert result.base_urls == ["", "http://cdn.service.org/files/"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"gzipped": "true"}, "stored as they are sent"),
        ({"resources__blog__gzipped": "true"}, "stored as they are sent"),
        ({"use_content_encoding": "true"}, "check reports"),
        ({"max_size": "10485760"}, "kinto.attachment.max_size_bytes"),
        ({"keep_old_file": "true"}, "kinto.attachment.keep_old_files"),
        ({"keep_old_files": "maybe"}, "true or false"),
        ({"folder": "{bucket_id:s}"}, "no braces"),
        ({"resources__b__c__d__folder": "x"}, "malformed"),
        ({"base_path": None}, "does not know where to store files"),
        ({"base_path": None, "aws__bucket_name": "b", "aws__access_key": "a"}, "go together"),
    ],
    ids=str,
)
def test_what_stops_the_server_is_told_with_what_to_do(given, words):
    result = read(**given)

    assert result.settings is None
    [refusal] = result.refusals
    assert words in refusal


def test_all_that_stops_the_server_is_told_at_once():
    wrong = {"gzipped": "true", "max_size": "1", "resources__b__max_size": "5"}
    result = read(aws__bucket_name="b", base_url="no URL", **wrong)

    assert [refusal.split()[0] for refusal in result.refusals] == [
        "kinto.attachment.gzipped",
        "kinto.attachment.max_size",
        "kinto.attachment.base_url",
        "kinto.attachment.base_path",
        "kinto.attachment.resources.b.max_size",
    ]


def test_what_stops_the_server_neither_changes_nor_stays():
    wrong = {"resources__b__max_size": "5", "resources__b.c.d__filename_pattern": "{filename}-x"}
    result = read(base_path=None, **wrong)

    assert len(result.refusals) == 3
    assert "resources.b.max_size" not in result.unchanged
    assert result.changes == []


@pytest.mark.parametrize("others", [{}, {"max_size": "1"}, {"aws__bucket_name": "b"}], ids=str)
def test_a_placeholder_stops_the_server_as_well(others):
    result = read({"userid_hmac_secret": "change-me"}.items(), **others)

    assert result.settings is None
    assert "kinto.userid_hmac_secret has a placeholder" in result.refusals[0]
    assert len(result.refusals) == 1 + len(others)


def test_what_only_follows_from_something_wrong_is_not_told():
    result = read(base_path='"quoted', aws__region="x")

    assert [refusal.split()[0] for refusal in result.refusals] == ["kinto.attachment.base_path"]


def test_a_store_that_is_missing_as_well_is_told_the_next_time():
    result = read(base_path=None, private="true")

    assert len(result.refusals) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"extensions": None}, "kinto.attachment.extensions = default"),
        ({"extensions": "images+any"}, "allowed only bmp"),
        ({"extensions": ".pdf"}, "allowed only .pdf:"),
        ({"base_url": "https://cdn.org/files"}, "began with 'https://cdn.org/'"),
        ({"aws__bucket_name": "b"}, "aws.bucket_name was ignored"),
        ({"randomize": "False"}, "left names random"),
        (
            {"base_path": None, "gcloud__bucket_name": "b", "gcloud__acl": ""},
            "kinto.attachment.gcloud.acl is empty",
        ),
    ],
    ids=str,
)
def test_what_means_something_else_is_to_be_decided(given, words):
    [change] = read(**given).changes

    assert words in change.sentence
    assert change.decide


@pytest.mark.parametrize(
    "given",
    [
        {"extensions": "any"},
        {"extensions": "images+pdf"},
        {"base_url": "https://cdn.org"},
        {"base_url": ""},
        {"randomize": "false"},
        {"base_path": None, "gcloud__bucket_name": "b"},
        {
            "base_path": None,
            "gcloud__bucket_name": "b",
            "gcloud__acl": "",
            "gcloud__uniform_bucket_level_access": "true",
        },
        {"gcloud__acl": ""},
    ],
    ids=str,
)
def test_what_means_the_same_is_no_change(given):
    assert read(**given).changes == []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{datetime}-{rid}-{filename}", "is in UTC"),
        ("{filename}-{rid}", "extension is at the end"),
        ("{rid}-{filename}", None),
    ],
)
@pytest.mark.parametrize("key", ["filename_pattern", "resources__b__filename_pattern"])
def test_names_of_new_files_may_differ(key, pattern, words):
    changes = read(**{key: pattern}).changes

    assert [words in change.sentence for change in changes] == ([] if words is None else [True])
    assert not any(change.decide for change in changes)


def test_a_former_base_url_that_is_known_is_decided():
    result = read(base_url="https://cdn.org/files", former_base_urls="https://cdn.org/")

    assert [change.decide for change in result.changes] == [False]
    assert result.base_urls == ["", "https://cdn.org/", "https://cdn.org/files/"]


@pytest.mark.parametrize(
    ("current", "refused", "decide"), [(None, 0, True), ("true", 0, False), ("false", 1, False)]
)
def test_a_name_that_no_version_has_read(current, refused, decide):
    result = read({"keep_old_files": "true"}.items(), keep_old_files=current)

    assert len(result.refusals) == refused
    assert [change.decide for change in result.changes] == [decide]
