"""``kinto-attachment publish`` and ``withdraw``: the files of a collection change stores."""

from __future__ import annotations

import pytest
from kinto.core.storage.exceptions import IntegrityError

from kinto_attachment.attachments.lookup import FILES, HOLDINGS
from kinto_attachment.commands import edits, relocation
from kinto_attachment.database import scan
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.files import Files
from tests.support.orphans import grow_old
from tests.support.servers.forked import run
from tests.support.tus import begin

BASE = "https://files.example.org/"
WITHDRAW = ("withdraw", "b", "c", "--write", "--json")
PUBLISH = ("publish", "b", "c", "--write", "--json")

SILENT_COPY = """
UPDATE objects AS it SET data = it.data || jsonb_build_object(
    'attachment', (SELECT data->'attachment' FROM objects
                    WHERE id = 'r' AND resource_name = 'record'))
 WHERE id = 'other' AND resource_name = 'record'
"""

both = pytest.mark.parametrize("where", ["local", "s3"])


@pytest.fixture
def public(stored):
    """Settings of a server whose files are public, and that has a private store."""
    return {"attachment": {**stored.private_settings}}


@pytest.fixture
def private(public):
    """Settings of the same server after the collection has become private."""
    return {"attachment": {**public["attachment"], "resources.b.c.private": "true"}}


@pytest.fixture
def record(make_record, public):
    """A record with a public file."""
    record = make_record(**public)
    record.attach(b"content", "plan.txt", data={"title": "first"})
    return record


@pytest.fixture
def private_record(make_record, private):
    """A record with a private file."""
    record = make_record(**private)
    record.attach(b"content", "plan.txt", data={"title": "first"})
    return record


@pytest.fixture
def meanwhile(monkeypatch):
    """``meanwhile(step)``: files are copied then, and the records not changed yet."""

    def register(step):
        change = relocation._Relocation._change

        def change_after(self, *arguments):
            monkeypatch.undo()
            step()
            change(self, *arguments)

        monkeypatch.setattr(relocation._Relocation, "_change", change_after)

    return register


def name_of(record):
    return record.data["attachment"]["location"].removeprefix(BASE)


def is_withdrawn(record):
    return name_of(record).startswith("_private/")


def without_location(record):
    return {key: value for key, value in record.data["attachment"].items() if key != "location"}


class TestBothDirections:
    @both
    def test_public_files_become_private(self, record, command, private):
        before = record.data

        result = command(*WITHDRAW, **private)

        assert result.status == 0
        assert record.files() == [name_of(record)]
        assert is_withdrawn(record)
        assert record.content == b"content"
        after = record.data
        assert after["last_modified"] > before["last_modified"]
        location = after["attachment"]["location"]
        assert after == {
            **before,
            "attachment": {**before["attachment"], "location": location},
            "last_modified": after["last_modified"],
        }
        assert "plan" not in location
        record.inventory.check()
        assert command("check", "--hash", **private).status == 0

    @both
    def test_private_files_become_public(self, private_record, command, public):
        before = without_location(private_record)

        result = command(*PUBLISH, **public)

        assert result.status == 0
        assert private_record.files() == [name_of(private_record)]
        assert not is_withdrawn(private_record)
        assert private_record.content == b"content"
        assert without_location(private_record) == before
        private_record.inventory.check()
        assert command("check", "--hash", **public).status == 0

    def test_a_published_file_has_the_name_that_the_settings_say(
        self, private_record, command, public
    ):
        names = {"randomize": "false", "folder": "{bucket_id}/shown"}

        command(*PUBLISH, attachment={**public["attachment"], **names})

        assert private_record.files() == ["b/shown/plan.txt"]
        private_record.inventory.check()

    def test_a_name_that_was_used_does_not_come_back(
        self, make_app, private_record, command, public
    ):
        names = {**public["attachment"], "randomize": "false", "folder": ""}
        app = make_app(attachment=names)
        other = private_record.other("other", "d")
        other.app.put_json("/v1/buckets/b/collections/d", {})
        other.app = app
        other.attach(b"older", "plan.txt")
        other.detach()

        command(*PUBLISH, attachment=names)

        assert private_record.files() == ["plan-1.txt"]

    def test_extensions_that_are_refused_by_now_move_all_the_same(self, record, command, private):
        settings = {**private["attachment"], "extensions": "png"}

        assert command(*WITHDRAW, attachment=settings).status == 0

        assert is_withdrawn(record)

    @pytest.mark.parametrize("where", ["s3"])
    def test_content_types_stay(self, make_record, command, public, private, seaweedfs, stored):
        record = make_record(**public)
        record.attach(b"content", "plan.dat", "text/x-plan")

        command(*WITHDRAW, **private)

        assert record.data["attachment"]["mimetype"] == "text/x-plan"
        key = name_of(record).removeprefix("_private/")
        head = seaweedfs.admin.head_object(Bucket=seaweedfs.private_bucket, Key=key)
        assert head["ContentType"] == "text/x-plan"
        assert head["CacheControl"] == "private, no-cache"

    def test_there_and_back(self, record, command, public, private):
        before = record.data["attachment"]

        command(*WITHDRAW, **private)
        command(*PUBLISH, **public)

        after = record.data["attachment"]
        assert after == {**before, "location": after["location"]}
        assert after["location"] != before["location"]
        record.inventory.check()

    def test_a_second_run_has_nothing_to_do(self, record, command, private):
        command(*WITHDRAW, **private)
        before = record.data

        result = command(*WITHDRAW, **private)

        assert result.status == 0
        assert result.findings == []
        assert result.counts["files moved"] == 0
        assert record.data == before


