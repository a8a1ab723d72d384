"""What becomes of files when others write records, collections and buckets."""

from __future__ import annotations

import json

import pytest
import transaction
from kinto.core.events import ResourceChanged
from kinto.core.resource import Resource

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.inspection import Metadata
from kinto_attachment.attachments.lookup import FILES, HOLDINGS
from kinto_attachment.attachments.references import References
from tests.support.probe import listening

pytestmark = pytest.mark.both_storages

COLLECTION = "/v1/buckets/b/collections/c"
OURS = "Attachment metadata cannot be modified."


@pytest.fixture
def attached(record):
    """A record with a file."""
    record.attach(b"content", data={"title": "first"})
    return record


def write(record, method, data, status=None, headers=None):
    body = {"data": data}
    return record.app.request(
        record.path,
        method=method,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=headers,
        status=status,
    )


def test_other_attributes_may_be_changed(attached):
    write(attached, "PATCH", {"title": "second"})

    assert attached.content == b"content"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_metadata_may_be_sent_back(attached, method):
    write(attached, method, attached.data)

    assert attached.content == b"content"


def test_metadata_may_be_sent_back_under_another_spelling_of_the_base_url(make_app, make_record):
    record = make_record(attachment={"base_url": None, "former_base_urls": "https://old.org/f/"})
    record.attach(b"content")
    attachment = record.data["attachment"]

    write(record, "PATCH", {"attachment": {**attachment, "location": _at_old(attachment)}})

    assert len(record.files()) == 1
    record.detach()
    assert record.files() == []


def _at_old(attachment):
    return f"https://old.org/f/{attachment['location']}"


@pytest.mark.sampled
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "change",
    [
        {"filename": "other.txt"},
        {"hash": "0" * 64},
        {"size": 8},
        {"size": 7.0},
        {"mimetype": "text/html"},
        {"location": "https://files.example.org/other.txt"},
        {"location": "https://elsewhere.example.org/x"},
        {"location": 5},
        {"location": None},
        {"extra": True},
    ],
)
def test_forged_metadata_is_refused(attached, method, change):
    forged = {**attached.data["attachment"], **change}

    response = write(attached, method, {"attachment": forged}, status=400)

    assert response.json["message"] == OURS
    assert attached.content == b"content"


@pytest.mark.parametrize("forged", [5, "text", [], {}, False])
def test_anything_else_in_its_place_is_refused(attached, forged):
    response = write(attached, "PATCH", {"attachment": forged}, status=400)

    assert response.json["message"] == OURS
    assert attached.content == b"content"


def test_a_refused_change_leaves_the_record_as_it_was(attached, backend):
    before = attached.data

    write(attached, "PATCH", {"title": "new", "attachment": {}}, status=400)

    if backend == "postgresql":
        assert attached.data == before
    else:
        assert attached.data["attachment"] == before["attachment"]


@pytest.mark.parametrize("behavior", ["light", "diff"])
def test_whatever_the_answer_of_a_patch_has(attached, behavior):
    headers = {"Response-Behavior": behavior}

    write(attached, "PATCH", {"attachment": None}, headers=headers)

    assert attached.files() == []


@pytest.mark.parametrize("gone", ["record", "collection", "bucket"])
def test_files_stay_where_old_ones_are_kept(make_record, gone):
    record = make_record(attachment={"resources.b.keep_old_files": "true"})
    record.attach()
    path = {"record": record.path, "collection": COLLECTION, "bucket": "/v1/buckets/b"}[gone]

    record.app.delete(path)

    assert len(record.files()) == 1
    assert record.inventory.kept() == record.files()


def test_a_copy_may_take_the_place_of_a_file(attached):
    copy = attached.other("copy")
    copy.attach(b"replaced")

    write(copy, "PATCH", {"attachment": attached.data["attachment"]})

    assert copy.content == b"content"
    assert len(copy.files()) == 1


def test_metadata_of_a_file_that_is_gone_is_a_conflict(attached, backend):
    metadata = attached.data["attachment"]
    attached.detach()
    copy = attached.other("copy")

    response = write(copy, "PUT", {"attachment": metadata}, status=409)

    assert response.json["errno"] == 122
    if backend == "postgresql":
        assert not copy.exists
    else:
        assert "attachment" not in copy.data


def test_metadata_of_a_kept_file_is_taken(make_record):
    record = make_record(attachment={"keep_old_files": "true"})
    record.attach(b"content")
    metadata = record.data["attachment"]
    record.detach()
    copy = record.other("copy")

    write(copy, "PUT", {"attachment": metadata})

    assert copy.content == b"content"


@pytest.mark.parametrize(
    "attachment", [{"location": "https://elsewhere.example.org/x"}, {"filename": "x"}, "text", 5]
)
def test_metadata_of_files_that_are_not_ours_is_plain_data(record, attachment):
    write(record, "PUT", {"attachment": attachment})
    write(record, "PATCH", {"attachment": "changed"})
    record.app.delete(record.path)


