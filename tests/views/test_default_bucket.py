"""Uploads and downloads through the ``default`` bucket."""

from __future__ import annotations

from io import BytesIO

import pytest

from kinto_attachment.tus import views as tus
from tests.support.forms import Unread, file_part, form
from tests.support.records import Record

URI = "/buckets/default/collections/assets/records/r"


@pytest.fixture
def make_record(make_app, stored, take_stock):
    """A record in the default bucket, where neither bucket nor collection exist."""
    return lambda **settings: Record(take_stock(make_app(**settings)), stored, URI)


def buckets(record):
    return record.app.get("/v1/buckets").json["data"]


def test_bucket_and_collection_are_created(record):
    response = record.attach(b"content", data={"title": "first"})

    assert response.status_code == 201
    assert record.content == b"content"
    assert record.data["title"] == "first"
    assert len(buckets(record)) == 1


def test_the_file_is_replaced(record):
    record.attach(b"first")

    assert record.attach(b"second").status_code == 200
    assert record.content == b"second"
    assert len(record.files()) == 1


def test_the_file_is_detached(record):
    record.attach(b"first")

    record.detach()

    assert record.data["attachment"] is None
    assert record.files() == []


def test_the_location_header_is_the_record_of_the_real_bucket(record):
    location = record.attach().headers["Location"]

    assert location.startswith("http://localhost/v1/buckets/")
    assert record.app.get(location).json["data"] == record.data


def test_the_address_is_that_of_the_client(record):
    response = record.app.post(
        record.endpoint,
        upload_files=[("attachment", "a.txt", b"content")],
        extra_environ={"wsgi.url_scheme": "https", "HTTP_HOST": "kinto.example.org"},
    )

    assert response.headers["Location"].startswith("https://kinto.example.org/v1/buckets/")


def test_a_body_whose_length_is_not_announced(record):
    body = BytesIO(form([file_part(b"content")]))

    record.stream(body, 201, **{"wsgi.input_terminated": True})

    assert record.content == b"content"


