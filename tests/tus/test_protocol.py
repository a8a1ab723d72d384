"""What tus 1.0.0 asks of a server: statuses and headers."""

from __future__ import annotations

import email.utils
import hashlib
import re
import time

import pytest

from tests.support.records import Record
from tests.support.tus import OFFSET_TYPE, Upload, begin, checksum, creation, metadata, send

CONTENT = b"0123456789"


@pytest.fixture
def backend():
    """What is asked and answered does not depend on where the objects are."""
    return "memory"


@pytest.fixture
def upload(record):
    return begin(record)


def test_an_upload_in_one_request(record, upload):
    response = upload.patch(0, CONTENT)

    assert response.headers["Upload-Offset"] == "10"
    assert response.body == b""
    assert record.content == CONTENT
    assert record.data["attachment"] == {
        "filename": "file.txt",
        "hash": hashlib.sha256(CONTENT).hexdigest(),
        "location": f"https://files.example.org/{record.files()[0]}",
        "mimetype": "text/plain",
        "size": 10,
    }


def test_an_upload_in_chunks(record, upload):
    for offset in range(10):
        assert upload.offset == offset
        response = upload.patch(offset, CONTENT[offset : offset + 1])
        assert response.headers["Upload-Offset"] == str(offset + 1)

    assert upload.offset == 10
    assert record.content == CONTENT
    assert len(record.files()) == 1


def test_nothing_is_attached_before_the_last_byte(record, upload):
    record.create(title="first")

    upload.patch(0, CONTENT[:9])

    assert record.data["title"] == "first"
    assert "attachment" not in record.data


def test_the_answer_that_creates(record):
    response = creation(record, Upload_Length="10", Upload_Metadata=metadata(filename="a.txt"))

    assert response.body == b""
    assert re.fullmatch(
        rf"http://localhost{record.endpoint}/uploads/[0-9a-f-]{{36}}",
        response.headers["Location"],
    )
    assert response.headers["Upload-Offset"] == "0"
    expires = email.utils.parsedate_to_datetime(response.headers["Upload-Expires"]).timestamp()
    assert 86_000 < expires - time.time() < 86_500
    assert not record.exists


def test_the_answer_that_ends_names_the_record(record, upload):
    response = upload.patch(0, CONTENT)

    assert response.headers["Location"] == f"http://localhost{record.path}"
    assert response.headers["Content-Location"] == f"http://localhost{record.path}"
    assert response.headers["ETag"] == record.etag
    assert "Last-Modified" in response.headers


def test_how_far_it_is(record):
    sent = metadata(filename="a.txt", relativePath="x/a.txt")
    upload = begin(record, Upload_Metadata=sent)
    upload.patch(0, b"012")

    response = upload.head()

    assert response.headers["Upload-Offset"] == "3"
    assert response.headers["Upload-Length"] == "10"
    assert response.headers["Upload-Metadata"] == sent
    assert response.headers["Cache-Control"] == "no-store"
    assert "Upload-Expires" in response.headers
    assert "Upload-Defer-Length" not in response.headers
    assert response.body == b""


def test_how_far_it_is_once_it_is_done(record, upload):
    upload.patch(0, CONTENT)

    response = upload.head()

    assert response.headers["Upload-Offset"] == response.headers["Upload-Length"] == "10"
    assert response.headers["Content-Location"] == f"http://localhost{record.path}"


@pytest.mark.parametrize("sent", ["", None])
def test_an_upload_without_metadata(record, sent):
    upload = begin(record, Upload_Metadata=sent)
    upload.patch(0, CONTENT)

    assert "Upload-Metadata" not in upload.head().headers
    assert record.data["attachment"]["filename"] == "r"
    assert record.data["attachment"]["mimetype"] == "application/octet-stream"


def test_what_comes_with_the_file(record):
    sent = metadata(
        filename="C:\\fakepath\\a\n.bin",
        filetype="image/png",
        data={"title": "with it", "attachment": {"forged": True}},
        permissions={"read": ["system.Everyone"]},
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        name="for Uppy",
    )
    begin(record, Upload_Metadata=sent).patch(0, CONTENT)

    answer = record.app.get(record.path).json
    assert answer["data"]["title"] == "with it"
    assert answer["data"]["attachment"]["filename"] == "a.bin"
    assert answer["data"]["attachment"]["mimetype"] == "image/png"
    assert answer["permissions"]["read"] == ["system.Everyone"]


