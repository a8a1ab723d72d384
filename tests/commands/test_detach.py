"""``kinto-attachment check --missing`` and ``detach``: records whose file is missing."""

from __future__ import annotations

import hashlib
import json

import pytest

from kinto_attachment.attachments.site import MARKER
from kinto_attachment.commands import edits, evidence
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.files import Files

BASE = "https://files.example.org/"


@pytest.fixture
def private(stored):
    """The collection ``d`` has private files."""
    return {"attachment": {**stored.private_settings, "resources.b.d.private": "true"}}


@pytest.fixture
def record(make_record, private):
    """A record with a file, and another one with a private file."""
    record = make_record(**private)
    record.app.put_json("/v1/buckets/b/collections/d", {})
    record.attach(b"content", data={"title": "first"})
    other_of(record).attach(b"other", data={"title": "second"})
    return record


def other_of(record):
    return record.other("r", "d")


def name_of(record):
    return record.data["attachment"]["location"].removeprefix(BASE)


def lose(*records):
    for record in records:
        record.stored.path_of(name_of(record)).unlink()


@pytest.fixture
def listed(command, private, tmp_path):
    """``listed()``: write down which records have no file; the path of the list."""

    def run():
        result = command("check", "--missing", "--json", **private)
        path = tmp_path / "missing.jsonl"
        path.write_text(result.output)
        return path

    return run


@pytest.fixture
def detach(command, private):
    """``detach(path, ...)`` acts on a list."""

    def run(path, *options, **settings):
        return command("detach", str(path), "--write", "--json", *options, **private, **settings)

    return run


class TestTheList:
    def test_has_a_line_of_json_for_each_record(self, record, command, private):
        lost, other = name_of(record), other_of(record)
        record.other("copy").create(attachment=record.data["attachment"])
        lose(record)

        result = command("check", "--missing", "--json", **private)

        assert result.status == 1
        digest = hashlib.sha256(b"content").hexdigest()
        assert [json.loads(line) for line in result.output.splitlines()] == [
            {"problem": "missing", "record": uri, "name": lost, "hash": digest, "size": 7}
            for uri in (record.other("copy").uri, record.uri)
        ]
        assert other.uri not in result.output

    def test_has_private_files(self, record, command, private):
        lose(other_of(record))

        result = command("check", "--missing", **private)

        [line] = result.output.splitlines()
        assert line.startswith(f"{other_of(record).uri}: _private/")
        assert "5 bytes" in line

    def test_is_empty_where_nothing_is_missing(self, record, command, private):
        result = command("check", "--missing", **private)

        assert (result.status, result.output) == (0, "")

    @pytest.mark.parametrize("option", ["--hash", "--repair"])
    def test_is_all_that_is_asked_for(self, record, command, private, option):
        result = command("check", "--missing", option, **private)

        assert result.status == 2
        assert "--missing" in result.errors