class TestDryRun:
    def test_nothing_is_moved_unless_asked(self, record, command, private):
        before, files = record.data, record.files()

        result = command("withdraw", "b", "c", "--json", **private)

        assert result.status == 0
        [name] = files
        assert result.findings == [
            {"name": name, "new": None, "records": 1, "size": 7, "moved": False, "left": None}
        ]
        assert result.counts == {
            "records to write": 1,
            "files to move": 1,
            "bytes to move": 7,
            "uploads under way": 0,
            "failures": 0,
        }
        assert (record.data, record.files()) == (before, files)

    def test_it_says_which_files_would_stay_public(self, record, command, private):
        record.app.put_json("/v1/buckets/b/collections/d", {})
        record.other("copy", "d").create(attachment=record.data["attachment"])
        record.other("own").attach(b"own")
        keeping = {"attachment": {**private["attachment"], "keep_old_files": "true"}}

        result = command("withdraw", "b", "c", **keeping)

        shared, kept = name_of(record), name_of(record.other("own"))
        assert f"{shared} stays public: 1 records of other collections reference it" in (
            result.output
        )
        assert f"{kept} stays public: keep_old_files keeps it" in result.output
        assert len(record.files()) == 2


class TestRefused:
    @pytest.mark.parametrize(
        ("direction", "settings", "sentence"),
        [
            ("withdraw", "public", "would be public again: set kinto.attachment.resources.b.c"),
            ("publish", "private", "would be private again: set kinto.attachment.resources.b.c"),
        ],
    )
    def test_settings_that_say_otherwise(
        self, record, command, request, direction, settings, sentence
    ):
        before = record.data

        result = command(direction, "b", "c", "--write", **request.getfixturevalue(settings))

        assert result.status == 2
        assert sentence in result.errors
        assert record.data == before

    @pytest.mark.parametrize("ids", [("b", "x"), ("x", "c"), ("default", "c")])
    def test_a_collection_that_does_not_exist(self, record, command, public, ids):
        result = command("publish", *ids, **public)

        assert result.status == 2
        assert "there is no collection" in result.errors

    def test_a_private_store_that_is_not_in_the_settings(self, private_record, command):
        result = command("publish", "b", "c", "--write")

        assert result.status == 2
        assert "no store for them: set kinto.attachment.private.base_path" in result.errors

    def test_files_of_an_earlier_version_that_are_not_taken_over(
        self, record, command, private, execute
    ):
        execute(
            "INSERT INTO objects (id, parent_id, resource_name, data, deleted)"
            " VALUES (%s, %s, %s, %s, FALSE)",
            *("link", "__attachments__", "attachments", '{"record_uri": "/buckets/b"}'),
        )
        try:
            result = command("withdraw", "b", "c", **private)
        finally:
            execute("DELETE FROM objects WHERE id = 'link'")

        assert result.status == 2
        assert "kinto migrate" in result.errors