def test_no_bytes_at_all(record):
    response = creation(record, Upload_Length="0", Upload_Metadata=metadata(filename="a.txt"))

    assert response.headers["Upload-Offset"] == "0"
    assert response.headers["Content-Location"] == f"http://localhost{record.path}"
    assert record.content == b""
    assert Upload(record, response.headers["Location"]).head().headers["Upload-Length"] == "0"


def test_the_first_bytes_with_the_creation(record):
    response = creation(record, b"01234", content_type=OFFSET_TYPE, Upload_Length="10")

    assert response.headers["Upload-Offset"] == "5"
    upload = Upload(record, response.headers["Location"])
    assert upload.offset == 5
    upload.patch(5, b"56789")
    assert record.content == CONTENT


def test_all_bytes_with_the_creation(record):
    response = creation(record, CONTENT, content_type=OFFSET_TYPE, Upload_Length="10")

    assert response.headers["Upload-Offset"] == "10"
    assert response.headers["Content-Location"] == f"http://localhost{record.path}"
    assert response.headers["ETag"] == record.etag
    assert "/uploads/" in response.headers["Location"]
    assert record.content == CONTENT


def test_bytes_with_the_creation_that_are_too_many(record):
    creation(record, CONTENT, 413, OFFSET_TYPE, Upload_Length="9")

    assert record.files() == []
    assert not record.exists


def test_a_wrong_checksum_with_the_creation(record):
    creation(
        record,
        CONTENT,
        460,
        OFFSET_TYPE,
        Upload_Length="10",
        Upload_Checksum=checksum(b"other"),
    )

    assert record.files() == []


@pytest.mark.parametrize("encoding", ["gzip", "br", "x"])
def test_bytes_that_are_compressed_are_not_taken_for_the_file(record, encoding):
    upload = begin(record)

    answer = upload.patch(0, CONTENT, 415, Content_Encoding=encoding)

    assert answer.headers["Accept-Encoding"] == "identity"
    assert "Content-Encoding" in answer.json["message"]
    assert upload.offset == 0
    announced = {"Upload_Length": "10", "Content_Encoding": encoding}
    creation(record, CONTENT, 415, OFFSET_TYPE, **announced)
    upload.patch(0, CONTENT, Content_Encoding="identity")
    assert record.content == CONTENT


def test_a_length_that_is_told_later(record):
    upload = begin(record, None)
    assert upload.head().headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in upload.head().headers
    upload.patch(0, b"01234")
    assert upload.offset == 5

    upload.patch(5, b"567", Upload_Length="10")

    assert "Upload-Defer-Length" not in upload.head().headers
    assert upload.head().headers["Upload-Length"] == "10"
    upload.patch(8, b"89")
    assert record.content == CONTENT


@pytest.mark.parametrize("content", [b"", CONTENT])
def test_a_length_that_is_told_in_the_end(record, content):
    upload = begin(record, None)
    if content:
        upload.patch(0, content)

    response = upload.patch(len(content), b"", Upload_Length=str(len(content)))

    assert response.headers["Upload-Offset"] == str(len(content))
    assert record.content == content
    assert upload.head().headers["Upload-Length"] == str(len(content))


@pytest.mark.parametrize("length", ["11", "9", "4", "x", ""])
def test_a_length_that_is_another_one_later(record, length):
    upload = begin(record)
    upload.patch(0, b"01234")

    upload.patch(5, b"5", 400, Upload_Length=length)

    assert upload.offset == 5


def test_a_length_less_than_what_is_there(record):
    upload = begin(record, None)
    upload.patch(0, b"01234")

    upload.patch(5, b"", 400, Upload_Length="4")

    assert upload.offset == 5


def test_the_same_length_again(record, upload):
    upload.patch(0, CONTENT, Upload_Length="10")

    assert record.content == CONTENT


def test_a_chunk_that_is_sent_twice(record, upload):
    upload.patch(0, b"01234")

    response = upload.patch(0, b"01234", 409)

    assert response.headers["Upload-Offset"] == "5"
    assert response.json["errno"] == 122
    upload.patch(5, b"56789")
    assert record.content == CONTENT


