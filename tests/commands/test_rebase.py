"""``kinto-attachment rebase``."""

from __future__ import annotations

import pytest

from kinto_attachment.commands import rebase

OLD = "https://files.example.org/"
NEW = "https://new.example.org/f/"
MOVED = {"base_url": NEW, "former_base_urls": OLD}


@pytest.fixture
def attached(record):
    """A record with a file, at the former base URL."""
    record.attach(b"content", data={"title": "first"})
    return record


def location(record):
    return record.data["attachment"]["location"]


def test_locations_start_with_the_new_base_url(attached, command):
    [name] = attached.files()
    before = attached.data

    result = command("rebase", "--from", OLD, "--to", NEW, "--write", attachment=MOVED)

    assert result.status == 0
    after = attached.data
    assert after["attachment"] == {**before["attachment"], "location": f"{NEW}{name}"}
    assert after["title"] == "first"
    assert after["last_modified"] > before["last_modified"]


def test_nothing_is_written_unless_asked(attached, command):
    [name] = attached.files()
    before = attached.data

    result = command("rebase", "--from", OLD, "--to", NEW, "--json", attachment=MOVED)

    assert result.findings == [
        {"record": attached.uri, "former": f"{OLD}{name}", "location": f"{NEW}{name}"},
    ]
    assert result.counts == {"records to write": 1}
    assert attached.data == before


def test_absolute_to_relative_and_back(attached, command):
    [name] = attached.files()

    command("rebase", "--from", OLD, "--to", "", "--write")
    assert location(attached) == name

    command("rebase", "--from", "", "--to", OLD, "--write")
    assert location(attached) == f"{OLD}{name}"


def test_a_second_run_has_nothing_to_do(attached, command):
    longer = {"base_url": f"{OLD}v2/", "former_base_urls": OLD}
    arguments = ("rebase", "--from", OLD, "--to", f"{OLD}v2/", "--write", "--json")

    first = command(*arguments, attachment=longer)
    second = command(*arguments, attachment=longer)

    assert first.counts["records written"] == 1
    assert second.counts["records written"] == 0


def test_urls_are_the_same_without_their_last_slash(attached, command):
    arguments = ("--from", OLD.rstrip("/"), "--to", NEW.rstrip("/"))

    command("rebase", *arguments, "--write", attachment=MOVED)

    assert location(attached).startswith(NEW)


@pytest.mark.parametrize(
    "attachment",
    [
        {"location": "https://elsewhere.example.org/x"},
        {"location": "/x"},
        {"location": 5},
        {"comment": "soon"},
        None,
    ],
)
@pytest.mark.parametrize("former", [OLD, ""])
def test_other_locations_stay(record, command, attachment, former):
    before = record.create(attachment=attachment)

    command("rebase", "--from", former, "--to", NEW, "--write", attachment=MOVED)

    assert record.data == before


def test_the_file_goes_with_its_record_all_the_same(make_record, make_app, command):
    record = make_record()
    record.attach(b"content")
    command("rebase", "--from", OLD, "--to", NEW, "--write", attachment=MOVED)

    make_app(attachment=MOVED).delete(record.path)

    assert record.files() == []


def test_all_records_of_all_collections_are_written(record, command):
    record.app.put_json("/v1/buckets/b/collections/d", {})
    records = [record.other(f"r{number}") for number in range(120)]
    records += [record.other("r", "d"), record]
    attachment = {"location": f"{OLD}a.txt"}
    for each in records:
        each.create(attachment=attachment)

    result = command("rebase", "--from", OLD, "--to", NEW, "--write", "--json", attachment=MOVED)

    assert result.counts["records written"] == 122
    assert {location(each) for each in records} == {f"{NEW}a.txt"}


def test_history_says_what_was_written_and_by_whom(make_record, command):
    plugins = {"kinto.includes": "kinto.plugins.history kinto_attachment"}
    record = make_record(**plugins)
    record.attach(b"content")

    command("rebase", "--from", OLD, "--to", NEW, "--write", attachment=MOVED, **plugins)

    entry = record.app.get("/v1/buckets/b/history?_limit=1").json["data"][0]
    assert entry["action"] == "update"
    assert entry["uri"] == record.uri
    assert entry["user_id"] == "plugin:kinto-attachment"
    assert entry["target"]["data"]["attachment"]["location"].startswith(NEW)


def test_a_record_that_changed_meanwhile_is_written_as_it_is_now(attached, command, monkeypatch):
    holders = rebase.Holder.at

    def at(uri):
        attached.app.patch_json(attached.path, {"data": {"title": "second"}})
        return holders(uri)

    monkeypatch.setattr(rebase.Holder, "at", at)

    command("rebase", "--from", OLD, "--to", NEW, "--write", attachment=MOVED)

    assert attached.data["title"] == "second"
    assert location(attached).startswith(NEW)


@pytest.mark.parametrize("change", ["DELETE", "replace", "detach"])
def test_a_record_that_needs_it_no_more_is_left_alone(attached, command, monkeypatch, change):
    holders = rebase.Holder.at

    def at(uri):
        monkeypatch.undo()
        if change == "DELETE":
            attached.app.delete(attached.path)
        elif change == "detach":
            attached.detach()
        else:
            attached.app.put_json(attached.path, {"data": {}})
            attached.create(attachment={"location": "https://elsewhere.example.org/x"})
        return holders(uri)

    monkeypatch.setattr(rebase.Holder, "at", at)

    result = command("rebase", "--from", OLD, "--to", NEW, "--write", "--json", attachment=MOVED)

    assert result.status == 0
    assert result.counts["records written"] == 0


def test_what_another_plugin_refuses_is_not_written(attached, command):
    before = attached.data

    result = command(
        *("rebase", "--from", OLD, "--to", NEW, "--write", "--json"),
        attachment=MOVED,
        **{"kinto.includes": "kinto_attachment tests.plugins.forbidding_changes"},
    )

    assert result.status == 1
    assert result.counts["records that failed"] == 1
    assert attached.data == before


def test_a_record_that_is_refused_does_not_hold_up_the_others(attached, command, caplog):
    """Its plain data becomes the metadata of a file that has gone."""
    gone = attached.other("gone")
    gone.attach(b"gone")
    claimed = {**gone.data["attachment"]}
    gone.detach()
    claimed["location"] = claimed["location"].replace(OLD, "http://other.example.org/")
    gone.create(attachment=claimed)
    for record_id in ("before", "z-after"):
        honest = {"location": "http://other.example.org/x.txt"}
        attached.other(record_id).create(attachment=honest)

    result = command(
        *("rebase", "--from", "http://other.example.org/", "--to", OLD, "--write", "--json")
    )

    assert result.status == 1
    assert (result.counts["records written"], result.counts["records that failed"]) == (2, 1)
    assert location(gone) == claimed["location"]
    assert location(attached.other("z-after")) == f"{OLD}x.txt"
    assert f"{gone.uri} was not written." in caplog.text


def test_a_plugin_that_fails_afterwards_changes_nothing(attached, command):
    result = command(
        *("rebase", "--from", OLD, "--to", NEW, "--write", "--json"),
        attachment=MOVED,
        **{"kinto.includes": "kinto_attachment tests.plugins.failing_afterwards"},
    )

    assert result.status == 0
    assert location(attached).startswith(NEW)


def test_the_server_must_know_its_files_at_the_new_base_url(attached, command):
    result = command("rebase", "--from", OLD, "--to", "https://other.example.org/", "--write")

    assert result.status == 2
    assert "kinto.attachment.base_url" in result.errors
    assert location(attached).startswith(OLD)