class TestOtherRecords:
    def test_only_the_files_of_the_collection_move(self, record, command, private):
        record.app.put_json("/v1/buckets/b/collections/d", {})
        other = record.other("other", "d")
        other.attach(b"other")
        before = other.data

        command(*WITHDRAW, **private)

        assert is_withdrawn(record)
        assert other.data == before
        record.inventory.check()

    def test_a_file_that_another_collection_shows_stays_for_it(self, record, command, private):
        record.app.put_json("/v1/buckets/b/collections/d", {})
        copy = record.other("copy", "d")
        copy.create(attachment=record.data["attachment"])
        before = copy.data

        result = command(*WITHDRAW, **private)

        assert result.status == 0
        [finding] = result.findings
        assert finding["left"] == "shared"
        assert result.counts["files left for other collections"] == 1
        assert copy.data == before
        assert copy.content == b"content"
        assert sorted(record.files()) == sorted([name_of(copy), name_of(record)])
        assert is_withdrawn(record)
        record.inventory.check()

    def test_records_that_share_a_file_share_its_copy(self, record, command, private):
        copies = [record.other(f"copy{number}") for number in range(3)]
        for copy in copies:
            copy.create(attachment=record.data["attachment"])

        result = command(*WITHDRAW, **private)

        assert result.counts["records written"] == 4
        assert result.counts["files moved"] == 1
        assert record.files() == [name_of(record)]
        assert {name_of(copy) for copy in copies} == {name_of(record)}
        record.inventory.check()

    def test_plain_data_is_left_alone(self, record, command, private):
        other = record.other()
        claim = {**record.data["attachment"], "location": "https://elsewhere.example.org/x"}
        before = other.create(attachment=claim)
        record.other("text").create(attachment="text")

        result = command(*WITHDRAW, **private)

        assert result.counts["records written"] == 1
        assert other.data == before

    def test_a_copy_that_a_plugin_has_written_without_an_event(
        self, record, command, private, execute
    ):
        """The rows do not name it, and the file must not go."""
        other = record.other()
        other.create(title="silent")
        execute(SILENT_COPY)

        result = command(*WITHDRAW, **private)

        assert result.counts["records written"] == 2
        assert is_withdrawn(record)
        assert is_withdrawn(other)
        record.inventory.check()

    def test_a_record_that_shows_another_file_than_its_row_says(
        self, record, command, private, execute
    ):
        other = record.other()
        other.attach(b"other")
        execute(SILENT_COPY)

        command(*WITHDRAW, **private)

        assert is_withdrawn(other)
        assert record.files() == [name_of(record)]
        record.inventory.check()

    def test_a_silent_copy_of_a_name_that_is_not_random_is_moved_by_the_next_run(
        self, make_record, command, public, private, execute
    ):
        """Without a row it may be plain data; once the file should go, the records are asked."""
        names = {"randomize": "false"}
        record = make_record(attachment={**public["attachment"], **names})
        record.attach(b"content", "plan.txt")
        other = record.other()
        other.create(title="silent")
        execute(SILENT_COPY)
        settings = {"attachment": {**private["attachment"], **names}}

        result = command(*WITHDRAW, **settings)

        assert result.status == 1
        assert [each["record"] for each in result.findings if "problem" in each] == [other.uri]
        assert other.content == b"content"

        assert command(*WITHDRAW, **settings).status == 0
        assert is_withdrawn(other)
        record.inventory.check()

    @pytest.mark.parametrize("size", ['"large"', "-1", "1e30", "true", "100000000000000000000000"])
    def test_a_size_that_is_none(self, record, command, private, execute, size):
        execute(
            "UPDATE objects SET data = jsonb_set(data, '{size}', %s) WHERE resource_name = %s",
            *(size, FILES),
        )

        result = command("withdraw", "b", "c", "--json", **private)
        assert (result.status, result.counts["bytes to move"]) == (0, 0)

        result = command(*WITHDRAW, **private)
        assert (result.status, result.counts["failures"]) == (1, 1)

    def test_metadata_of_an_earlier_version_stays(self, record, command, private, execute):
        """A file row may have more than files have now, and a record metadata of its own."""
        extra = '{"original": {"size": 3}}'
        execute(
            "UPDATE objects SET data = jsonb_set(data, '{extra}', %s) WHERE resource_name = %s",
            *(extra, FILES),
        )
        execute(
            """
            UPDATE objects SET data = jsonb_set(data, '{shown}', %s) WHERE resource_name = %s
            """,
            *('{"filename": "other.txt", "size": 7}', HOLDINGS),
        )
        execute(
            """
            UPDATE objects SET data = data || jsonb_build_object('attachment',
                jsonb_build_object('filename', 'other.txt', 'size', 7,
                                   'location', data->'attachment'->>'location'))
             WHERE resource_name = 'record' AND id = 'r'
            """
        )

        result = command(*WITHDRAW, **private)

        assert result.status == 0
        assert is_withdrawn(record)
        assert without_location(record) == {"filename": "other.txt", "size": 7}
        [(row,)] = execute(
            "SELECT data FROM objects WHERE resource_name = %s AND data ? 'private'", FILES
        )
        assert row["extra"] == {"original": {"size": 3}}
        # The record can still be changed.
        record.app.patch_json(record.path, {"data": {"title": "second"}})


