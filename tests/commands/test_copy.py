"""``kinto-attachment copy``."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from kinto_attachment.attachments.lookup import FILES
from kinto_attachment.attachments.site import MARKER
from kinto_attachment.commands.site import Site
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.storage.s3 import S3Storage
from tests.conftest import kinto_settings_with
from tests.support.copies import contents, every_way, to_clouds, to_every_kind, to_s3
from tests.support.inventory import Folder, GoogleBucket
from tests.support.orphans import DAY, PART, STRAY, grow_old, names
from tests.support.servers.kinto import ini
from tests.support.tus import begin

MIB = 1024 * 1024
KEEP = {"keep_old_files": "true"}
NAMED = {"randomize": "false", "folder": "{bucket_id}/{collection_id}"}


def problems(result):
    return [(finding["problem"], finding["name"]) for finding in result.findings]


@every_way
def test_every_file_is_copied_under_its_name(make_record, stored, target, copy, command):
    record = make_record(attachment={**NAMED, **KEEP})
    record.attach(b"", "empty.txt")
    record.attach(b"kept", "é t.jpg")
    record.attach(b"now", "é t.jpg")
    record.other("large").attach(os.urandom(6 * MIB), "large.bin")
    before = contents(stored)

    result = copy(attachment={**NAMED, **KEEP})

    assert result.status == 0
    assert result.findings == []
    assert result.counts["files copied"] == len(before) == 4
    assert result.counts["bytes copied"] == sum(map(len, before.values()))
    assert target.contents() == contents(stored) == before
    settings = {**target.settings, **NAMED, **KEEP}
    assert command("check", "--hash", "--json", attachment=settings).findings == []
    collected = command("gc", "--delete", "--older-than=0s", "--json", attachment=settings)
    assert (collected.status, collected.findings) == (0, [])
    assert target.contents() == before


def test_files_go_from_google_to_a_disk_with_their_own_type(
    record, gcs, make_ini, command, tmp_path, execute
):
    record.attach(b"content", "a.txt", "text/x-test")
    before = contents(record.stored)
    google, back = GoogleBucket(gcs), Folder(tmp_path / "back")
    for name, stored in (("google.ini", google), ("back.ini", back)):
        settings = kinto_settings_with({}, stored.settings, {})
        (tmp_path / name).write_text(ini(settings, 8888))

    there = command("copy", "--to-ini", str(tmp_path / "google.ini"))
    # Neither row nor record tell it any more.
    execute("DELETE FROM objects WHERE resource_name LIKE 'attachments%%'")
    again = command("copy", "--to-ini", str(tmp_path / "back.ini"), attachment=google.settings)

    assert (there.status, again.status) == (0, 0)
    assert contents(google) == contents(back) == before
    [name] = back.names()
    assert gcs.objects()[name].content_type == "text/x-test"


@to_every_kind
def test_a_second_run_finds_all_of_it_there(make_record, target, copy):
    record = make_record(attachment=KEEP)
    record.attach(b"kept")
    record.attach(b"now")
    copy(attachment=KEEP)
    before = target.contents()

    result = copy(attachment=KEEP)

    assert result.status == 0
    assert (result.counts["files copied"], result.counts["files there already"]) == (0, 2)
    assert target.contents() == before


@to_every_kind
def test_a_dry_run_tells_what_would_be_copied_and_writes_nothing(
    record, target, copy, execute, stored
):
    record.attach(b"content")
    record.other().attach(b"other content")
    query = "SELECT id, parent_id, data FROM objects ORDER BY 1, 2"
    rows = execute(query)

    result = copy("--dry-run")

    assert result.status == 0
    assert sorted(names(result)) == record.files()
    assert (result.counts["files to copy"], result.counts["bytes to copy"]) == (2, 20)
    assert target.names() == []
    assert execute(query) == rows
    if isinstance(target.stored, Folder):
        assert not target.stored.path.exists()


def test_people_are_told(record, target, command):
    record.attach(b"content")
    [name] = record.files()
    arguments = ("copy", "--to-ini", str(target.ini))

    assert f"{name} would be copied (7 bytes)\n" in command(*arguments, "--dry-run").output
    assert "files copied  " in command(*arguments).output


# Which files.


@pytest.fixture
def old(record, execute):
    """A record with a file, and another file, which an earlier version may have kept."""
    record.attach(b"content")
    (record.folder / STRAY).write_bytes(b"kept")
    grow_old(record)
    when = str(int((time.time() - DAY) * 1000))
    execute("INSERT INTO metadata (name, value) VALUES ('kinto_attachment_taken_over', %s)", when)
    yield record
    execute("DELETE FROM metadata WHERE name = 'kinto_attachment_taken_over'")


def rows(execute, name):
    query = "SELECT data FROM objects WHERE resource_name = %s AND data->>'name' = %s"
    return [row for (row,) in execute(query, FILES, name)]


@pytest.mark.parametrize("to", ["local", "seaweedfs"])
def test_a_file_that_an_earlier_version_has_kept_stays_kept(old, target, copy, command, execute):
    modified = (old.folder / STRAY).stat().st_mtime

    assert STRAY in names(copy("--dry-run", attachment=KEEP))
    assert rows(execute, STRAY) == []
    result = copy(attachment=KEEP)

    assert result.status == 0
    assert result.counts["rows added for kept files"] == 1
    assert target.contents() == contents(old.stored)
    [row] = rows(execute, STRAY)
    assert row["kept"] == pytest.approx(modified * 1000, abs=1)
    blank = {"filename": None, "hash": None, "mimetype": None, "size": None}
    assert row == {"name": STRAY, "holders": [], "kept": row["kept"], **blank}
    arguments = ("gc", "--delete", "--older-than=0s", "--json")
    settings = {**target.settings, **KEEP}
    assert names(command(*arguments, attachment=settings)) == []
    go = command(*arguments, "--kept-older-than=1d", attachment=settings)
    assert names(go) == [STRAY]


def test_the_row_of_a_kept_file_is_there_before_the_file(old, copy, execute, monkeypatch):
    stage = LocalStorage.stage
    found = []

    def staged(self, new):
        found.extend(rows(execute, STRAY))
        return stage(self, new)

    monkeypatch.setattr(LocalStorage, "stage", staged)

    assert copy(attachment=KEEP).status == 0
    assert found


def test_it_is_said_that_the_hash_of_a_kept_file_was_not_known(old, copy):
    assert [finding["compared"] for finding in copy(attachment=KEEP).findings] == [1]
    assert [finding["compared"] for finding in copy(attachment=KEEP).findings] == [1]


def test_a_file_without_a_row_that_a_record_references_gets_none(
    old, target, copy, execute, command
):
    """The record came after the files were listed."""
    old.other().create(attachment={"location": f"https://files.example.org/{STRAY}"})

    result = copy(attachment=KEEP)

    assert result.counts["rows added for kept files"] == 0
    assert target.contents()[STRAY] == b"kept"
    assert rows(execute, STRAY) == []


def test_what_nobody_knows_is_not_copied(make_record, target, copy, command):
    record = make_record(attachment={"randomize": "false"})
    record.attach(b"content", "a.txt")
    gone = record.other()
    gone.attach(b"gone", "gone.txt")
    gone.detach()
    for name in (STRAY, PART, "gone.txt", "bundles/x.zip"):
        (record.folder / name).parent.mkdir(exist_ok=True)
        (record.folder / name).write_bytes(b"12345")

    told = copy("--dry-run")
    result = copy()

    left = {each["name"]: each["kind"] for each in told.findings if "kind" in each}
    assert left == {STRAY: "stray", PART: "part", "gone.txt": "gone", "bundles/x.zip": "foreign"}
    assert told.counts["files foreign"] == 1
    assert result.status == 0
    assert result.findings == [{"left": 4, "size": 20}]
    assert result.counts["files left out"] == 4
    assert target.names() == ["a.txt"]
    text = command("copy", "--to-ini", str(target.ini)).output
    assert text.startswith("4 files that no row and no record knows are not copied (20 bytes)")


def test_unfinished_uploads_begin_anew(record, target, copy, make_app):
    record.attach(b"content")
    upload = begin(record, 10)
    upload.patch(0, b"12345")

    assert copy().status == 0
    assert len(target.names()) == 1
    upload.record.app = make_app(attachment=target.settings)
    upload.patch(5, b"67890", status=410)


@pytest.fixture
def unattached(record, execute):
    """A resumable upload whose file is whole, and whose record could not be written."""
    upload = begin(record, 5)
    upload.patch(0, b"12345")
    execute(
        "UPDATE objects SET data = data || '{\"done\": false}'"
        " WHERE resource_name = 'attachments-uploads'"
    )
    execute("DELETE FROM objects WHERE resource_name = %s", FILES)
    execute("DELETE FROM objects WHERE resource_name = 'record'")
    return upload


def test_a_file_whose_record_is_still_to_be_written_is_copied(
    record, unattached, target, copy, make_app
):
    assert copy().status == 0
    assert list(target.contents().values()) == [b"12345"]
    unattached.record.app = make_app(attachment=target.settings)
    unattached.patch(4, b"5")
    assert record.data["attachment"]["size"] == 5


def test_a_file_whose_record_is_written_meanwhile_is_copied(
    record, unattached, target, copy, monkeypatch
):
    needed = Site.needed

    def needed_after_the_end(self):
        if not record.exists:
            unattached.patch(4, b"5")
        return needed(self)

    monkeypatch.setattr(Site, "needed", needed_after_the_end)

    result = copy()

    assert (result.status, result.counts["files copied"]) == (0, 1)
    assert list(target.contents().values()) == [b"12345"]
    assert record.data["attachment"]["size"] == 5


def test_what_is_missing_is_said(record, target, copy, command):
    record.attach(b"content")
    record.other().attach(b"other")
    name = record.data["attachment"]["location"].rpartition("/")[2]
    (record.folder / name).unlink()

    told = copy("--dry-run")
    result = copy()

    assert told.status == result.status == 1
    assert ("missing", name) in problems(told)
    assert problems(result) == [("missing", name)]
    assert result.counts["files missing"] == result.counts["files copied"] == 1
    assert f"{name} is missing" in command("copy", "--to-ini", str(target.ini)).output


# As what they are stored.


@to_s3
def test_type_and_hash_are_those_of_the_row(record, target, copy):
    record.attach(b"content", "a.txt", "text/x-test")
    [name] = record.files()

    copy()

    assert target.stored.head(name)["ContentType"] == "text/x-test"
    assert target.stored.head(name)["Metadata"]["sha256"] == hashlib.sha256(b"content").hexdigest()


def forget(execute):
    """Rows as of earlier versions, or none."""
    execute("DELETE FROM objects WHERE resource_name LIKE 'attachments%%'")


@to_s3
@pytest.mark.parametrize(
    ("settings", "mimetype", "stored_as"),
    [
        ({}, "text/x-test", "text/x-test"),
        ({}, "text/html; charset=utf-8", "text/html; charset=utf-8"),
        # A client may have written the record.
        ({"extensions": "txt"}, "text/html", "text/plain"),
        ({}, "text/html\r\nX-Evil: 1", "text/plain"),
        ({}, "text/ü", "text/plain"),
        ({}, "html", "text/plain"),
        ({}, 5, "text/plain"),
    ],
)
def test_else_the_type_is_that_of_the_record(
    record, make_target, command, execute, settings, mimetype, stored_as
):
    record.attach(b"content", "a.txt")
    attachment = record.data["attachment"]
    [name] = record.files()
    forget(execute)
    record.create(attachment={**attachment, "mimetype": mimetype})
    target = make_target(settings)

    assert command("copy", "--to-ini", str(target.ini)).status == 0

    assert target.stored.head(name)["ContentType"] == stored_as
    assert target.stored.head(name)["Metadata"]["sha256"] == attachment["hash"]


@to_s3
def test_a_row_without_a_type_leaves_it_to_its_records(record, target, copy, execute):
    record.attach(b"content", "a.txt", "text/x-test")
    [name] = record.files()
    execute(
        "UPDATE objects SET data = data || '{\"mimetype\": null}' WHERE resource_name = %s", FILES
    )

    assert copy().status == 0

    assert target.stored.head(name)["ContentType"] == "text/x-test"


@pytest.mark.parametrize(("where", "to"), [("moto", "seaweedfs")])
@pytest.mark.parametrize(
    ("content_type", "stored_as"), [("text/x-own", "text/x-own"), (None, "text/plain")]
)
def test_else_it_is_that_of_the_source_or_of_the_extension(
    record, target, copy, execute, content_type, stored_as
):
    record.attach(b"content")
    own = {} if content_type is None else {"ContentType": content_type}
    record.stored.put("a.txt", b"own", **own)
    record.other().create(attachment={"location": "https://files.example.org/a.txt"})

    assert copy().status == 0

    assert target.stored.head("a.txt")["ContentType"] == stored_as


@pytest.mark.parametrize("to", ["moto"])
def test_acl_and_cache_control_are_those_of_the_target(record, make_target, command, moto):
    record.attach(b"content")
    [name] = record.files()
    settings = {
        "aws.acl": "private",
        "cache_control": "max-age=5",
        "resources.b.c.cache_control": "max-age=60",
    }
    target = make_target(settings)

    assert command("copy", "--to-ini", str(target.ini)).status == 0

    assert target.stored.head(name)["CacheControl"] == "max-age=60"
    grants = moto.admin.get_object_acl(Bucket=moto.bucket, Key=name)["Grants"]
    assert [grant["Permission"] for grant in grants] == ["FULL_CONTROL"]


# What counts as the same file.


@pytest.mark.parametrize("to", ["local", "seaweedfs", "gcs"])
def test_a_name_that_is_taken_is_an_error(record, target, copy):
    record.attach(b"content")
    record.other().attach(b"other")
    copy()
    [name, other] = record.files()
    for taken in (b"c0ntent", b"longer content"):
        content = taken if record.stored.read(name) == b"content" else b"0" + taken
        if isinstance(target.stored, Folder):
            (target.stored.path / name).write_bytes(content)
        else:
            target.stored.put(name, content)

        result = copy()

        assert result.status == 1
        assert problems(result) == [("different", name)]
        assert result.counts["files that differ"] == result.counts["files there already"] == 1
        assert target.names() == [name, other]
        assert target.stored.read(name) == content
    # Which only looks at the size.
    assert problems(copy("--dry-run")) == [("different", name)]


@to_s3
def test_a_stored_hash_is_believed(record, copy, monkeypatch):
    record.attach(b"content")
    copy()
    read, names_read = S3Storage.read, []

    def remember(self, name, *args):
        names_read.append(name)
        return read(self, name, *args)

    monkeypatch.setattr(S3Storage, "read", remember)

    result = copy()

    assert (result.status, result.counts["files there already"]) == (0, 1)
    assert names_read == [MARKER]


@to_clouds
def test_without_a_stored_hash_content_is_read_and_compared(record, target, copy):
    record.attach(b"content")
    [name] = record.files()
    target.stored.put(name, b"content")

    assert copy().counts["files there already"] == 1

    target.stored.put(name, b"c0ntent")

    assert problems(copy()) == [("different", name)]


def test_a_disk_is_read_again(record, target, copy):
    record.attach(b"content")
    copy()
    [name] = target.names()
    (target.stored.path / name).write_bytes(b"c0ntent")

    assert problems(copy()) == [("different", name)]


def test_a_file_that_differs_from_its_row_is_not_copied(record, target, copy):
    record.attach(b"content")
    record.other().attach(b"other")
    name = record.data["attachment"]["location"].rpartition("/")[2]
    (record.folder / name).write_bytes(b"c0ntent")

    result = copy()

    assert result.status == 1
    assert problems(result) == [("different", name)]
    assert result.counts["files copied"] == 1
    assert len(target.names()) == 1


def test_a_client_cannot_keep_a_file_from_being_copied(record, target, copy, execute):
    """Records that name another hash than that of the file do not count, if others name it."""
    record.attach(b"content")
    attachment = record.data["attachment"]
    forget(execute)
    record.other().create(attachment={**attachment, "hash": "0" * 64})
    record.other("a").create(attachment={**attachment, "hash": ["0"]})

    assert copy().status == 0
    assert list(target.contents().values()) == [b"content"]
