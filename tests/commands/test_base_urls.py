"""Which files records show, whatever base URL their locations have and the settings name."""

from __future__ import annotations

import json

import pytest

from kinto_attachment.attachments.lookup import FILES, HOLDINGS
from tests.support.orphans import STRAY, grow_old, names

OLD = "https://files.example.org/"
NEW = "http://files.example.org/f/"
MOVED = {"base_url": NEW}

both = pytest.mark.parametrize("where", ["local", "s3"])


@pytest.fixture
def attached(record):
    """A record with a file, at the former base URL."""
    record.attach(b"content")
    return record


def all_rows(execute):
    return sorted(
        json.dumps(row, sort_keys=True)
        for (row,) in execute(
            "SELECT data FROM objects WHERE resource_name IN (%s, %s)", FILES, HOLDINGS
        )
    )


def put_behind_our_back(execute, attachment, record_id="behind"):
    """As plugins write records that call Kinto's storage."""
    execute(
        "INSERT INTO objects (id, parent_id, resource_name, data, deleted)"
        " VALUES (%s, '/buckets/b/collections/c', 'record', %s, FALSE)",
        record_id,
        json.dumps({"attachment": attachment}),
    )


@both
@pytest.mark.parametrize("base_url", [NEW, "https://cdn.example.com/", ""])
def test_gc_deletes_no_file_of_a_record_when_the_base_url_has_changed(attached, command, base_url):
    result = command(
        "gc", "--delete", "--older-than=0s", "--json", attachment={"base_url": base_url}
    )

    assert result.status == 0
    assert result.counts["files deleted"] == 0
    assert attached.content == b"content"


def test_gc_deletes_no_file_that_only_a_record_names(attached, command, execute):
    execute("DELETE FROM objects WHERE resource_name LIKE 'attachments%%'")
    (attached.folder / STRAY).write_bytes(b"stray")
    grow_old(attached)

    result = command("gc", "--delete", "--json", attachment=MOVED)

    assert STRAY in [finding.get("name") for finding in result.findings]
    assert attached.content == b"content"


def test_gc_deletes_no_file_that_a_record_shows_behind_its_rows_back(attached, command, execute):
    attachment = attached.data["attachment"]
    put_behind_our_back(execute, attachment)
    execute("DELETE FROM objects WHERE resource_name = 'record' AND id = 'r'")
    grow_old(attached)

    result = command("gc", "--delete", "--json", attachment=MOVED)

    assert result.counts["files deleted"] == 0
    assert len(attached.files()) == 1


@pytest.mark.parametrize("repair", [[], ["--repair"]])
def test_check_finds_nothing_wrong_when_the_base_url_has_changed(
    attached, command, execute, repair
):
    before = all_rows(execute)

    result = command("check", "--json", "--older-than=0s", *repair, attachment=MOVED)

    assert result.status == 0
    assert result.counts["rows that differ"] == 0
    assert result.counts["records under an unknown base URL"] == 1
    assert all_rows(execute) == before
    attached.detach()
    assert attached.files() == []


def test_check_says_how_to_mend_an_unknown_base_url(attached, command):
    attached.other().attach(b"other")

    result = command("check", attachment=MOVED)

    assert result.status == 0
    assert f"2 records show files under '{OLD}'" in result.output
    assert "kinto.attachment.former_base_urls" in result.output
    rebase = f"rebase --from {OLD} --to {NEW} --write"
    assert rebase in result.output
    known = {**MOVED, "former_base_urls": OLD}
    assert command(*rebase.split(), attachment=known).status == 0
    assert command("check", "--json", attachment=known).findings == []


def test_an_unknown_base_url_is_told_before_a_percent_encoded_name_too(record, command, files):
    files.mkdir()
    (files / "a b.txt").write_bytes(b"content")
    for record_id, name in (("encoded", "a%20b.txt"), ("raw", "a b.txt")):
        location = f"https://x.example.org/f/{name}"
        record.other(record_id).create(attachment={"location": location})

    [told] = command("check", "--json").findings

    assert (told["base"], told["records"]) == ("https://x.example.org/f/", 2)


def test_a_file_that_is_lost_is_told_whatever_the_base_url_is(attached, command):
    [name] = attached.files()
    (attached.folder / name).unlink()

    result = command("check", "--json", attachment=MOVED)

    assert result.status == 1
    told = result.findings[1]
    assert (told["problem"], told["record"], told["name"]) == ("missing", attached.uri, name)


def test_a_file_that_went_before_a_plugin_wrote_it_back_is_lost(attached, command, execute):
    attachment = attached.data["attachment"]
    attached.detach()
    put_behind_our_back(execute, attachment)

    result = command("check", "--json")

    assert result.status == 1
    assert result.counts["files missing"] == 1


CLAIMS = [
    {"location": f"{OLD}nothing.txt", "hash": "0" * 64, "size": 5},
    {"location": f"{OLD}{STRAY}"},
    {"location": "b/c/nothing.txt"},
    {"location": f"{OLD}%2e%2e/x"},
]


@pytest.mark.parametrize("claim", CLAIMS)
def test_who_claims_a_file_that_is_not_there_does_not_make_check_fail(record, command, claim):
    record.create(attachment=claim)

    result = command("check", "--hash", "--json")

    assert result.status == 0
    assert result.findings == []
    assert result.counts["records that only claim a file"] == 1
    assert result.counts["files missing"] == 0


def test_who_claims_a_file_of_another_record_does_not_make_check_fail(attached, command):
    location = attached.data["attachment"]["location"]
    elsewhere = location.replace(OLD, "https://elsewhere.example.org/")
    for number, claimed in enumerate([location, elsewhere]):
        attached.other(f"c{number}").create(attachment={"location": claimed, "size": 1})

    result = command("check", "--hash", "--json")

    assert result.status == 0
    assert [finding["problem"] for finding in result.findings] == ["unknown base URL"]
    assert result.counts["records with a file"] == 3
    assert result.counts["rows that differ"] == 0


def test_the_longest_name_with_the_records_metadata_is_meant(make_record, command):
    """Of two files of the same content, whose names have the same end."""
    record = make_record(attachment={"randomize": "false", "folder": "{bucket_id}"})
    record.attach(b"content", "a.txt")
    other = make_record(attachment={"randomize": "false"}).other()
    other.attach(b"content", "a.txt")
    assert record.files() == ["a.txt", "b/a.txt"]

    result = command("check", "--json", "--older-than=0s", attachment=MOVED)

    assert result.status == 0
    assert result.counts["rows that differ"] == 0


def test_a_record_keeps_the_shorter_name_that_it_holds(make_record, command, execute):
    record = make_record(attachment={"randomize": "false", "folder": "f"})
    record.attach(b"content", "a.txt")
    other = make_record(attachment={"randomize": "false", "base_url": f"{OLD}f/"}).other()
    other.attach(b"content", "a.txt")

    result = command("check", "--json", "--repair", attachment=MOVED)

    assert result.counts["rows that differ"] == 0


def test_a_file_with_another_hash_is_not_what_a_record_shows(attached, command):
    [name] = attached.files()
    attached.other().create(attachment={"location": f"{NEW}{name}", "hash": "0" * 64})
    attached.detach()
    (attached.folder / name).write_bytes(b"the storage was down")
    grow_old(attached)

    assert names(command("gc", "--delete", "--json")) == [name]