class TestOldFiles:
    def test_kept_files_stay_public_and_are_named(self, record, command, private):
        old = name_of(record)
        keeping = {"attachment": {**private["attachment"], "keep_old_files": "true"}}

        result = command(*WITHDRAW, **keeping)

        assert result.status == 0
        assert [(finding["name"], finding["left"]) for finding in result.findings] == [
            (old, "kept")
        ]
        assert result.counts["files kept"] == 1
        assert sorted(record.files()) == sorted([old, name_of(record)])
        assert record.inventory.kept() == [old]

    def test_kept_private_files_stay_private(self, private_record, command, public):
        old = name_of(private_record)
        keeping = {"attachment": {**public["attachment"], "keep_old_files": "true"}}

        command(*PUBLISH, **keeping)

        assert private_record.inventory.kept() == [old]
        private_record.inventory.check()

    def test_the_old_metadata_does_not_bring_the_file_back(self, record, command, private):
        before = record.data["attachment"]
        command(*WITHDRAW, **private)

        body = {"data": {"attachment": before}}
        record.app.patch_json(record.path, body, status=409)

        assert is_withdrawn(record)


class TestOtherPlugins:
    def test_history_says_what_was_written_and_by_whom(
        self, make_record, command, public, private
    ):
        plugins = {"kinto.includes": "kinto.plugins.history kinto_attachment"}
        record = make_record(**public, **plugins)
        record.attach(b"content")

        command(*WITHDRAW, **private, **plugins)

        entry = record.app.get("/v1/buckets/b/history?_limit=1").json["data"][0]
        assert (entry["action"], entry["uri"]) == ("update", record.uri)
        assert entry["user_id"] == "plugin:kinto-attachment"
        assert entry["target"]["data"] == record.data

    def test_events_are_those_of_an_update(self, record, command, private, started):
        before = record.data
        spy = {
            "kinto.event_listeners": "spy",
            "kinto.event_listeners.spy.use": "tests.plugins.recording_events",
        }

        command(*WITHDRAW, **private, **spy)

        registry = list(started.values())[-1].registry
        for told in (registry.spied, registry.spied_after):
            [event] = told
            assert event.payload["action"] == "update"
            assert event.payload["record_id"] == "r"
            [change] = event.impacted_objects
            assert change["old"] == before
            assert change["new"] == record.data

    def test_permissions_stay(self, make_record, command, public, private):
        record = make_record(**public)
        record.attach(b"content", permissions={"read": ["system.Everyone"]})
        before = record.app.get(record.path).json["permissions"]

        command(*WITHDRAW, **private)

        assert record.app.get(record.path).json["permissions"] == before

    def test_a_precondition_on_the_former_record_fails(self, record, command, private):
        etag = record.etag

        command(*WITHDRAW, **private)

        headers = {"If-Match": etag}
        record.app.patch_json(record.path, {"data": {"a": 1}}, headers=headers, status=412)
        assert record.etag != etag

    def test_what_another_plugin_refuses_stays(self, record, command, private):
        before, files = record.data, record.files()
        forbidding = {"kinto.includes": "kinto_attachment tests.plugins.forbidding_changes"}

        result = command(*WITHDRAW, **private, **forbidding)

        assert result.status == 1
        assert [finding["problem"] for finding in result.findings] == ["record"]
        assert (record.data, record.files()) == (before, files)

    def test_a_plugin_that_fails_afterwards_changes_nothing(self, record, command, private):
        failing = {"kinto.includes": "kinto_attachment tests.plugins.failing_afterwards"}

        assert command(*WITHDRAW, **private, **failing).status == 0

        assert is_withdrawn(record)

    def test_a_record_that_its_schema_refuses_is_told_and_stays(
        self, make_record, command, public, private
    ):
        validation = {"kinto.experimental_collection_schema_validation": "true"}
        record = make_record(**public, **validation)
        record.attach(b"content", data={"title": 5})
        copy = record.other()
        copy.create(title="x", attachment=record.data["attachment"])
        schema = {"type": "object", "properties": {"title": {"type": "string"}}}
        record.app.patch_json("/v1/buckets/b/collections/c", {"data": {"schema": schema}})
        before = record.data

        result = command(*WITHDRAW, **private, **validation)

        assert result.status == 1
        failures = [each for each in result.findings if "problem" in each]
        assert [each["record"] for each in failures] == [record.uri]
        assert record.data == before
        assert record.content == b"content"
        assert is_withdrawn(copy)
        record.inventory.check()

        result = command("withdraw", "b", "c", "--write", **private, **validation)
        assert "5 is not of type 'string'" in result.output
        assert len(record.files()) == 2

    def test_the_version_of_the_schema_is_written(self, make_record, command, public, private):
        validation = {"kinto.experimental_collection_schema_validation": "true"}
        record = make_record(**public, **validation)
        record.attach(b"content")
        collection = record.app.patch_json(
            "/v1/buckets/b/collections/c", {"data": {"schema": {"type": "object"}}}
        ).json["data"]

        command(*WITHDRAW, **private, **validation)

        assert record.data["schema"] == collection["last_modified"]


