"""``kinto-attachment gc``."""

from __future__ import annotations

import json
import time

import pytest

from kinto_attachment.attachments.lookup import FILES
from kinto_attachment.commands.inventory_sql import STATES
from kinto_attachment.commands.selection import Selection
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.storage.s3 import S3Storage
from tests.support.orphans import ANOTHER, DAY, LARGE, PART, STRAY, grow_old, names
from tests.support.tus import begin

KEEP = {"keep_old_files": "true"}


@pytest.fixture
def attached(record):
    """A record with a file, and a file that no record references."""
    record.attach(b"content")
    (record.folder / STRAY).write_bytes(b"stray")
    return record


def test_a_file_that_no_record_references_is_deleted(attached, command):
    grow_old(attached)

    result = command("gc", "--delete", "--json")

    assert result.status == 0
    assert names(result) == [STRAY]
    assert result.counts["files deleted"] == 1
    assert result.counts["bytes deleted"] == 5
    assert attached.content == b"content"
    assert len(attached.files()) == 1


def test_nothing_is_deleted_unless_asked(attached, command):
    grow_old(attached)

    result = command("gc", "--json")

    assert result.status == 0
    assert result.findings == [
        {
            "name": STRAY,
            "size": 5,
            "kind": "stray",
            "kept": False,
            "marked": None,
            "deleted": False,
        },
    ]
    assert result.counts["files to delete"] == 1
    assert len(attached.files()) == 2


def test_people_are_told_what_would_be_done(attached, command):
    grow_old(attached)

    assert f"{STRAY} would be deleted (stray, 5 bytes)\n" in command("gc").output
    assert f"{STRAY} deleted\n" in command("gc", "--delete").output


def test_younger_files_stay(attached, command):
    command("gc", "--delete")
    assert len(attached.files()) == 2

    command("gc", "--delete", "--older-than=0s")
    assert len(attached.files()) == 1


@pytest.mark.parametrize(("age", "left"), [("1h", 1), ("1d", 1), ("3d", 2), ("1w", 2)])
def test_ages_have_units(attached, command, age, left):
    grow_old(attached)

    command("gc", "--delete", f"--older-than={age}")

    assert len(attached.files()) == left


def test_each_file_is_in_one_of_the_counts(make_record, command, execute):
    record = make_record(attachment=KEEP)
    for content in (b"kept", b"doubtful", b"content"):
        record.attach(content)
    execute(
        "UPDATE objects SET data = data || jsonb_build_object('private', TRUE)"
        " WHERE resource_name = %s AND data ? 'kept' AND data->>'size' = '8'",
        FILES,
    )
    begin(record.other(), 5).patch(0, b"sma")
    for name in ("foreign.txt", "excluded.zip", STRAY, PART):
        (record.folder / name).write_bytes(b"content")
    grow_old(record)
    (record.folder / ANOTHER).write_bytes(b"young")

    counts = [
        command(name, "--json", "--exclude=*.zip", attachment=KEEP).counts
        for name in ("check", "gc")
    ]

    for count in counts:
        assert {title: count[title] for title in STATES} == {
            **dict.fromkeys(STATES, 1),
            "files unreferenced": 2,
        }
        assert count["files stored"] == len(record.files()) == 9


def test_excluded_files_stay(attached, command):
    grow_old(attached)

    result = command("gc", "--delete", "--exclude=other.txt", "--exclude=0d1b*.txt", "--json")

    assert names(result) == []
    assert len(attached.files()) == 2


def test_what_a_killed_upload_left_over_is_deleted(attached, command):
    (attached.folder / PART).write_bytes(b"half")
    grow_old(attached)

    assert names(command("gc", "--delete", "--json")) == [PART, STRAY]


def test_a_copy_of_a_record_is_a_reference(attached, command):
    attached.app.put_json("/v1/buckets/public", {})
    attached.app.put_json("/v1/buckets/public/collections/c", {})
    copy = {"data": {"attachment": attached.data["attachment"]}}
    path = "/v1/buckets/public/collections/c/records/copy"
    attached.app.put_json(path, copy)
    attached.app.delete(attached.path)
    grow_old(attached)

    assert names(command("gc", "--delete", "--json")) == [STRAY]


