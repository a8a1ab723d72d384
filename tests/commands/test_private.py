"""The commands on private files, which have a store of their own."""

from __future__ import annotations

import pytest

from kinto_attachment.attachments.references import FILES
from kinto_attachment.attachments.site import MARKER
from tests.support.inventory import Bucket
from tests.support.orphans import grow_old

both = pytest.mark.parametrize("where", ["local", "s3"])
STRAY = "00000000-0000-4000-8000-000000000000.txt"


@pytest.fixture
def private(stored, request):
    if isinstance(stored, Bucket):
        request.getfixturevalue("moto").create_private_bucket()
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