class TestMeanwhile:
    def test_an_edit_is_not_lost(self, record, command, private, meanwhile):
        meanwhile(lambda: record.app.patch_json(record.path, {"data": {"title": "second"}}))

        command(*WITHDRAW, **private)

        assert record.data["title"] == "second"
        assert is_withdrawn(record)

    def test_a_new_file_wins(self, record, command, private, meanwhile):
        meanwhile(lambda: record.attach(b"second"))

        result = command(*WITHDRAW, **private)

        assert result.status == 0
        assert result.counts["records written"] == 0
        assert record.content == b"second"
        assert record.files() == [name_of(record)]
        record.inventory.check()

    @pytest.mark.parametrize("path", ["{0.endpoint}", "{0.path}", "/v1/buckets/b/collections/c"])
    def test_what_is_deleted_stays_so(self, record, command, private, meanwhile, path):
        meanwhile(lambda: record.app.delete(path.format(record)))

        result = command(*WITHDRAW, **private)

        assert result.status == 0
        assert record.files() == []
        record.inventory.check()

    def test_a_file_that_was_replaced_before_it_is_copied(
        self, record, command, private, monkeypatch
    ):
        tell = relocation._Relocation.move

        def move(self, database):
            record.attach(b"second")
            tell(self, database)

        monkeypatch.setattr(relocation._Relocation, "move", move)

        result = command(*WITHDRAW, **private)

        assert result.status == 0
        assert result.findings == []
        record.inventory.check()

    def test_the_copy_may_be_given_up_before_all_of_its_records_are_written(
        self, record, command, private, monkeypatch
    ):
        """With one record in each transaction: the first one is deleted after it was written."""
        copy = record.other("s")
        copy.create(attachment=record.data["attachment"])
        apply = edits.apply

        def apply_and_delete(registry, holders, edit):
            result = apply(registry, holders, edit)
            record.app.delete(record.path, expect_errors=True)
            return result

        monkeypatch.setattr(edits, "BATCH", 1)
        monkeypatch.setattr(edits, "apply", apply_and_delete)

        result = command(*WITHDRAW, **private)

        assert result.status == 1
        assert copy.content == b"content"
        assert not is_withdrawn(copy)
        record.inventory.check()
        monkeypatch.undo()

        assert command(*WITHDRAW, **private).status == 0
        assert is_withdrawn(copy)
        record.inventory.check()

    def test_what_can_pass_is_tried_again(self, record, command, private, monkeypatch):
        update, tries = edits.update, []

        def update_at_last(*arguments):
            tries.append(arguments)
            if len(tries) < 4:
                raise IntegrityError(message="please retry")
            update(*arguments)

        monkeypatch.setattr(edits, "update", update_at_last)

        assert command(*WITHDRAW, **private).status == 0

        assert len(tries) == 4
        assert is_withdrawn(record)
        record.inventory.check()

    def test_what_does_not_pass_is_told(self, record, command, private, monkeypatch, caplog):
        before, files = record.data, record.files()

        def fail(*arguments):
            raise IntegrityError(message="please retry")

        monkeypatch.setattr(edits, "update", fail)

        result = command("withdraw", "b", "c", "--write", **private)

        assert result.status == 1
        assert f"{record.uri} stays as it is: " in result.output
        assert f"{record.uri} was not written." in caplog.text
        assert (record.data, record.files()) == (before, files)

    def test_a_copy_stays_if_the_answer_to_its_commit_was_lost(
        self, record, command, private, monkeypatch
    ):
        apply = edits._apply

        def apply_and_lose(*arguments):
            if apply(*arguments):
                raise IntegrityError(message="the connection was lost")
            return 0

        monkeypatch.setattr(edits, "_apply", apply_and_lose)

        assert command(*WITHDRAW, **private).status == 0

        assert is_withdrawn(record)
        assert record.content == b"content"
        record.inventory.check()

    def test_resumable_uploads_stay_what_they_were(self, record, command, private, make_app):
        upload = begin(record.other("film"), 4)
        private_app = make_app(**private)
        late = record.other("late")
        late.app = private_app
        begin(late, 4)

        result = command(*WITHDRAW, **private)

        assert result.status == 0
        assert result.counts["uploads under way"] == 1
        assert "uploads" in {finding.get("problem") for finding in result.findings}

        upload.patch(0, b"film")
        assert not is_withdrawn(record.other("film"))
        assert command(*WITHDRAW, **private).counts["files moved"] == 1
        assert is_withdrawn(record.other("film"))