def test_records_count_whatever_the_rows_say(attached, command, execute):
    execute("DELETE FROM objects WHERE resource_name LIKE 'attachments%%'")
    grow_old(attached)

    assert names(command("gc", "--delete", "--json")) == [STRAY]
    assert attached.content == b"content"


def test_a_collection_can_be_deleted_whatever_the_rows_say(attached, command, execute):
    execute("DELETE FROM objects WHERE resource_name = %s", FILES)
    attached.app.delete("/v1/buckets/b/collections/c")
    grow_old(attached)

    assert command("gc", "--delete", "--json").counts["files deleted"] == 2
    assert attached.files() == []


def test_a_file_whose_row_still_names_records_that_are_gone_is_deleted(attached, command, execute):
    execute("DELETE FROM objects WHERE resource_name = 'record'")
    grow_old(attached)

    assert command("gc", "--delete", "--json").counts["files deleted"] == 2
    assert attached.files() == []


def test_records_of_a_collection_that_is_gone_are_references(attached, command, execute):
    execute("DELETE FROM objects WHERE resource_name = 'collection'")
    grow_old(attached)

    assert names(command("gc", "--delete", "--json")) == [STRAY]


def test_a_location_under_a_former_base_url_is_a_reference(attached, command):
    grow_old(attached)
    settings = {
        "base_url": "https://new.example.org/",
        "former_base_urls": "https://files.example.org",
    }

    result = command("gc", "--delete", "--json", attachment=settings)

    assert names(result) == [STRAY]


@pytest.fixture
def replaced(make_record):
    """A record whose first file is kept."""
    record = make_record(attachment=KEEP)
    record.attach(b"first")
    [first] = record.files()
    record.attach(b"second")
    record.first = first
    return record


def kept_since(execute, record, days):
    since = int((time.time() - days * DAY) * 1000)
    query = "UPDATE objects SET data = data || jsonb_build_object('kept', %s) WHERE data ? 'kept'"
    execute(query, since)
    grow_old(record, days)


def test_kept_files_stay(replaced, command, execute):
    kept_since(execute, replaced, days=400)

    assert names(command("gc", "--delete", "--json", attachment=KEEP)) == []


def test_kept_files_go_when_they_are_old_enough(replaced, command, execute):
    kept_since(execute, replaced, days=20)

    stay = command("gc", "--delete", "--kept-older-than=30d", "--json", attachment=KEEP)
    go = command("gc", "--delete", "--kept-older-than=2w", "--json", attachment=KEEP)

    assert names(stay) == []
    assert names(go) == [replaced.first]
    assert replaced.content == b"second"


def test_who_copies_the_metadata_of_a_deleted_file_is_told(make_record, command, execute):
    record = make_record(attachment=KEEP)
    record.attach(b"first")
    attachment = record.data["attachment"]
    record.attach(b"second")
    kept_since(execute, record, days=20)
    command("gc", "--delete", "--kept-older-than=2w", attachment=KEEP)

    copy = {"data": {"attachment": attachment}}

    record.app.put_json(record.other().path, copy, status=409)


def test_a_file_that_was_copied_meanwhile_stays(replaced, command, execute, monkeypatch):
    """The record that references it came after the records were read."""
    kept_since(execute, replaced, days=20)
    history = {"data": {"attachment": attachment_of(execute, replaced.first)}}
    deletable = Selection.deletable

    def deletable_after_a_copy(self):
        found = list(deletable(self))
        replaced.app.put_json(replaced.other().path, history)
        return iter(found)

    monkeypatch.setattr(Selection, "deletable", deletable_after_a_copy)

    result = command("gc", "--delete", "--kept-older-than=2w", "--json", attachment=KEEP)

    assert names(result) == []
    assert len(replaced.files()) == 2