class TestDetach:
    def test_records_whose_file_is_missing_lose_it(self, record, detach, listed, command, private):
        lose(record, other_of(record))
        before = record.data

        result = detach(listed())

        assert result.status == 0
        assert result.counts == {
            "records written": 2,
            "records left as they are": 0,
            "failures": 0,
        }
        after = record.data
        assert after["last_modified"] > before["last_modified"]
        assert after == {**before, "attachment": None, "last_modified": after["last_modified"]}
        assert other_of(record).data["attachment"] is None
        assert command("check", "--hash", **private).status == 0
        record.inventory.check()

    def test_nothing_is_written_unless_asked(self, record, command, listed, private):
        lose(record)
        name, before = name_of(record), record.data

        result = command("detach", str(listed()), "--json", **private)

        assert result.status == 0
        assert result.counts["records to write"] == 1
        assert result.findings == [{"record": record.uri, "name": name, "detached": False}]
        assert record.data == before

    def test_history_says_what_was_written_and_by_whom(self, record, detach, listed, make_app):
        lose(record)
        plugins = {"kinto.includes": "kinto.plugins.history kinto_attachment"}

        detach(listed(), **plugins)

        history = make_app(**plugins).get("/v1/buckets/b/history?_limit=1").json["data"][0]
        assert (history["action"], history["uri"]) == ("update", record.uri)
        assert history["user_id"] == "plugin:kinto-attachment"

    @pytest.mark.parametrize(
        ("when", "change"),
        [
            ("before", "is back"),
            ("meanwhile", "is back"),
            ("meanwhile", "another"),
            ("meanwhile", "deleted"),
            ("meanwhile", "no parent"),
        ],
    )
    def test_a_record_that_has_changed_stays_as_it_is(
        self, record, detach, listed, monkeypatch, change, when
    ):
        path = record.stored.path_of(name_of(record))
        lose(record)
        missing = listed()
        apply = edits.apply

        def change_it():
            if change == "is back":
                path.write_bytes(b"content")
            elif change == "another":
                record.attach(b"another")
            elif change == "deleted":
                record.app.delete(record.path)
            else:
                record.app.delete("/v1/buckets/b/collections/c")

        def apply_later(*arguments):
            monkeypatch.undo()
            change_it()
            return apply(*arguments)

        if when == "before":
            change_it()
        else:
            monkeypatch.setattr(edits, "apply", apply_later)

        result = detach(missing)

        assert result.status == 0
        assert result.counts["records written"] == 0
        assert result.counts["records left as they are"] == 1
        if change in ("is back", "another"):
            assert record.content in (b"content", b"another")
        record.inventory.check()

    def test_null_is_written_only_where_the_schema_accepts_it(self, record, detach, listed):
        schema = {"type": "object", "properties": {"attachment": {"type": "object"}}}
        record.app.patch_json("/v1/buckets/b/collections/c", {"data": {"schema": schema}})
        lose(record)

        assert detach(listed()).status == 0

        assert "attachment" not in record.data

    def test_a_schema_that_requires_an_attachment_is_respected(self, record, detach, listed):
        schema = {"type": "object", "required": ["attachment"]}
        schema["properties"] = {"attachment": {"type": "object"}}
        record.app.patch_json("/v1/buckets/b/collections/c", {"data": {"schema": schema}})
        lose(record, other_of(record))
        before = record.data

        result = detach(listed())

        assert result.status == 1
        assert result.counts["failures"] == 1
        assert result.counts["records written"] == 1
        assert record.data == before
        assert result.findings[0]["problem"] == "record"

    def test_what_another_plugin_refuses_is_not_written(self, record, detach, listed):
        lose(record)
        before = record.data
        plugins = "kinto_attachment tests.plugins.forbidding_changes"

        result = detach(listed(), **{"kinto.includes": plugins})

        assert result.status == 1
        assert record.data == before

    def test_other_findings_are_passed_over(self, record, detach, tmp_path):
        path = tmp_path / "list"
        path.write_text(json.dumps({"problem": "unreadable", "record": record.uri, "name": "x"}))

        assert detach(path).counts["records left as they are"] == 0


class TestEvidence:
    @pytest.mark.parametrize(
        "line", ["{}", "[]", "x", '{"problem": "missing", "record": "/buckets/b", "name": "x"}']
    )
    def test_a_list_of_something_else_is_refused(self, record, detach, listed, line):
        lose(record)
        path = listed()
        path.write_text(f"{path.read_text()}{line}\n")

        result = detach(path)

        assert result.status == 2
        assert "line 2" in result.errors
        assert record.data["attachment"] is not None

    def test_a_folder_that_is_not_mounted_is_refused(self, record, detach, listed, stored):
        lose(record)
        (stored.path / MARKER).unlink()

        result = detach(listed())

        assert result.status == 2
        assert MARKER in result.errors
        assert record.data["attachment"] is not None

    def test_a_folder_whose_disk_goes_meanwhile_is_refused(
        self, record, detach, listed, monkeypatch, stored
    ):
        lose(record, other_of(record))
        missing, apply = listed(), edits.apply

        def apply_and_unmount(*arguments):
            (stored.path / MARKER).unlink(missing_ok=True)
            return apply(*arguments)

        monkeypatch.setattr(edits, "apply", apply_and_unmount)

        result = detach(missing)

        assert result.status == 2
        assert record.data["attachment"] is None
        assert other_of(record).data["attachment"] is not None

    def test_many_records_are_doubted(self, record, detach, listed, command, private, monkeypatch):
        monkeypatch.setattr(evidence, "_FEW", 0)
        lose(record)
        path = listed()

        told = command("detach", str(path), "--json", **private)
        refused = detach(path)

        assert told.status == 0
        assert told.findings[0]["problem"] == "doubt"
        assert refused.status == 2
        assert "1 of 2 records would lose their file" in refused.errors
        assert record.data["attachment"] is not None
        assert detach(path, "--allow-many").counts["records written"] == 1

    def test_a_few_of_many_are_not(self, record, detach, listed, monkeypatch):
        monkeypatch.setattr(evidence, "_FEW", 0)
        monkeypatch.setattr(evidence, "_SHARE", 1)
        lose(record)

        assert detach(listed()).counts["records written"] == 1

    def test_a_storage_that_is_down_shows_nothing(self, record, detach, listed, monkeypatch):
        lose(record)
        path = listed()

        def exists(self, name):
            raise StorageUnavailable("down")

        monkeypatch.setattr(Files, "exists", exists)

        assert detach(path).status == 2
        monkeypatch.undo()
        assert record.data["attachment"] is not None