@pytest.mark.parametrize("offset", [5, 10, 11, 10**17])
def test_an_offset_further_on(upload, offset):
    response = upload.patch(offset, b"5", 409)

    assert response.headers["Upload-Offset"] == "0"


def test_chunks_after_the_end(record, upload):
    upload.patch(0, CONTENT)

    response = upload.patch(10, b"x", 409)
    assert response.headers["Upload-Offset"] == "10"
    upload.patch(10, b"", 409)
    assert record.content == CONTENT


@pytest.mark.parametrize("offset", [None, "", "-1", "x", "1.0"])
def test_an_offset_that_is_none(upload, offset):
    upload.patch(0, CONTENT, 400, Upload_Offset=offset)

    assert upload.offset == 0


def test_a_body_longer_than_the_rest(record, upload):
    upload.patch(0, b"01234")

    upload.patch(5, b"567890", 413)

    assert upload.offset == 5
    upload.patch(5, b"56789")
    assert record.content == CONTENT


def test_an_empty_chunk(upload):
    assert upload.patch(0).headers["Upload-Offset"] == "0"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_checksum_of_each_chunk(record, upload, algorithm):
    upload.patch(0, b"01234", Upload_Checksum=checksum(b"01234", algorithm))
    upload.patch(5, b"56789", Upload_Checksum=checksum(b"56789", algorithm))

    assert record.content == CONTENT


@pytest.mark.parametrize("offset", [0, 5])
def test_a_wrong_checksum_leaves_the_offset(record, upload, offset):
    upload.patch(0, CONTENT[:offset])

    response = upload.patch(offset, CONTENT[offset:], 460, Upload_Checksum=checksum(b"other"))

    assert response.json["code"] == 460
    assert response.json["error"] == "Checksum Mismatch"
    assert upload.offset == offset
    assert not record.exists
    upload.patch(offset, CONTENT[offset:])
    assert record.content == CONTENT


@pytest.mark.parametrize("value", ["md5 YQ==", "sha1", "sha1 YQ=="])
def test_a_checksum_that_cannot_be_checked(upload, value):
    upload.patch(0, CONTENT, 400, Upload_Checksum=value)

    assert upload.offset == 0


def test_a_wrong_digest_of_the_whole_file(record):
    record.attach(b"first")
    before = record.data
    sent = metadata(filename="a.txt", sha256=hashlib.sha256(b"other").hexdigest())
    upload = begin(record, Upload_Metadata=sent)

    upload.patch(0, CONTENT, 460)

    assert record.data == before
    assert len(record.files()) == 1
    upload.head(404)


def test_a_wrong_digest_with_the_creation(record):
    sent = metadata(filename="a.txt", sha256="0" * 64)

    creation(record, CONTENT, 460, OFFSET_TYPE, Upload_Length="10", Upload_Metadata=sent)

    assert record.files() == []
    assert not record.exists


def test_an_upload_is_ended(record, upload):
    upload.patch(0, b"01234")

    response = upload.delete()

    assert response.body == b""
    assert "Content-Type" not in response.headers
    assert record.files() == []
    upload.head(404)
    upload.patch(5, b"5", 404)
    upload.delete(404)


def test_ending_an_upload_that_is_done_keeps_the_file(record, upload):
    upload.patch(0, CONTENT)

    upload.delete()

    upload.head(404)
    assert record.content == CONTENT


@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0.1", "2.0.0"])
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE", "POST"])
def test_another_version(upload, method, version):
    response = upload.send(
        method, status=412, content_type=OFFSET_TYPE, Tus_Resumable=version, Upload_Offset="0"
    )

    assert response.headers["Tus-Version"] == "1.0.0"
    assert response.headers["Tus-Resumable"] == "1.0.0"
    assert upload.offset == 0


def test_another_version_at_the_creation(record):
    response = creation(record, status=412, Tus_Resumable="0.2.2", Upload_Length="1")

    assert response.headers["Tus-Version"] == "1.0.0"
    assert response.json["errno"] == 116


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_other_methods(upload, method):
    response = upload.send(method, status=405)

    assert response.headers["Tus-Resumable"] == "1.0.0"