def attachment_of(execute, name):
    [(row,)] = execute(
        "SELECT data FROM objects WHERE resource_name = %s AND data->>'name' = %s", FILES, name
    )
    metadata = {key: row[key] for key in ("filename", "hash", "mimetype", "size")}
    return {**metadata, "location": f"https://files.example.org/{name}"}


def test_rows_of_files_that_went_are_forgotten(attached, command, execute):
    attached.detach()
    query = "SELECT count(*) FROM objects WHERE resource_name = %s"

    assert command("gc", "--json", "--older-than=0s").counts["rows to forget"] == 1
    command("gc", "--delete")
    assert execute(query, FILES) == [(1,)]

    result = command("gc", "--delete", "--older-than=0s", "--json")

    assert result.counts["rows forgotten"] == 1
    assert execute(query, FILES) == [(0,)]


def test_the_row_of_a_name_that_could_come_back_stays(make_record, command, execute):
    """It remembers that the name was used."""
    record = make_record(attachment={"randomize": "false"})
    record.attach(b"content", "a.txt")
    record.detach()

    result = command("gc", "--delete", "--older-than=0s", "--json")

    assert result.counts["rows forgotten"] == 0
    assert execute("SELECT data->>'name' FROM objects WHERE resource_name = %s", FILES) == [
        ("a.txt",)
    ]


def test_a_file_that_cannot_be_deleted_is_told_and_the_others_go(attached, command, monkeypatch):
    (attached.folder / ANOTHER).write_bytes(b"stray")
    grow_old(attached)
    delete = LocalStorage.delete

    def delete_others(self, name):
        if name == STRAY:
            raise StorageUnavailable("cannot delete the file: Read-only file system")
        return delete(self, name)

    monkeypatch.setattr(LocalStorage, "delete", delete_others)

    result = command("gc", "--delete", "--json")

    assert result.status == 1
    assert result.counts["files deleted"] == 1
    assert [finding["deleted"] for finding in result.findings] == [False, True]
    assert "Read-only" in result.findings[0]["error"]


def test_it_does_not_run_when_a_record_cannot_be_read(attached, command, execute):
    grow_old(attached)
    execute("ALTER TABLE objects RENAME COLUMN data TO hidden")
    try:
        result = command("gc", "--delete")
    finally:
        execute("ALTER TABLE objects RENAME COLUMN hidden TO data")

    assert result.status == 2
    assert len(attached.files()) == 2


def test_it_does_not_run_before_what_earlier_versions_left_was_taken_over(
    attached, command, execute
):
    grow_old(attached)
    link = {"location": STRAY, "record_uri": attached.other().uri}
    execute(
        "INSERT INTO objects (id, parent_id, resource_name, last_modified, data, deleted)"
        " VALUES ('x', '__attachments__', '', now(), %s, false)",
        json.dumps(link),
    )

    result = command("gc", "--delete")

    assert result.status == 2
    assert "kinto migrate" in result.errors
    assert len(attached.files()) == 2


on_s3 = pytest.mark.parametrize("where", ["s3"])


@pytest.fixture
def bucket(record, stored):
    """A record with a file on S3, a stray file, and a multipart upload that was given up."""
    record.attach(b"content")
    stored.put(STRAY, b"stray")
    stored.start_upload(LARGE)
    return stored


@on_s3
def test_what_was_given_up_on_s3_goes_too(record, bucket, command):
    told = command("gc", "--older-than=0s", "--json")
    result = command("gc", "--older-than=0s", "--delete", "--json")

    assert told.counts["files to delete"] == told.counts["uploads to abort"] == 1
    assert result.status == 0
    assert names(result) == [STRAY, LARGE]
    assert result.findings[1]["aborted"] is True
    assert record.content == b"content"
    assert len(record.files()) == 1


@on_s3
def test_what_is_young_or_excluded_on_s3_stays(record, bucket, command):
    command("gc", "--delete")
    command("gc", "--older-than=0s", "--exclude=*", "--delete")

    assert len(record.files()) == 3


