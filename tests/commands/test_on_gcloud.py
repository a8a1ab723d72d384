"""The commands on Google Cloud Storage, where another program sets metadata of the objects, as a
nightly job does that has a lifecycle rule delete what it finds to be an orphan.

What is the same everywhere is tested in the other files here, with files in each storage.
"""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from tests.support.orphans import ANOTHER, PART, STRAY, names
from tests.support.tus import begin

pytestmark = pytest.mark.parametrize("where", ["gcloud"])

MIB = 1024 * 1024
KEEP = {"keep_old_files": "true"}
NOW = ("--older-than=0s", "--json")
OLD = "https://files.example.org/"
NEW = "https://new.example.org/f/"


@pytest.fixture
def replaced(make_record, stored):
    """A record whose first file is kept, a stray file, a part of an upload, and a foreign file."""
    record = make_record(attachment=KEEP)
    record.attach(b"first")
    record.attach(b"second")
    for name in (STRAY, PART, "bundles/a.zip"):
        stored.put(name, b"12345")
    return record


def nightly_job(stored):
    """Set ``customTime`` of everything."""
    for name in stored.names():
        stored.patch(name, customTime=datetime.now(timezone.utc).isoformat())


def test_gc_deletes_orphans_and_parts(replaced, command):
    told = command("gc", *NOW, attachment=KEEP)
    result = command("gc", "--delete", *NOW, attachment=KEEP)

    assert told.counts["files to delete"] == result.counts["files deleted"] == 2
    assert names(result) == [PART, STRAY]
    assert len(replaced.files()) == 3
    assert replaced.content == b"second"


def test_kept_files_go_when_that_is_asked(replaced, command):
    result = command("gc", "--delete", "--kept-older-than=0s", *NOW, attachment=KEEP)

    assert result.counts["files deleted"] == 3
    assert len(replaced.files()) == 2
    assert replaced.content == b"second"


def test_check_reads_the_files(record, stored, command):
    record.attach(b"content")
    assert command("check", "--hash", "--json").status == 0

    [name] = record.files()
    stored.put(name, b"c0ntent")
    [finding] = command("check", "--hash", "--json").findings
    assert (finding["problem"], finding["name"]) == ("hash", name)

    stored.remove(name)
    [finding] = command("check", "--json").findings
    assert (finding["problem"], finding["name"]) == ("missing", name)


def test_rebase_finds_the_files(record, command):
    record.attach(b"content")
    [name] = record.files()
    moved = {"base_url": NEW, "former_base_urls": OLD}

    result = command("rebase", "--from", OLD, "--to", NEW, "--write", attachment=moved)

    assert result.status == 0
    assert record.data["attachment"]["location"] == NEW + name


def test_an_orphan_whose_metadata_changes_stays_marked(replaced, stored, command):
    command("gc", "--mark", "--older-than=0s", attachment=KEEP)
    nightly_job(stored)
    stored.put(ANOTHER, b"12345")

    result = command("gc", "--delete", "--marked-for=0s", *NOW, attachment=KEEP)

    assert names(result) == [PART, STRAY]


def test_a_file_whose_metadata_changes_is_not_younger(replaced, stored, command):
    nightly_job(stored)

    result = command("gc", "--delete", "--kept-older-than=0s", *NOW, attachment=KEEP)

    assert result.counts["files deleted"] == 3
    assert command("check", "--hash", *NOW).status == 0


def test_a_file_whose_metadata_has_changed_is_read_and_replaced(make_record, stored):
    record = make_record(attachment={"randomize": "false"})
    record.attach(b"first")
    nightly_job(stored)

    assert record.content == b"first"
    record.attach(b"second")

    [name] = record.files()
    assert stored.read(name) == record.content == b"second"


def test_an_unfinished_upload_whose_objects_are_taken_for_orphans(record, stored):
    upload = begin(record, 12 * MIB)
    upload.patch(0, bytes(6 * MIB))
    nightly_job(stored)

    upload.patch(6 * MIB, bytes(6 * MIB))

    assert record.data["attachment"]["size"] == 12 * MIB
    assert len(record.files()) == 1
