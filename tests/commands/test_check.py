"""``kinto-attachment check``."""

from __future__ import annotations

import json

import pytest

from kinto_attachment.attachments.lookup import FILES, HOLDINGS
from kinto_attachment.storage.local import LocalStorage
from tests.support.orphans import LINK, STRAY


@pytest.fixture
def attached(record):
    """A record with a file."""
    record.attach(b"content")
    return record


def path_of(record):
    return record.folder / record.files()[0]


def problems(result):
    return [finding["problem"] for finding in result.findings]


def ways(result):
    return sorted(finding["way"] for finding in result.findings)


def test_all_is_well(attached, command):
    attached.other().attach(b"other")

    result = command("check", "--hash", "--json", "--older-than=0s")

    assert result.status == 0
    assert result.json["ok"] is True
    assert result.findings == []
    assert result.counts["records with a file"] == 2
    assert result.counts["files stored"] == 2
    assert result.counts["rows of files"] == 2


@pytest.mark.parametrize("option", [(), ("--missing",)])
def test_what_waits_for_the_migration_is_not_called_well(attached, command, execute, option):
    """It has no rows yet, so that nobody knows whether it is missing."""
    execute(LINK)

    result = command("check", *option)

    assert result.status == 1
    assert "1 attachments of an earlier version" in result.output
    assert "kinto migrate" in result.output


def test_people_get_a_table(attached, command):
    path_of(attached).unlink()

    result = command("check")

    sentence, _, *table = result.output.splitlines()
    assert sentence.startswith(f"{attached.uri}: ")
    assert " is not stored (SHA-256 " in sentence
    [missing] = [line for line in table if line.startswith("files missing")]
    assert missing.split()[-1] == "1"


def test_a_file_that_is_missing(attached, command):
    name = attached.files()[0]
    path_of(attached).unlink()

    result = command("check", "--hash", "--json")

    assert result.status == 1
    assert result.json["ok"] is False
    [finding] = result.findings
    assert (finding["problem"], finding["record"]) == ("missing", attached.uri)
    assert (finding["name"], finding["size"]) == (name, 7)


def test_a_file_of_another_size(attached, command):
    path_of(attached).write_bytes(b"more content")

    result = command("check", "--json")

    assert result.status == 1
    [finding] = result.findings
    assert (finding["problem"], finding["stored"], finding["shown"]) == ("size", 12, 7)


def test_a_file_with_another_content_needs_its_hash(attached, command):
    path_of(attached).write_bytes(b"c0ntent")

    assert command("check").status == 0
    result = command("check", "--hash", "--json")

    assert result.status == 1
    assert problems(result) == ["hash"]


def test_copies_of_a_record_are_all_told(attached, command):
    attached.other().create(attachment=attached.data["attachment"])
    path_of(attached).write_bytes(b"c0ntents")

    result = command("check", "--hash", "--json")

    assert [finding["record"] for finding in result.findings] == [
        attached.other().uri,
        attached.other().uri,
        attached.uri,
        attached.uri,
    ]


def test_a_file_that_no_record_references(attached, command):
    (attached.folder / STRAY).write_bytes(b"stray")

    assert command("check").status == 0  # it may be an upload in flight
    result = command("check", "--older-than=0s", "--json")

    assert result.status == 1
    assert result.findings == [{"problem": "unreferenced", "name": STRAY, "size": 5}]


def test_files_of_others_can_be_left_out(attached, command):
    (attached.folder / "bundles").mkdir()
    (attached.folder / "bundles" / "all.zip").write_bytes(b"zip")

    result = command("check", "--older-than=0s", "--exclude=bundles/*", "--json")

    assert result.status == 0
    assert result.counts["files excluded"] == 1


def test_excluded_files_that_records_show_are_stored(attached, command):
    result = command("check", "--exclude=*", "--json")

    assert result.status == 0
    assert result.counts["files excluded"] == 1


def test_kept_files_are_no_problem(make_record, command):
    record = make_record(attachment={"keep_old_files": "true"})
    record.attach(b"first")
    record.attach(b"second")

    result = command("check", "--older-than=0s", "--json")

    assert result.status == 0
    assert result.counts["files kept"] == 1


def test_attachments_that_are_stored_elsewhere_are_counted(record, command):
    record.create(attachment={"location": "https://elsewhere.example.org/x.txt"})

    result = command("check", "--json")

    assert result.status == 0
    assert result.counts["records with a file elsewhere"] == 1
    assert result.counts["records with a file"] == 0


def test_a_percent_encoded_location_is_that_of_the_same_file(record, command):
    record.folder.mkdir(exist_ok=True)
    (record.folder / "a b.txt").write_bytes(b"content")
    record.create(attachment={"location": "https://files.example.org/a%20b.txt", "size": 7})

    result = command("check", "--older-than=0s", "--json")

    assert result.status == 0
    assert result.counts["records with a file"] == 1


def test_attachments_without_a_location_are_plain_data(record, command):
    record.create(attachment={"comment": "soon"})

    assert command("check").status == 0


def test_a_name_that_is_not_utf_8_is_nobodys(attached, command):
    with open(bytes(attached.folder) + b"/\xff.txt", "wb") as file:  # noqa: PTH123
        file.write(b"stray")

    assert command("check", "--older-than=0s").status == 0


def rows(execute, resource_name=FILES):
    query = "SELECT data FROM objects WHERE resource_name = %s"
    return [row for (row,) in execute(query, resource_name)]


def change_row(execute, resource_name=FILES, **changes):
    query = "UPDATE objects SET data = data || %s::jsonb WHERE resource_name = %s"
    execute(query, json.dumps(changes), resource_name)