@on_s3
def test_an_upload_that_cannot_be_aborted_is_told(record, bucket, command, monkeypatch):
    def fail(self, upload):
        raise StorageUnavailable("cannot abort")

    monkeypatch.setattr(S3Storage, "abort", fail)

    result = command("gc", "--older-than=0s", "--delete", "--json")

    assert result.status == 1
    assert result.findings[1]["error"] == "cannot abort"


@on_s3
def test_check_reads_files_on_s3(record, bucket, command):
    result = command("check", "--hash", "--json")

    assert result.status == 0
    assert result.counts["files stored"] == 2


def migrated(execute, days_ago):
    when = str(int((time.time() - days_ago * DAY) * 1000))
    query = "INSERT INTO metadata (name, value) VALUES ('kinto_attachment_taken_over', %s)"
    execute(query, when)


@pytest.mark.parametrize(
    ("settings", "migrated_before", "options", "deleted"),
    [
        (KEEP, 1, [], []),
        (KEEP, 1, ["--kept-older-than=1d"], [STRAY]),
        (KEEP, 3, [], [STRAY]),
        ({}, 1, [], [STRAY]),
        ({"resources.b.c.keep_old_files": "true"}, 1, [], []),
    ],
)
def test_what_earlier_versions_kept_is_kept(
    attached, command, execute, settings, migrated_before, options, deleted
):
    grow_old(attached, days=2)
    migrated(execute, migrated_before)

    assert names(command("gc", "--delete", "--json", *options, attachment=settings)) == deleted


everywhere = pytest.mark.parametrize("where", ["local", "s3", "gcloud"])
MIB = 1024 * 1024


@pytest.fixture
def unfinished(record):
    """A resumable upload of which half has arrived."""
    record.attach(b"content")
    upload = begin(record, 12 * MIB)
    upload.patch(0, bytes(6 * MIB))
    return upload


@everywhere
def test_unfinished_uploads_stay(record, unfinished, command):
    told = command("gc", "--older-than=0s", "--json")
    result = command("gc", "--older-than=0s", "--delete", "--json")

    assert told.findings == result.findings == []
    assert command("check", "--older-than=0s").status == 0
    unfinished.patch(6 * MIB, bytes(6 * MIB))
    assert record.data["attachment"]["size"] == 12 * MIB


@everywhere
def test_uploads_that_have_rested_for_too_long_are_ended(record, unfinished, command, execute):
    query = "UPDATE objects SET data = data || '{\"expires\": 1}' WHERE resource_name = %s"
    execute(query, "attachments-uploads")

    told = command("gc", "--json")
    result = command("gc", "--delete", "--json")

    assert told.counts["uploads to end"] == result.counts["uploads ended"] == 1
    assert len(record.files()) == 1
    unfinished.head(status=404)
    assert record.content == b"content"


def test_the_file_of_an_upload_that_is_ended_stays_if_a_record_shows_it(
    record, unfinished, command, execute
):
    """A plugin may have written it there without an event."""
    (record.folder / "complete.bin").write_bytes(b"complete")
    query = (
        'UPDATE objects SET data = data || \'{"expires": 1, "name": "complete.bin"}\''
        " WHERE resource_name = %s"
    )
    execute(query, "attachments-uploads")
    location = "https://files.example.org/complete.bin"
    execute(
        "UPDATE objects SET data = jsonb_set(data, '{attachment,location}', to_jsonb(%s::text))"
        " - 'hash' WHERE resource_name = 'record'",
        location,
    )

    result = command("gc", "--delete", "--json")

    assert result.counts["uploads ended"] == 1
    assert "complete.bin" in record.files()


def test_a_file_that_is_complete_but_not_attached_yet_stays(record, unfinished, command, execute):
    (record.folder / "complete.bin").write_bytes(b"complete")
    query = (
        'UPDATE objects SET data = data || \'{"name": "complete.bin"}\' WHERE resource_name = %s'
    )
    execute(query, "attachments-uploads")

    assert command("gc", "--older-than=0s", "--json").findings == []


def test_uploads_that_are_done_need_nothing(record, command):
    begin(record, 5).patch(0, b"small")

    assert command("gc", "--older-than=0s", "--json").findings == []
    assert record.content == b"small"
