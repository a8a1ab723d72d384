"""DELETE of an attachment."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.both_storages


def test_the_record_stays_with_null(record):
    record.attach(data={"title": "kept"})

    response = record.detach()

    assert response.status_code == 204
    assert response.body == b""
    assert record.data["attachment"] is None
    assert record.data["title"] == "kept"


def test_the_file_goes(record):
    record.attach()

    record.detach()

    assert record.files() == []


def test_the_file_stays_where_old_files_are_kept(make_record):
    record = make_record(attachment={"keep_old_files": "true"})
    record.attach()

    record.detach()

    assert len(record.files()) == 1
    assert record.inventory.kept() == record.files()


def test_the_headers_are_those_of_the_record(record):
    record.attach()

    assert record.detach().headers["ETag"] == record.etag


def test_a_record_without_attachment_is_left_alone(record):
    record.create(title="kept")
    before = record.data

    assert record.detach().status_code == 204

    assert record.data == before


def test_detaching_twice_is_detaching_once(record):
    record.attach()
    record.detach()
    before = record.data

    record.detach()

    assert record.data == before


def test_a_record_that_does_not_exist_is_not_created(record):
    response = record.detach(status=404)

    assert response.json["errno"] == 110
    assert not record.exists


def test_a_file_can_be_attached_again(record):
    record.attach(b"first")
    record.detach()

    assert record.attach(b"second").status_code == 200
    assert record.content == b"second"


def with_schema(record, schema, parent="/v1/buckets/b/collections/c", key="schema"):
    record.app.patch_json(parent, {"data": {key: schema}})


NO_NULL = {"type": "object", "properties": {"attachment": {"type": "object"}}}
REQUIRED = {**NO_NULL, "required": ["attachment"]}


@pytest.mark.parametrize(
    ("parent", "key"),
    [("/v1/buckets/b/collections/c", "schema"), ("/v1/buckets/b", "record:schema")],
)
def test_the_key_is_removed_where_the_schema_refuses_null(record, parent, key):
    with_schema(record, NO_NULL, parent, key)
    record.attach(data={"title": "kept"}, permissions={"read": ["system.Everyone"]})

    record.detach()

    assert "attachment" not in record.data
    assert record.data["title"] == "kept"
    permissions = record.app.get(record.path).json["permissions"]
    assert permissions["read"] == ["system.Everyone"]
    assert record.files() == []


def test_nothing_is_lost_where_the_schema_requires_an_attachment(record):
    with_schema(record, REQUIRED)
    record.attach(b"content")
    before = record.data

    response = record.detach(status=400)

    assert response.json["errno"] == 107
    assert "requires an attachment" in response.json["message"]
    assert record.data == before
    assert record.content == b"content"


def test_detaching_in_a_batch(record):
    record.attach()

    answer = record.app.post_json(
        "/v1/batch", {"requests": [{"method": "DELETE", "path": record.endpoint}]}
    )

    assert answer.json["responses"][0]["status"] == 204
    assert record.data["attachment"] is None
    assert record.files() == []


def test_a_form_in_a_batch_is_refused_and_the_rest_is_done(record):
    record.attach(b"content")
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    title = {"method": "PATCH", "path": record.path, "body": {"data": {"title": "new"}}}
    upload = {"method": "POST", "path": record.endpoint, "headers": headers}

    answer = record.app.post_json("/v1/batch", {"requests": [title, upload]})

    assert [item["status"] for item in answer.json["responses"]] == [200, 400]
    assert record.data["title"] == "new"
    assert record.content == b"content"
