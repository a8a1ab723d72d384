"""``kinto-attachment gc --mark``: a first run notes the orphans, a later one deletes them."""

from __future__ import annotations

import os
import time

import pytest

from kinto_attachment.commands.marks import MARKS
from tests.support.orphans import ANOTHER, PART, STRAY, grow_old, names

everywhere = pytest.mark.parametrize("where", ["local", "s3", "gcloud"])
DAY = 24 * 3600 * 1000


@pytest.fixture
def attached(record):
    """A record with a file, and an orphan."""
    record.attach(b"content")
    store(record, STRAY)
    return record


def store(record, name):
    (record.folder / name).write_bytes(b"stray")
    grow_old(record, days=30)


def marked(execute):
    query = "SELECT data->>'name' FROM objects WHERE resource_name = %s ORDER BY 1"
    return [name for (name,) in execute(query, MARKS)]


def pass_days(execute, days):
    """The marks are older by now."""
    query = """
        UPDATE objects
           SET data = data || jsonb_build_object('since', (data->>'since')::bigint - %s)
         WHERE resource_name = %s
    """
    execute(query, days * DAY, MARKS)


def delete(command, *options):
    return command("gc", "--delete", "--marked-for=7d", "--json", *options)


def test_a_first_run_only_notes_the_orphans(attached, command, execute):
    result = command("gc", "--mark", "--json")

    assert result.status == 0
    assert names(result) == [STRAY]
    assert result.counts["files marked"] == 1
    assert marked(execute) == [STRAY]
    assert len(attached.files()) == 2


def test_a_later_run_deletes_those_that_were_noted_long_enough_ago(attached, command, execute):
    command("gc", "--mark")
    store(attached, ANOTHER)

    assert names(delete(command)) == []
    pass_days(execute, 6)
    assert names(delete(command)) == []
    pass_days(execute, 2)
    assert names(delete(command)) == [STRAY]
    assert ANOTHER in attached.files()


def test_a_second_note_does_not_renew_the_first(attached, command, execute):
    command("gc", "--mark")
    pass_days(execute, 8)

    assert command("gc", "--mark", "--json").counts["files marked"] == 0
    assert names(delete(command)) == [STRAY]


def test_one_command_does_both(attached, command, execute):
    delete(command, "--mark")
    pass_days(execute, 8)
    store(attached, ANOTHER)

    assert names(delete(command, "--mark")) == [STRAY]
    assert marked(execute) == [STRAY, ANOTHER]
    delete(command, "--mark")
    assert marked(execute) == [ANOTHER]


@pytest.mark.parametrize("run", [["--mark"], ["--delete", "--marked-for=7d"], ["--delete"]])
def test_a_file_that_is_no_orphan_any_more_loses_its_mark(attached, command, execute, run):
    command("gc", "--mark")
    pass_days(execute, 8)
    location = f"https://files.example.org/{STRAY}"
    attached.other().create(attachment={"location": location})

    result = command("gc", *run, "--json")

    assert result.counts["marks removed"] == 1
    assert marked(execute) == []
    attached.app.delete(attached.other().path)
    assert names(delete(command)) == []


def test_a_newer_file_of_that_name_is_noted_anew(attached, command, execute):
    command("gc", "--mark")
    pass_days(execute, 8)
    os.utime(attached.folder / STRAY, (time.time(), time.time() - 2 * 24 * 3600))

    assert names(delete(command)) == []
    assert command("gc", "--mark", "--json").counts["files marked"] == 1


def test_without_a_mark_files_go_at_once(attached, command):
    assert names(command("gc", "--delete", "--json")) == [STRAY]


def test_a_dry_run_tells_what_a_later_one_would_delete(attached, command, execute):
    command("gc", "--mark")

    assert names(command("gc", "--marked-for=7d", "--json")) == []
    pass_days(execute, 8)
    told = command("gc", "--marked-for=7d", "--json")
    assert names(told) == [STRAY]
    assert told.findings[0]["marked"] is not None
    assert marked(execute) == [STRAY]


def test_to_note_and_delete_at_once_is_a_mistake(attached, command):
    result = command("gc", "--mark", "--delete")

    assert result.status == 2
    assert "--marked-for" in result.errors
    assert len(attached.files()) == 2


@everywhere
def test_what_is_too_young_or_kept_or_foreign_is_not_noted(
    record, stored, command, execute, where
):
    record.attach(b"content")
    for name in (PART, "index.html"):
        if where == "local":
            (record.folder / name).write_bytes(b"stray")
        else:
            stored.put(name, b"stray")

    command("gc", "--mark")
    assert marked(execute) == []
    command("gc", "--mark", "--older-than=0s")
    assert marked(execute) == [PART]


def test_notes_are_kept_of_more_files_than_one_transaction_writes(attached, command, execute):
    for number in range(101):
        store(attached, f"0d1b2c3d-0000-4000-8000-{number:012}.x")

    assert command("gc", "--mark", "--json").counts["files marked"] == 102
    for path in attached.folder.glob("*.x"):
        path.unlink()
    assert command("gc", "--mark", "--json").counts["marks removed"] == 101
    assert marked(execute) == [STRAY]