def test_a_row_that_names_a_record_that_does_not_hold_the_file(attached, command, execute):
    change_row(execute, holders=[attached.uri, attached.other().uri])

    result = command("check", "--json")

    assert result.status == 1
    assert ways(result) == ["named"]
    assert result.findings[0]["record"] == attached.other().uri


def test_a_row_that_does_not_name_a_record_that_holds_the_file(attached, command, execute):
    change_row(execute, holders=[])

    result = command("check", "--json")

    assert result.status == 1
    assert ways(result) == ["free", "not named"]


def test_a_row_that_says_that_a_held_file_is_gone(attached, command, execute):
    change_row(execute, gone=1)

    assert ways(command("check", "--json")) == ["not free"]


def test_a_record_whose_row_is_missing(attached, command, execute):
    execute("DELETE FROM objects WHERE resource_name = %s", HOLDINGS)

    assert ways(command("check", "--json")) == ["no holding"]


def test_a_row_of_a_record_that_holds_another_file(attached, command, execute):
    change_row(execute, HOLDINGS, name="other.txt")

    assert ways(command("check", "--json")) == ["holding", "no holding"]


def damage_holders(execute, record):
    change_row(execute, holders=[record.other().uri])


def damage_state(execute, record):
    change_row(execute, gone=1)


def damage_holding(execute, record):
    change_row(execute, HOLDINGS, name="other.txt")


def damage_everything(execute, record):
    change_row(execute, holders=[], kept=1)
    execute("DELETE FROM objects WHERE resource_name = %s", HOLDINGS)


def damage_by_a_stray_holding(execute, record):
    uri = record.other().uri
    record.other().attach(b"other")
    execute("DELETE FROM objects WHERE resource_name = 'record' AND id = 'other'")
    execute("DELETE FROM objects WHERE resource_name = %s AND data->'holders' ? %s", FILES, uri)


@pytest.mark.parametrize(
    "damage",
    [
        damage_holders,
        damage_state,
        damage_holding,
        damage_everything,
        damage_by_a_stray_holding,
    ],
)
def test_repair_makes_the_rows_match_the_records(attached, command, execute, damage):
    damage(execute, attached)
    data, files = attached.data, attached.files()

    result = command("check", "--repair", "--json")

    assert result.status == 0
    assert result.counts["rows that differ"] > 0
    assert command("check", "--json").findings == []
    assert attached.data == data
    assert attached.files() == files
    [row] = [row for row in rows(execute) if "gone" not in row]
    assert row["holders"] == [attached.uri]
    assert [row["uri"] for row in rows(execute, HOLDINGS)] == [attached.uri]


@pytest.mark.parametrize(("keep", "state"), [("true", "kept"), ("false", "gone")])
def test_repair_frees_the_row_of_a_file_that_nobody_holds(
    make_record, command, execute, keep, state
):
    record = make_record(attachment={"keep_old_files": keep})
    record.attach(b"content")
    execute("DELETE FROM objects WHERE resource_name = 'record'")

    result = command("check", "--repair", attachment={"keep_old_files": keep})

    assert result.status == 0
    [row] = rows(execute)
    assert row["holders"] == []
    assert state in row
    assert rows(execute, HOLDINGS) == []
    assert len(record.files()) == 1


def test_repair_does_not_heal_files(attached, command):
    path_of(attached).unlink()

    assert command("check", "--repair").status == 1


def test_a_record_that_was_replaced_while_files_were_listed_is_well(
    attached, command, monkeypatch
):
    listed = LocalStorage.list

    def list_after_a_replacement(self, *args, **options):
        attached.attach(b"newer")
        return listed(self, *args, **options)

    monkeypatch.setattr(LocalStorage, "list", list_after_a_replacement)

    result = command("check", "--hash", "--json")

    assert attached.content == b"newer"
    assert result.findings == []
    assert result.status == 0


def test_a_record_that_was_replaced_while_files_were_read_is_well(attached, command, monkeypatch):
    read = LocalStorage.read

    def read_after_a_replacement(self, name, *args):
        attached.attach(b"newer")
        return read(self, name, *args)

    monkeypatch.setattr(LocalStorage, "read", read_after_a_replacement)

    result = command("check", "--hash", "--json")

    assert attached.content == b"newer"
    assert result.findings == []
    assert result.status == 0


def test_repair_leaves_a_kept_file_kept(make_record, command, execute):
    record = make_record(attachment={"keep_old_files": "true"})
    record.attach(b"content")
    record.detach()
    [since] = [row["kept"] for row in rows(execute)]
    change_row(execute, holders=[record.uri])

    command("check", "--repair")

    [row] = rows(execute)
    assert (row["holders"], row["kept"]) == ([], since)


def test_repair_keeps_the_file_of_a_record_with_metadata_of_its_own(attached, command, execute):
    """As the migration leaves records that disagree on the hash of a file."""
    other = attached.other()
    other.create(attachment=attached.data["attachment"])
    own = {**other.data["attachment"], "hash": "0" * 64}
    update = "UPDATE objects SET data = data || %s::jsonb WHERE resource_name = %s"
    execute(f"{update} AND id = 'other'", json.dumps({"attachment": own}), "record")
    del own["location"]
    holding = f"{update} AND data->>'uri' = %s"
    execute(holding, json.dumps({"shown": own}), HOLDINGS, other.uri)
    assert command("check", "--json").findings == []
    execute("DELETE FROM objects WHERE resource_name = 'record' AND id = 'r'")

    command("check", "--repair")
    command("gc", "--delete", "--older-than=0s")

    assert [row["holders"] for row in rows(execute)] == [[other.uri]]
    assert len(attached.files()) == 1
