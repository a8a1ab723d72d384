"""``kinto-attachment copy``: which store may be its target, and what the two ini files mean."""

from __future__ import annotations

import builtins

import pytest

from kinto_attachment.attachments.site import MARKER
from tests.support.copies import to_s3
from tests.support.servers.kinto import ini


@pytest.fixture
def attached(record):
    record.attach(b"content")
    return record


def refused(result, *words):
    assert result.status == 2
    assert result.output == ""
    for word in words:
        assert word in result.errors
    return True


@pytest.mark.parametrize("to", ["local", "seaweedfs"])
def test_the_target_becomes_one_of_the_site(attached, target, copy, execute):
    [(site_id,)] = execute("SELECT value FROM metadata WHERE name = 'kinto_attachment_site'")

    assert copy().status == 0
    assert target.marker == f"{site_id}\n"
    assert copy().status == 0


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_the_store_of_another_site_is_refused(attached, target, copy, options):
    target.stored.path.mkdir()
    (target.stored.path / MARKER).write_text("another\n")

    assert refused(copy(*options), "another", "--to-ini")
    assert target.names() == []


def test_the_files_of_another_site_are_not_copied(attached, target, copy):
    (attached.folder / MARKER).write_text("another\n")

    assert refused(copy(), "the files belong to another database")


def test_an_empty_site_copies_nothing(record, target, copy, execute):
    [(site_id,)] = execute("SELECT value FROM metadata WHERE name = 'kinto_attachment_site'")
    execute("DELETE FROM metadata WHERE name = 'kinto_attachment_site'")
    try:
        assert copy().status == 0
    finally:
        query = "INSERT INTO metadata (name, value) VALUES ('kinto_attachment_site', %s)"
        execute(query, site_id)
    assert not target.stored.path.exists()


def test_files_that_have_not_been_taken_over_are_refused(attached, copy, execute):
    execute(
        "INSERT INTO objects (id, parent_id, resource_name, data, deleted) VALUES"
        " ('x', '__attachments__', '', '{\"location\": \"a\", \"attachment\": {}}', FALSE)"
    )

    assert refused(copy(), "kinto migrate")


@pytest.mark.parametrize("folder", [".", "copies", ".."])
def test_the_folder_itself_or_one_inside_it_is_refused(attached, command, tmp_path, folder):
    link = tmp_path / "link"
    link.symlink_to(attached.folder)
    path = link / folder if folder != ".." else attached.folder.parent

    result = to_settings(command, tmp_path, base_path=str(path))

    assert refused(result, "are the same folder, or one is inside the other")


@pytest.mark.parametrize("where", ["s3"])
def test_the_bucket_itself_is_refused(attached, command, tmp_path):
    settings = {**attached.stored.settings, "base_path": None}

    result = to_settings(command, tmp_path, **settings)

    assert refused(result, "names the bucket that the files are in")


def to_settings(command, tmp_path, **settings):
    of_plugin = {f"kinto.attachment.{name}": value for name, value in settings.items() if value}
    (tmp_path / "other.ini").write_text(ini(of_plugin, 8888))
    return command("copy", "--to-ini", str(tmp_path / "other.ini"))


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"base_path": "relative"}, "kinto.attachment.base_path is relative"),
        ({}, "where to store files"),
        ({"base_path": "/files", "nonsense": "1"}, "kinto.attachment.nonsense"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(attached, command, tmp_path, settings, word):
    result = to_settings(command, tmp_path, **settings)

    assert refused(result, f"--to-ini {tmp_path}/other.ini", word)


@pytest.mark.parametrize("text", ["no ini file", "[server:main]\nuse = egg:waitress\n"])
def test_what_is_no_configuration_is_refused(attached, command, tmp_path, text):
    path = tmp_path / "other.ini"
    path.write_text(text)

    assert refused(command("copy", "--to-ini", str(path)), "--to-ini", "other.ini")


def test_settings_that_are_in_conflict_are_refused(attached, command, tmp_path):
    path = tmp_path / "other.ini"
    path.write_text(
        ini({"kinto.attachment.base_path": "/files", "attachment.base_path": "/others"}, 8888)
    )

    assert refused(command("copy", "--to-ini", str(path)), "in conflict")


def test_an_ini_file_that_is_not_there(attached, command):
    assert refused(command("copy", "--to-ini", "/nowhere/other.ini"), "/nowhere/other.ini")


def test_a_provider_that_is_not_installed(attached, command, tmp_path, monkeypatch):
    import_module = builtins.__import__

    def refuse(name, *args):
        if name == "kinto_attachment.storage.s3":
            raise ImportError("No module named 'boto3'", name="boto3")
        return import_module(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)

    result = to_settings(command, tmp_path, **{"aws.bucket": "files"})

    assert refused(result, "--to-ini", "No module named 'boto3'")


@pytest.mark.usefixtures("anew")
def test_the_environment_counts_for_both_ini_files(attached, command, tmp_path, monkeypatch):
    monkeypatch.setenv("KINTO_ATTACHMENT_BASE_PATH", str(tmp_path / "elsewhere"))

    result = to_settings(command, tmp_path, base_path=str(tmp_path / "target"))

    assert refused(result, str(tmp_path / "elsewhere"), "are the same folder")


@to_s3
def test_a_target_that_does_not_answer(attached, make_target, command):
    target = make_target({"aws.endpoint_url": "http://127.0.0.1:1/"})

    assert refused(command("copy", "--to-ini", str(target.ini)), "cannot read")


def test_only_the_settings_of_the_plugin_count(attached, make_target, command, tmp_path):
    target = make_target()
    text = target.ini.read_text()
    target.ini.write_text(
        text.replace(
            "[server:main]",
            "kinto.storage_backend = kinto.core.storage.postgresql\n"
            "kinto.storage_url = postgresql://nobody@127.0.0.1:1/nothing\n"
            "kinto.includes = nothing.of.that.name\n\n[server:main]",
        )
    )

    assert command("copy", "--to-ini", str(target.ini)).status == 0
    assert target.names() == attached.files()