def test_a_post_to_an_upload(upload):
    upload.send("POST", status=405)
    upload.send("POST", status=405, X_HTTP_Method_Override="PUT")


def test_methods_in_a_post(record, upload):
    sent = {"X_HTTP_Method_Override": "PATCH", "Upload_Offset": "0"}
    upload.send("POST", b"01234", 204, OFFSET_TYPE, **sent)
    response = upload.send("POST", status=200, X_HTTP_Method_Override="HEAD")
    assert response.headers["Upload-Offset"] == "5"

    upload.send("POST", status=204, X_HTTP_Method_Override="DELETE")

    upload.head(404)


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_read_only_server_only_tells_how_far_it_is(record, upload, make_app):
    app = make_app(**{"kinto.readonly": "true"})
    reader = Upload(Record(app, record.stored, record.uri), upload.url)

    reader.head()
    reader.send("POST", status=405, X_HTTP_Method_Override="HEAD")
    reader.send("HEAD", status=405, X_HTTP_Method_Override="DELETE")

    upload.head()


def test_a_method_in_the_post_that_creates(record):
    creation(record, Upload_Length="1", X_HTTP_Method_Override="POST")
    creation(record, status=405, Upload_Length="1", X_HTTP_Method_Override="DELETE")


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "text/plain", ""])
def test_another_content_type(record, upload, content_type):
    response = upload.send("PATCH", CONTENT, 415, content_type, Upload_Offset="0")
    assert response.json["message"] == f"Content-Type should be {OFFSET_TYPE}"
    creation(record, CONTENT, 415, content_type, Upload_Length="10")

    assert upload.offset == 0
    assert len(record.files()) == 1


def test_a_form_is_not_a_part_of_a_file(record):
    record.attach(headers={"Tus-Resumable": "1.0.0", "Upload-Length": "10"}, status=415)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload_Length": "10", "Upload_Defer_Length": "1"},
        {"Upload_Defer_Length": "2"},
        {"Upload_Length": "-1"},
        {"Upload_Length": "10", "Upload_Metadata": "filename"},
        {"Upload_Length": "10", "Upload_Metadata": "filename *"},
        {"Upload_Length": "10", "Upload_Metadata": "a YQ==,a YQ=="},
        {"Upload_Length": "10", "Upload_Metadata": metadata(filename=b"\xff")},
        {"Upload_Length": "10", "Upload_Metadata": metadata(filetype=b"\xff")},
        {"Upload_Length": "10", "Upload_Metadata": metadata(filename="../..")},
        {"Upload_Length": "10", "Upload_Metadata": metadata(data="{")},
        {"Upload_Length": "10", "Upload_Metadata": metadata(data="[]")},
        {"Upload_Length": "10", "Upload_Metadata": metadata(data='{"a": "\\u0000"}')},
        {"Upload_Length": "10", "Upload_Metadata": metadata(data='{"a": "\\ud800"}')},
        {"Upload_Length": "10", "Upload_Metadata": metadata(data={"id": "other"})},
        {"Upload_Length": "10", "Upload_Metadata": metadata(permissions={"read": 5})},
        {"Upload_Length": "10", "Upload_Metadata": metadata(permissions={"read": "abc"})},
        {"Upload_Length": "10", "Upload_Metadata": metadata(sha256="abc")},
        {"Upload_Length": "10", "If_Match": "x"},
        {"Upload_Length": "10", "Upload_Concat": "partial"},
    ],
)
def test_a_creation_that_is_refused(record, headers):
    response = creation(record, status=400, **headers)

    assert response.headers["Tus-Resumable"] == "1.0.0"
    assert response.json["code"] == 400
    assert record.files() == []
    assert not record.exists


@pytest.mark.parametrize("upload_id", ["x", "00000000-0000-4000-8000-000000000000", "%00", "*"])
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_an_upload_that_does_not_exist(record, method, upload_id):
    upload = Upload(record, f"http://localhost{record.endpoint}/uploads/{upload_id}")

    response = upload.send(method, status=404, content_type=OFFSET_TYPE, Upload_Offset="0")

    assert response.headers["Tus-Resumable"] == "1.0.0"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Upload-Offset" not in response.headers


def test_the_upload_of_another_record(record, upload):
    url = upload.url.replace("/records/r/", "/records/other/")

    Upload(record, url).head(404)