def test_a_file_takes_the_place_of_plain_data(record):
    write(record, "PUT", {"attachment": {"location": "https://elsewhere.example.org/x"}})

    record.attach(b"content")

    assert record.content == b"content"


def test_a_publishing_plugin_may_write_any_metadata(make_record):
    record = make_record(**{"kinto.includes": "tests.plugins.publishing_records kinto_attachment"})
    record.attach(b"content")

    write(record, "PATCH", {"attachment": {"location": "elsewhere"}}, headers={"Publish": "yes"})

    assert record.data["attachment"] == {"location": "elsewhere"}
    assert record.files() == []


def test_other_writes_of_the_record_do_not_touch_files_of_others(attached):
    other = attached.other()
    other.create(title="no file")

    write(other, "PATCH", {"title": "still none"})
    other.app.delete(other.path)

    assert attached.content == b"content"


def test_deleting_a_collection_with_plain_data_in_the_place_of_attachments(attached):
    write(attached.other(), "PUT", {"attachment": {"location": "https://elsewhere.org/x"}})

    attached.app.delete(COLLECTION)

    assert attached.files() == []


@pytest.mark.leaves("a file without a row")
def test_rows_that_somebody_has_removed(attached):
    storage = attached.app.registry.storage
    storage.delete_all(resource_name=FILES, parent_id="__attachments__/*", with_deleted=False)
    transaction.commit()

    attached.attach(b"second")

    assert attached.content == b"second"
    # Nobody can tell any more whose the first one was.
    assert len(attached.files()) == 2


@pytest.mark.leaves("a file without a row")
def test_a_copy_of_a_record_whose_row_somebody_has_removed_is_plain_data(attached):
    copy = attached.other("copy")
    metadata = attached.data["attachment"]
    storage = attached.app.registry.storage
    storage.delete_all(resource_name=FILES, parent_id="__attachments__/*", with_deleted=False)
    transaction.commit()

    write(copy, "PUT", {"attachment": metadata})
    copy.app.delete(copy.path)

    assert attached.content == b"content"


def test_a_true_in_the_place_of_a_one_is_forged(record):
    record.attach(b"1")

    write(record, "PATCH", {"attachment": {**record.data["attachment"], "size": True}}, status=400)


@pytest.mark.leaves("a file that gc finds")
@pytest.mark.parametrize("backend", ["memory"], indirect=True)
def test_no_record_shows_a_missing_file_where_nothing_rolls_back(attached, monkeypatch):
    """An error of Kinto's, or of another plugin, after the record has been written."""

    def fail(*args, **kwargs):
        raise RuntimeError("after the write")

    monkeypatch.setattr(Resource, "_add_timestamp_header", fail)
    attached.attach(b"second", status=500)
    attached.other().attach(b"new", status=500)
    monkeypatch.undo()

    assert attached.content == b"second"
    assert attached.other().content == b"new"


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
def test_a_refused_upload_leaves_no_row_where_nothing_rolls_back(attached):
    rows = attached.app.registry.storage.count_all(FILES, "__attachments__/*")

    attached.attach(b"second", data={"id": "other"}, status=400)
    attached.other().attach(b"second", data={"id": "r"}, status=400)

    assert attached.app.registry.storage.count_all(FILES, "__attachments__/*") == rows
    assert len(attached.files()) == 1


def test_a_holding_that_somebody_else_has_removed(attached, monkeypatch):
    storage = attached.app.registry.storage
    delete = storage.delete

    def twice(*args, **kwargs):
        if kwargs["resource_name"] == HOLDINGS:
            delete(*args, **kwargs)
        return delete(*args, **kwargs)

    monkeypatch.setattr(storage, "delete", twice)

    attached.detach()

    assert attached.files() == []


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_new_files_row_is_written_without_an_event_of_its_record(record):
    registry = record.app.registry
    files, holder = registry.attachment_files, Holder("b", "c", "r")

    def references():
        changes = FileChanges.current(files)
        return References(registry.storage, registry.attachment_settings, changes)

    with transaction.manager:
        references().add("a.bin", Metadata("a.bin", "0" * 64, "text/plain", 1), holder)
        assert references().file("a.bin")["holders"] == [holder.uri]
        references().keep_referenced()

    with transaction.manager:
        assert references().file("a.bin")["holders"] == [holder.uri]
        references().forget("a.bin")


def test_the_event_of_an_upload_has_the_collections_timestamp(record):
    registry = record.app.registry

    def timestamps(event):
        found = registry.storage.resource_timestamp("record", COLLECTION.removeprefix("/v1"))
        return event.payload["timestamp"], found

    with listening(record.app, ResourceChanged, timestamps) as heard:
        record.attach()
        record.attach()
        # A client may send a timestamp, also one of the past.
        other = record.other()
        other.attach(data={"last_modified": 123_456})

    assert len(heard) == 3
    assert all(sent == found for sent, found in heard)
    assert other.data["last_modified"] == 123_456