def test_what_the_client_did_not_send_is_not_made_up(make_record, monkeypatch):
    record = make_record()
    seen = {}

    def look(request):
        seen.update(request.environ)
        return request.response

    monkeypatch.setattr(tus, "is_tus_request", lambda request: True)
    monkeypatch.setattr(tus, "create", look)
    record.stream(BytesIO(), 200, CONTENT_TYPE="text/x", SERVER_PROTOCOL="HTTP/1.1")

    assert "CONTENT_LENGTH" not in seen
    assert seen["CONTENT_TYPE"] == "text/x"
    assert seen["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_bucket_and_folder_are_those_of_the_user(make_record):
    record = make_record(attachment={"folder": "{bucket_id}/{collection_id}"})

    record.attach()

    bucket_id = record.app.get("/v1/").json["user"]["bucket"]
    assert record.files()[0].startswith(f"{bucket_id}/assets/")


def test_users_do_not_share_it(record):
    record.attach(b"of alice")

    assert record.as_user("bob").attach(b"of bob").status_code == 201
    assert record.content == b"of alice"
    assert record.as_user("bob").content == b"of bob"


def test_anonymous_users_have_none(record):
    response = record.as_user(None).attach(status=401)

    assert response.json["errno"] == 104
    assert record.files() == []


def test_anonymous_users_are_refused_before_the_body(record):
    record.as_user(None).stream(Unread(), 401, CONTENT_LENGTH="1000")


@pytest.mark.parametrize("status", [400, 412, 413])
def test_a_refused_upload_creates_nothing(make_record, status):
    record = make_record(attachment={"max_size_bytes": "10"})

    if status == 400:
        record.send(status=400)
    elif status == 412:
        record.attach(headers={"If-Match": '"1"'}, status=412)
    else:
        record.attach(b"x" * 11, status=413)

    assert buckets(record) == []
    assert record.files() == []


def test_the_answer_to_a_refused_upload_has_cors(record):
    response = record.send(status=400, headers={"Origin": "https://elsewhere.example.org"})

    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.json["message"] == "Attachment missing."


def test_a_malformed_collection_id(record):
    record.endpoint = "/v1/buckets/default/collections/a@b/records/r/attachment"

    assert record.attach(status=404).json["errno"] == 111
    assert buckets(record) == []


def test_a_malformed_record_id(record):
    record.endpoint = "/v1/buckets/default/collections/assets/records/a@b/attachment"

    assert record.attach(status=400).json["errno"] == 107
    assert buckets(record) == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.both_storages
def test_the_file_is_read(record, method):
    record.attach(b"0123456789", "a.txt")

    answer = record.app.request(
        f"{record.endpoint}?download", method=method, headers={"Range": "bytes=2-4"}
    )

    assert answer.status_code == (206 if method == "GET" else 200)
    assert answer.body == (b"234" if method == "GET" else b"")
    assert answer.headers["Content-Length"] == ("3" if method == "GET" else "10")
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="a.txt"')
    assert answer.headers["Cache-Control"] == "private, no-cache"


def test_a_file_that_the_client_has_is_not_read(record):
    digest = record.attach(b"0123456789").json["hash"]

    record.app.get(record.endpoint, headers={"If-None-Match": f'"{digest}"'}, status=304)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_download_creates_nothing(record, method):
    record.app.request(record.endpoint, method=method, status=403)

    assert buckets(record) == []

    record.other("s", "others").attach()
    record.app.request(record.endpoint, method=method, status=404)

    collections = record.app.get("/v1/buckets/default/collections").json["data"]
    assert [collection["id"] for collection in collections] == ["others"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_anonymous_users_read_nothing(record, method):
    record.attach()

    record.as_user(None).app.request(record.endpoint, method=method, status=401)


def test_nobody_reads_the_file_of_another_user(record):
    record.attach(b"of alice")

    record.app.as_user("bob").get(record.endpoint, status=403)


@pytest.mark.parametrize("backend", ["postgresql"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_only_server_lets_files_be_read(make_app, record, method):
    record.attach(b"0123456789")
    reader = make_app(**{"kinto.readonly": "true"})

    answer = reader.request(record.endpoint, method=method)

    assert answer.headers["Content-Length"] == "10"


def test_refusals_have_cors(record):
    record.attach(b"0123456789")
    headers = {"Origin": "https://elsewhere.example.org", "Range": "bytes=10-"}

    answer = record.app.get(record.endpoint, headers=headers, status=416)

    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Content-Range"] == "bytes */10"


def test_a_download_in_a_batch_is_refused_and_creates_nothing(record):
    download = {"method": "GET", "path": record.endpoint}
    root = {"method": "GET", "path": "/"}

    def statuses():
        answer = record.app.post_json("/v1/batch", {"requests": [download, root]})
        return [response["status"] for response in answer.json["responses"]]

    assert statuses() == [403, 200]
    assert buckets(record) == []
    record.attach()
    assert statuses() == [400, 200]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_other_methods_are_not_allowed(record, method):
    record.attach()

    assert record.app.request(record.endpoint, method=method, status=405)


def test_a_read_only_server_takes_no_files(make_record):
    record = make_record(**{"kinto.readonly": "true"})

    record.attach(status=405)


def test_a_form_in_a_batch_is_refused(record):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    upload = {"method": "POST", "path": record.endpoint, "headers": headers}

    answer = record.app.post_json("/v1/batch", {"requests": [upload]})

    assert answer.json["responses"][0]["status"] == 400


def test_without_the_plugin_there_is_no_such_bucket(make_record):
    record = make_record(**{"kinto.includes": "kinto_attachment"})

    record.attach(status=404)


def test_the_order_of_the_plugins_does_not_matter(make_record):
    plugins = "kinto_attachment kinto.plugins.default_bucket"
    record = make_record(**{"kinto.includes": plugins})

    record.attach(b"content")

    assert record.content == b"content"
