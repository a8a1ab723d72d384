"""``kinto-attachment gc`` deletes nothing without evidence that the files are the site's own."""

from __future__ import annotations

import os
import time
from uuid import uuid4

import pytest

from kinto_attachment.attachments.site import MARKER
from tests.support.orphans import ANOTHER, DAY, STRAY, grow_old, names

SITE = "DELETE FROM metadata WHERE name = 'kinto_attachment_site'"
NEW_SITE = "INSERT INTO metadata (name, value) VALUES ('kinto_attachment_site', %s)"
OBJECTS = "DELETE FROM objects"

everywhere = pytest.mark.parametrize("where", ["local", "s3", "gcloud"])


@pytest.fixture
def site_id(execute):
    """The database's site id, which tests may change."""
    select = "SELECT value FROM metadata WHERE name = 'kinto_attachment_site'"
    [(value,)] = execute(select)
    yield value
    execute(SITE)
    execute(NEW_SITE, value)


@pytest.fixture
def attached(record):
    """Two records with files; the first upload has marked the storage."""
    record.attach(b"content")
    record.other().attach(b"other")
    return record


def refused(result, *words):
    assert result.status == 2
    assert result.output == ""
    for word in words:
        assert word in result.errors
    return True


def run(command, *options, **settings):
    return command("gc", "--delete", "--older-than=0s", "--json", *options, **settings)


def add_strays(record, count):
    for number in range(count):
        (record.folder / f"{uuid4()}.{number}").write_bytes(b"stray")
    grow_old(record)


def test_small_sites_are_never_refused(attached, command):
    (attached.folder / STRAY).write_bytes(b"stray")

    assert names(run(command)) == [STRAY]
    assert run(command).status == 0
    assert len(attached.files()) == 2


def test_a_site_whose_only_file_is_an_orphan_is_not_refused(attached, command):
    attached.detach()
    attached.other().detach()
    (attached.folder / STRAY).write_bytes(b"stray")

    assert names(run(command)) == [STRAY]


def test_a_site_without_files_is_not_refused(record, command):
    assert run(command).status == 0


def test_a_site_that_was_not_marked_is_known_by_its_files(attached, command):
    (attached.folder / MARKER).unlink()
    (attached.folder / STRAY).write_bytes(b"stray")

    assert names(run(command)) == [STRAY]


def test_a_site_that_was_not_marked_is_known_by_a_record(attached, command, execute):
    execute("DELETE FROM objects WHERE resource_name LIKE 'attachments%%'")
    (attached.folder / MARKER).unlink()
    (attached.folder / STRAY).write_bytes(b"stray")

    assert names(run(command)) == [STRAY]


@everywhere
def test_an_empty_database_of_another_site(attached, command, execute, site_id):
    """A restore that is not finished, in a database that was migrated."""
    before = attached.files()
    execute(OBJECTS)
    execute(SITE)
    execute(NEW_SITE, "another")

    assert refused(run(command), "another database", MARKER, site_id, "another")
    assert refused(command("gc"), "another database")
    assert attached.files() == before


def test_a_database_that_has_the_id_of_its_backup_too(attached, command, execute, site_id):
    execute(NEW_SITE, "another")
    (attached.folder / STRAY).write_bytes(b"stray")

    assert names(run(command)) == [STRAY]


def test_an_empty_database_where_the_files_were_not_marked(attached, command, execute):
    (attached.folder / MARKER).unlink()
    before = attached.files()
    execute(OBJECTS)

    assert refused(run(command), "knows none of the stored files")
    assert attached.files() == before


def test_a_database_that_was_not_migrated(attached, command, execute, site_id):
    before = attached.files()
    execute(SITE)

    assert refused(run(command), "kinto migrate")
    assert attached.files() == before


def test_a_database_that_was_not_migrated_is_no_matter_without_files(
    record, command, execute, site_id
):
    execute(SITE)

    assert run(command).status == 0


def test_foreign_files_in_an_empty_site_are_left(record, command, files):
    files.mkdir()
    (files / "index.html").write_text("of somebody else")

    assert run(command).status == 0
    assert record.files() == ["index.html"]


def test_a_relative_base_path(attached, command, monkeypatch, tmp_path):
    before = attached.files()
    monkeypatch.chdir(attached.folder.parent)
    relative = {"base_path": attached.folder.name}

    assert refused(
        run(command, attachment=relative), "kinto.attachment.base_path", str(attached.folder)
    )
    assert refused(command("gc", attachment=relative), "relative")
    assert attached.files() == before