def test_a_record_id_that_cannot_be(record):
    path = record.endpoint.replace("/records/r/", "/records/_%00/")

    send(record, "POST", path, status=400, Upload_Length="10")
    send(record, "HEAD", f"{path}/uploads/x", status=400)


def test_it_is_not_part_of_a_batch(record, upload):
    requests = [
        {"method": "POST", "path": record.endpoint, "headers": {"Upload-Length": "10"}},
        {"method": "HEAD", "path": upload.path},
        {"method": "DELETE", "path": upload.path},
        {"method": "POST", "path": record.endpoint.replace("/b/", "/default/")},
    ]
    defaults = {"headers": {"Tus-Resumable": "1.0.0"}}
    body = {"defaults": defaults, "requests": requests}

    responses = record.app.post_json("/v1/batch", body).json["responses"]

    assert [answer["status"] for answer in responses] == [400] * 4
    assert responses[0]["body"]["message"] == "Resumable uploads cannot be part of a batch."
    assert upload.offset == 0


@pytest.mark.parametrize("path", ["attachment", "attachment/uploads/x"])
@pytest.mark.parametrize("bucket", ["b", "default", "none"])
def test_what_the_server_can(make_app, files, path, bucket):
    app = make_app(attachment={"max_size_bytes": "100"})
    record = Record(app.as_user(None), files, f"/buckets/{bucket}/collections/c/records/r")

    response = send(record, "OPTIONS", f"{record.path}/{path}", status=204, Tus_Resumable=None)

    assert response.headers["Tus-Resumable"] == "1.0.0"
    assert response.headers["Tus-Version"] == "1.0.0"
    assert response.headers["Tus-Max-Size"] == "100"
    assert response.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
    assert set(response.headers["Tus-Extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "termination",
        "expiration",
        "checksum",
    }
    assert "Content-Type" not in response.headers


def test_there_is_no_largest_size_without_a_limit(record):
    response = send(record, "OPTIONS", record.endpoint, status=204)

    assert "Tus-Max-Size" not in response.headers


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("attachment", "POST"),
        ("attachment", "DELETE"),
        ("attachment/uploads/x", "HEAD"),
        ("attachment/uploads/x", "PATCH"),
        ("attachment/uploads/x", "DELETE"),
        ("attachment/uploads/x", "POST"),
    ],
)
@pytest.mark.parametrize("bucket", ["b", "default"])
def test_the_preflight_of_a_browser(app, files, bucket, path, method):
    record = Record(app.as_user(None), files, f"/buckets/{bucket}/collections/c/records/r")
    wanted = "authorization,if-match,tus-resumable,upload-length,upload-metadata,upload-offset"

    response = send(
        record,
        "OPTIONS",
        f"{record.path}/{path}",
        status=200,
        Tus_Resumable=None,
        Origin="https://app.example.org",
        Access_Control_Request_Method=method,
        Access_Control_Request_Headers=wanted,
    )

    assert method in response.headers["Access-Control-Allow-Methods"].split(",")
    allowed = response.headers["Access-Control-Allow-Headers"].lower().split(",")
    assert set(wanted.split(",")) <= set(allowed)
    assert "Access-Control-Allow-Origin" in response.headers
    assert response.headers["Tus-Version"] == "1.0.0"


def test_what_a_script_of_another_origin_may_read(record):
    origin = {"Origin": "https://app.example.org"}
    created = creation(record, Upload_Length="10", **origin)
    upload = Upload(record, created.headers["Location"])

    answers = [
        created,
        upload.head(**origin),
        upload.patch(5, b"x", 409, **origin),
        upload.patch(0, CONTENT, **origin),
        upload.delete(**origin),
        upload.head(404, **origin),
    ]

    for answer in answers:
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Location", "Upload-Offset", "Upload-Length", "Tus-Resumable"} <= set(exposed)
        assert {"Content-Location", "ETag", "Upload-Expires", "Retry-After"} <= set(exposed)
        assert answer.headers["Access-Control-Allow-Origin"] in ("*", origin["Origin"])


def test_a_plain_upload_is_no_tus(record):
    assert "Tus-Resumable" not in record.attach().headers
    assert "Tus-Resumable" not in record.detach().headers