class TestFailures:
    def test_a_file_that_is_missing_is_told(self, record, command, private, stored):
        before = record.data
        stored.path_of(name_of(record)).unlink()

        result = command(*WITHDRAW, **private)

        assert result.status == 1
        [finding] = result.findings
        assert (finding["problem"], finding["record"]) == ("missing", record.uri)
        assert record.data == before

    @pytest.mark.parametrize("content", [b"changed", b"longer content"])
    def test_a_file_that_differs_is_told_and_stays(
        self, record, command, private, stored, content
    ):
        before = record.data
        stored.path_of(name_of(record)).write_bytes(content)

        result = command("withdraw", "b", "c", "--write", **private)

        assert result.status == 1
        assert f"{name_of(record)} stays: it has" in result.output
        assert record.data == before
        assert record.files() == [name_of(record)]

    def test_a_file_of_which_only_the_name_is_known(self, record, command, private, execute):
        execute(
            """
            UPDATE objects SET data = data || '{"hash": null, "size": null, "mimetype": null}'
             WHERE resource_name = %s
            """,
            FILES,
        )

        assert command(*WITHDRAW, **private).status == 0

        assert is_withdrawn(record)
        assert record.content == b"content"

    def test_a_record_whose_id_the_plugin_refuses_is_told(self, record, command, private):
        odd = record.other("b%0A")
        odd.create(attachment=record.data["attachment"])

        result = command(*WITHDRAW, **private)

        assert result.status == 1
        failures = [each["record"] for each in result.findings if "problem" in each]
        assert failures == ["/buckets/b/collections/c/records/b\n"]
        assert is_withdrawn(record)
        assert odd.content == b"content"

    def test_a_store_that_refuses_is_told_and_the_rest_moves(
        self, record, command, private, monkeypatch
    ):
        other = record.other()
        other.attach(b"other")
        first = min(name_of(record), name_of(other))
        read = Files._chunks

        def refuse(self, name, *arguments):
            if name == first:
                raise StorageUnavailable("the store is away")
            yield from read(self, name, *arguments)

        monkeypatch.setattr(Files, "_chunks", refuse)

        result = command("withdraw", "b", "c", "--write", **private)

        assert result.status == 1
        assert "stays: the store is away" in result.output
        assert sorted([is_withdrawn(record), is_withdrawn(other)]) == [False, True]
        record.inventory.check()

    def test_a_row_that_does_not_say_what_the_name_does(self, record, command, private, execute):
        before = record.data
        execute(
            """UPDATE objects SET data = data || '{"private": true}' WHERE resource_name = %s""",
            FILES,
        )

        result = command(*WITHDRAW, **private)

        assert result.status == 1
        assert [finding["problem"] for finding in result.findings] == ["privacy"]
        assert record.data == before

    def test_a_run_that_is_killed_is_continued(self, record, make_ini, command, private):
        others = [record.other(f"o{number}") for number in range(5)]
        for number, other in enumerate(others):
            other.attach(f"other {number}".encode())
        path = make_ini(
            private["attachment"],
            **{"kinto.includes": "kinto_attachment tests.plugins.killing_itself"},
        )

        done = run(["-m", "kinto_attachment.commands", "--ini", str(path), *WITHDRAW])

        assert done.returncode == -9
        everybody = [record, *others]
        assert sum(map(is_withdrawn, everybody)) == 2
        record.inventory.check_records()

        result = command(*WITHDRAW, **private)

        assert result.status == 0
        assert result.counts["files moved"] == 4
        assert all(map(is_withdrawn, everybody))
        record.inventory.check_records()

        grow_old(record)
        assert command("gc", "--delete", **private).status == 0
        assert sorted(record.files()) == sorted(map(name_of, everybody))
        record.inventory.check()


def test_more_records_than_fit_in_a_page(record, command, private, monkeypatch):
    monkeypatch.setattr(scan, "PAGE", 7)
    monkeypatch.setattr(edits, "BATCH", 3)
    attachment = record.data["attachment"]
    for number in range(20):
        record.other(f"copy{number}").create(attachment=attachment)
        record.other(f"own{number}").attach(f"own {number}".encode())

    result = command(*WITHDRAW, **private, **{"kinto.storage_max_fetch_size": "5"})

    assert result.status == 0
    assert result.counts["records written"] == 41
    assert result.counts["files moved"] == 21
    assert len(record.files()) == 21
    assert all(name.startswith("_private/") for name in record.files())
    record.inventory.check()