def test_more_strays_than_a_tenth_of_the_files_and_a_hundred(attached, command):
    add_strays(attached, 101)

    told = command("gc", "--json")

    assert refused(run(command), "101 of 103 files", "--allow-many")
    assert told.status == 0
    assert told.findings[0]["problem"] == "doubt"
    assert told.counts["files to delete"] == 101
    assert len(attached.files()) == 103

    assert run(command, "--allow-many").counts["files deleted"] == 101
    assert len(attached.files()) == 2


def test_a_hundred_strays_are_not_too_many(attached, command):
    add_strays(attached, 100)

    assert run(command).counts["files deleted"] == 100


def test_what_was_given_up_or_is_a_part_is_not_counted(attached, command, execute):
    """100 strays; the rows of two files say that they are gone."""
    add_strays(attached, 100)
    for _ in range(3):
        (attached.folder / f".{uuid4()}.part").write_bytes(b"part")
    contents = {name: (attached.folder / name).read_bytes() for name in attached.files()}
    attached.detach()
    attached.other().detach()
    for name, content in contents.items():
        (attached.folder / name).write_bytes(content)

    told = command("gc", "--older-than=0s", "--json")

    kinds = [finding["kind"] for finding in told.findings]
    assert {kind: kinds.count(kind) for kind in {*kinds}} == {"stray": 100, "gone": 2, "part": 3}
    assert run(command).counts["files deleted"] == 105


def test_foreign_files_do_not_make_strays_look_few(attached, command):
    add_strays(attached, 101)
    for number in range(1000):
        (attached.folder / f"page-{number}.html").write_bytes(b"foreign")

    assert refused(run(command), "101 of 103 files")


@pytest.fixture
def foreign(attached):
    """A checkout and a web site are stored where the files are."""
    for name in (".git/config", "index.html", "bundles/a.zip", STRAY):
        path = attached.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"12345")
    grow_old(attached)
    return attached


def test_foreign_files_are_listed_and_left(foreign, command):
    told = command("gc", "--json")
    result = run(command)

    left = [finding["name"] for finding in told.findings if finding["kind"] == "foreign"]
    assert left == [".git/config", "bundles/a.zip", "index.html"]
    assert told.counts["files foreign"] == result.counts["files foreign"] == 3
    assert told.counts["bytes foreign"] == 15
    assert names(result) == [STRAY]
    assert len(foreign.files()) == 5
    assert command("check", "--older-than=0s").status == 0


def test_people_are_told_why_foreign_files_stay(foreign, command):
    output = command("gc").output

    assert ".git/config is foreign: the plugin gives no such name (5 bytes)\n" in output
    assert f"{STRAY} would be deleted (stray, 5 bytes)\n" in output


def test_foreign_files_go_if_they_are_named(foreign, command):
    result = run(command, "--foreign=bundles/", "--foreign=*.html")

    assert names(result) == [STRAY, "bundles/a.zip", "index.html"]
    assert ".git/config" in foreign.files()


def test_young_foreign_files_stay_even_if_they_are_named(foreign, command):
    os.utime(foreign.folder / "index.html")

    command("gc", "--delete", "--foreign=*.html")

    assert "index.html" in foreign.files()


def test_the_marker_stays_whatever_is_named(attached, command):
    result = run(command, "--foreign=*")

    assert result.findings == []
    assert result.counts["files stored"] == 2
    assert (attached.folder / MARKER).exists()


def test_what_earlier_versions_kept_does_not_cover_foreign_files(foreign, command, execute):
    when = str(int((time.time() - DAY) * 1000))
    insert = "INSERT INTO metadata (name, value) VALUES ('kinto_attachment_taken_over', %s)"
    execute(insert, when)
    keep = {"keep_old_files": "true"}

    assert names(run(command, "--kept-older-than=0s", attachment=keep)) == [STRAY]


def test_kept_files_go_at_once_if_that_is_asked(make_record, command):
    keep = {"keep_old_files": "true"}
    record = make_record(attachment=keep)
    record.attach(b"first")
    [first] = record.files()
    record.attach(b"second")

    told = command("gc", "--json", "--older-than=0s", attachment=keep)
    result = run(command, "--kept-older-than=0s", attachment=keep)

    assert [(finding["name"], finding["kind"]) for finding in told.findings] == [(first, "kept")]
    assert (told.counts["files kept"], told.counts["bytes kept"]) == (1, 5)
    assert names(result) == [first]
    assert record.content == b"second"


@pytest.mark.parametrize("where", ["s3"])
def test_multipart_uploads_of_others_are_left(record, stored, command):
    record.attach(b"content")
    for name in ("backup.tar", ANOTHER):
        stored.start_upload(name)
    assert names(run(command)) == [ANOTHER]
    assert names(run(command, "--foreign=backup.tar")) == ["backup.tar"]
