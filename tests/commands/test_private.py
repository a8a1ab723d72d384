"""The commands on private files, which have a store of their own."""

from __future__ import annotations

import pytest

from kinto_attachment.attachments.lookup import FILES
from kinto_attachment.attachments.site import MARKER
from tests.conftest import kinto_settings_with
from tests.support.orphans import grow_old
from tests.support.servers.kinto import ini

both = pytest.mark.parametrize("where", ["local", "s3"])
STRAY = "00000000-0000-4000-8000-000000000000.txt"


@pytest.fixture
def private(stored):
    return {"attachment": {**stored.private_settings, "private": "true"}}


@pytest.fixture
def record(make_record, private):
    """Two records with private files."""
    record = make_record(**private)
    record.attach(b"content")
    record.other().attach(b"other")
    return record


@both
def test_both_stores_are_looked_at(record, command, private):
    result = command("check", "--hash", "--json", **private)

    assert result.status == 0
    assert result.counts["files stored"] == 2


@both
def test_orphans_go_from_where_they_are(record, command, private, execute):
    execute("UPDATE objects SET data = data - 'attachment' WHERE id = 'other'")

    result = command("gc", "--delete", "--older-than=0s", "--json", **private)

    assert result.counts["files deleted"] == 1
    assert record.files() == [record.data["attachment"]["location"].partition("org/")[2]]


def test_a_stray_of_the_private_store_goes(record, command, private, stored):
    (stored.private / STRAY).write_bytes(b"stray")
    (stored.private / f".{STRAY.removesuffix('.txt')}.part").write_bytes(b"part")
    grow_old(record)

    result = command("gc", "--delete", "--older-than=0s", "--json", **private)

    assert result.status == 0
    assert result.counts["files deleted"] == 2
    assert len(record.files()) == 2


def test_a_store_that_is_no_longer_configured(record, command):
    for name in ("check", "gc"):
        result = command(name)
        assert result.status == 2
        assert "no store for them: set kinto.attachment.private.base_path" in result.errors


def test_a_private_store_of_another_site(record, command, private, stored):
    (stored.private / MARKER).write_text("another\n")

    result = command("gc", **private)

    assert result.status == 2
    assert "the files belong to another database" in result.errors


def test_a_private_store_that_holds_nothing_of_the_site(record, command, private, stored):
    for path in stored.private.iterdir():
        path.unlink()
    (stored.private / STRAY).write_bytes(b"somebody else's")
    (stored.private / MARKER).unlink(missing_ok=True)
    grow_old(record)

    result = command("gc", "--delete", "--older-than=0s", **private)

    assert result.status == 2
    assert "the database knows none of the stored files" in result.errors
    assert (stored.private / STRAY).exists()


def test_a_row_that_does_not_say_what_the_name_does(record, command, private, execute):
    names = record.files()
    execute("UPDATE objects SET data = data - 'private' WHERE resource_name = %s", FILES)

    result = command("check", "--json", **private)
    assert result.status == 1
    assert result.counts["files with doubtful privacy"] == 2

    record.app.delete(record.path)
    record.other().app.delete(record.other().path)
    grow_old(record)
    command("gc", "--delete", "--older-than=0s", "--allow-many", **private)
    assert record.files() == names


def test_a_private_name_in_the_public_store_is_told(record, command, private, stored):
    record.attach(b"content")
    (stored.path / "_private").mkdir(parents=True)
    (stored.path / "_private" / STRAY).write_bytes(b"published by mistake")

    result = command("check", **private)

    assert result.status == 1
    assert f"_private/{STRAY} is in the store of public files" in result.output
    (stored.path / "_private" / STRAY).unlink()
    (stored.path / "_private").rmdir()


@pytest.fixture
def copy_to(command, tmp_path, private):
    """``copy_to(folder, private_folder)`` copies to a disk; without the second, one that has no
    store for private files."""

    def run(public, private_folder=None):
        settings = {"base_path": str(public)}
        if private_folder is not None:
            settings |= {"private.base_path": str(private_folder)}
        path = tmp_path / "other.ini"
        path.write_text(ini(kinto_settings_with({}, settings, {}), 8888))
        return command("copy", "--json", "--to-ini", str(path), **private)

    return run


def test_private_files_are_copied_into_a_private_store(record, copy_to, tmp_path):
    result = copy_to(tmp_path / "public", tmp_path / "private")

    assert result.status == 0
    copied = {f"_private/{path.name}" for path in (tmp_path / "private").iterdir()}
    assert copied == {*record.files(), f"_private/{MARKER}"}
    assert [path.name for path in (tmp_path / "public").iterdir()] == [MARKER]


def test_they_are_copied_nowhere_else(record, copy_to, tmp_path):
    result = copy_to(tmp_path / "public")

    assert result.status == 1
    assert sorted(finding["name"] for finding in result.findings) == record.files()
    assert "for which there is no store" in result.output
    assert [path.name for path in (tmp_path / "public").iterdir()] == [MARKER]


@pytest.mark.parametrize("which", ["private", "public"])
def test_no_store_of_the_target_is_one_of_the_source(record, copy_to, stored, tmp_path, which):
    places = {"public": tmp_path / "public", "private": tmp_path / "private"}
    places[which] = stored.private

    result = copy_to(places["public"], places["private"])

    assert result.status == 2
    assert "are the same folder" in result.errors


def test_the_private_folder_is_a_whole_path(record, command):
    settings = {"private": "true", "private.base_path": "private"}

    result = command("gc", attachment=settings)

    assert result.status == 2
    assert "kinto.attachment.private.base_path is relative (private)" in result.errors
