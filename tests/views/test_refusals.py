"""What is refused, with which words, and that nothing is lost by it."""

from __future__ import annotations

import itertools
import time
from io import BytesIO

import pytest

from kinto_attachment.http.multipart import MAX_FIELD_BYTES
from tests.support.forms import BOUNDARY, CONTENT_TYPE, Unread, field_part, file_part, form

FILE = file_part(b"refused")


@pytest.fixture
def target(make_record, backend):
    """A record that does not exist (in memory), or one that has a file (in PostgreSQL); refusals
    leave both as they were."""
    record = make_record(attachment={"extensions": "text+png", "max_size_bytes": "1000"})
    is_new = backend == "memory"
    if not is_new:
        record.attach(b"previous", data={"title": "previous"})
        before = record.app.get(record.path)
    yield record
    if not is_new:
        assert record.app.get(record.path).json == before.json
        assert record.content == b"previous"
        assert len(record.files()) == 1
    else:
        assert not record.exists
        assert record.files() == []


def refused(response, errno, message):
    """The answer has Kinto's error body, with this sentence."""
    body = response.json
    assert body["code"] == response.status_code
    assert body["errno"] == errno
    assert message in body["message"]


@pytest.mark.sampled
@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "multipart/mixed; boundary=x",
        "application/x-www-form-urlencoded",
        "",
        "nonsense",
    ],
)
def test_a_body_that_is_not_a_form(target, content_type):
    response = target.post(form([FILE]), content_type, status=400)

    refused(response, 107, "Content-Type should be multipart/form-data")


@pytest.mark.sampled
@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data;"],
)
def test_a_form_without_a_boundary(target, content_type):
    refused(target.post(form([FILE]), content_type, status=400), 107, "boundary")


@pytest.mark.sampled
@pytest.mark.parametrize(
    "boundary", ["another", "x" * 2000, '"un balanced', "ünï", '"a\\"b"', '"line\nbreak"']
)
def test_a_boundary_that_is_not_in_the_body(target, boundary):
    content_type = f"multipart/form-data; boundary={boundary}".encode().decode("latin-1")

    refused(target.post(form([FILE]), content_type, status=400), 107, "")


@pytest.mark.sampled
@pytest.mark.parametrize(
    "cut", [0, 1, 10, len(BOUNDARY) + 3, len(BOUNDARY) + 40, -2, -3, -4, -5, -20]
)
def test_a_body_that_ends_early(target, cut):
    whole = form([file_part(b"x" * 500)])
    body = whole[:cut] if cut >= 0 or cut < -3 else whole[: cut - 2]

    refused(target.post(body, CONTENT_TYPE, status=400), 107, "body: ")


def test_a_body_that_is_longer_than_announced_is_cut_there(target):
    body = form([FILE])

    response = target.stream(BytesIO(body), 400, CONTENT_LENGTH=str(len(body) - 20))

    refused(response, 107, "body: ")


@pytest.mark.sampled
@pytest.mark.parametrize("length", ["abc", "-1", "1e3", "١", "9" * 5000])
def test_a_length_that_is_not_a_number(target, length):
    response = target.stream(BytesIO(form([FILE])), 400, CONTENT_LENGTH=length)

    refused(response, 107, "Content-Length")


@pytest.mark.sampled
@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"--" + BOUNDARY.encode() + b"nonsense\r\n",
        b"--" + BOUNDARY.encode() + b"--\r\n",
        form([b"no header"]),
        form([b"Content-Type: text/plain\r\n\r\nno disposition"]),
        form([b'Content-Disposition: attachment; filename="a.txt"\r\n\r\nnot form-data']),
        form([b'Content-Disposition: form-data; filename="a.txt"\r\n\r\nno name']),
        form([b"X: y\r\n" * 50 + FILE]),
        form([b"X: " + b"y" * 20000 + b"\r\n" + FILE]),
        form([b"\xff\xfe: y\r\n" + FILE]),
        form([FILE]).replace(b"\r\n", b"\n"),
    ],
)
def test_a_body_that_is_no_form_at_all(target, body):
    response = target.post(body, CONTENT_TYPE, status=400)

    assert response.json["errno"] in (107, 109)
    assert response.json["message"]


def test_no_attachment(target):
    for parts in ([], [field_part("data", '{"title": "x"}')]):
        refused(target.send(*parts, status=400), 109, "Attachment missing.")


def test_two_attachments(target):
    response = target.send(FILE, file_part(b"second"), status=400)

    refused(response, 109, "Only one attachment is accepted.")


@pytest.mark.sampled
@pytest.mark.parametrize(
    "filename", [None, "", ".", "..", "folder/", "\\", "\x00\x01", "  ", "a/.."]
)
def test_an_attachment_without_a_filename(target, filename):
    response = target.send(file_part(b"x", filename), status=400)

    refused(response, 107, "body: Filename is required.")


@pytest.mark.sampled
@pytest.mark.parametrize(
    "disposition",
    [
        b'; filename="\xff\xfe.txt"',
        b"; filename*=utf-8''%FF%FE.txt",
        b"; filename*=utf-16''a.txt",
        b"; filename*=nonsense",
    ],
)
def test_a_filename_that_cannot_be_decoded(target, disposition):
    response = target.send(file_part(b"x", disposition=disposition), status=400)

    refused(response, 107, "body: ")


@pytest.mark.sampled
@pytest.mark.parametrize("field", ["data", "permissions"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON ("),
        ("nonsense", "is not valid JSON ("),
        ('{"a": 1', "is not valid JSON ("),
        ('{"a": NaN}', "is not valid JSON ("),
        (b'{"a": "\xff"}', "is not valid JSON ("),
        ("[" * 50_000, "is not valid JSON ("),
        ("[]", "is not a JSON object"),
        ('"text"', "is not a JSON object"),
        ("5", "is not a JSON object"),
        ("null", "is not a JSON object"),
        ('{"a": "\\u0000"}', "NUL"),
        ('{"\\u0000": 1}', "NUL"),
        ('{"a": [{"b": "\\u0000"}]}', "NUL"),
        (
            '{"a": ' + "[" * 300 + "]" * 300 + "}",
            "is not valid JSON (nested more than 200 levels deep)",
        ),
        ('{"a": ' + "[" * 300 + "}", "is not valid JSON ("),
        ('{"a": [' + "[]," * 20_000 + "1]}", "has more than 20000 values"),
        ('{"a": [' + "1," * 20_000 + "1]}", "has more than 20000 values"),
        ("{" + "]" * 50_000, "is not valid JSON ("),
        ('{"a": "' + '\\"' * 20_000, "is not valid JSON ("),
    ],
    # The texts are too long for names.
    ids=itertools.count(),
)
@pytest.mark.parametrize("position", ["before", "after"])
def test_a_field_that_is_not_a_json_object(target, field, text, message, position):
    parts = [field_part(field, text), FILE]
    response = target.send(*(parts if position == "before" else parts[::-1]), status=400)

    refused(response, 109, f"body: {field} ")
    refused(response, 109, message)


def test_what_looks_like_many_values_in_a_text_does_not_count(record):
    texts = ["[{," * 50_000, '\\"[' * 1000, "\\", '"' * 3]

    record.attach(data={"texts": texts})

    assert record.data["texts"] == texts


def test_a_document_may_have_many_values(record):
    numbers = [[0, 1]] * 6000

    record.attach(data={"numbers": numbers})

    assert record.data["numbers"] == numbers


@pytest.mark.sampled
@pytest.mark.parametrize("field", ["data", "permissions"])
@pytest.mark.parametrize(
    "text",
    [
        '{"a": [' + ",".join(["[]"] * 340_000) + "]}",
        '{"a": [' + ",".join(["[" * 150 + "]" * 150] * 3400) + "]}",
        '{"a": [' + "1," * 510_000 + "1]}",
        '{"a": [' + '"",' * 340_000 + "1]}",
        '"' + '\\"' * 510_000,
        '"\\' * 500_000,
        "{" + '"":1,' * 200_000 + '"":1}',
        "[" * 1_000_000,
        "]" * 1_000_000,
    ],
    ids=itertools.count(),
)
def test_a_mebibyte_of_brackets_costs_little(record, field, text):
    assert 900_000 < len(text) <= MAX_FIELD_BYTES
    started = time.process_time()

    record.send(field_part(field, text), FILE, status=400)

    assert time.process_time() - started < 1
    assert record.files() == []


@pytest.mark.sampled
@pytest.mark.parametrize("value", [True, 253402300800000, -62135596800001, 10**17])
def test_a_last_modified_that_no_header_can_have(target, value):
    response = target.attach(data={"last_modified": value}, status=400)

    refused(response, 109, "body: data.last_modified is not a timestamp")


@pytest.mark.sampled
@pytest.mark.parametrize("field", ["data", "permissions"])
def test_a_field_sent_as_a_file(target, field):
    response = target.send(FILE, file_part(b"{}", "blob", name=field), status=400)

    refused(response, 109, f"body: '{field}' field should be passed as form data, not files")


@pytest.mark.sampled
@pytest.mark.parametrize("field", ["data", "permissions"])
def test_a_field_sent_twice(target, field):
    parts = [field_part(field, "{}"), field_part(field, "{}")]

    response = target.send(FILE, *parts, status=400)

    refused(response, 109, f"body: '{field}' field should be passed once")


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["x", "Data", "file", "", "attachment[]"])
def test_an_unknown_field(target, name):
    response = target.send(FILE, field_part(name, "{}"), status=400)

    refused(response, 109, f"body: '{name}' not in ('data', 'permissions')")


def test_a_field_without_end(record):
    response = record.send(FILE, field_part("data", "x" * (MAX_FIELD_BYTES + 1)), status=413)

    refused(response, 113, "data is larger than")
    assert record.files() == []


def test_more_after_the_end(record):
    response = record.post(form([FILE]) + b"x" * 500_000, CONTENT_TYPE, status=400)

    refused(response, 107, "body: ")
    assert record.files() == []


@pytest.mark.sampled
@pytest.mark.parametrize("filename", ["a.exe", "a.txt.exe", "noextension", "a.", "a.exe\x00"])
def test_an_extension_that_is_not_allowed(target, filename):
    response = target.attach(b"x", filename, status=400)

    refused(response, 109, "body: File extension is not allowed.")


@pytest.mark.sampled
@pytest.mark.parametrize("filename", ["a.txt", "a.TXT", "a.png", "a.exe.png"])
def test_an_extension_that_is_allowed(make_record, filename):
    record = make_record(attachment={"extensions": "text+png"})

    record.attach(b"x", filename)

    assert record.exists


def test_a_file_over_the_limit(target):
    response = target.attach(b"x" * 1001, status=413)

    refused(response, 113, "larger than 1000 bytes")


def test_a_file_at_the_limit(make_record):
    record = make_record(attachment={"max_size_bytes": "1000"})

    record.attach(b"x" * 1000)

    assert record.data["attachment"]["size"] == 1000


def test_a_length_over_the_limit_is_refused_before_the_body(target):
    response = target.stream(Unread(), 413, CONTENT_LENGTH=str(1000 + 64 * 1024 + 1))

    refused(response, 113, "larger than 1000 bytes")


def test_reading_stops_where_the_limit_is_passed(target):
    body = form([file_part(b"x" * 60_000)])

    class Slow(Unread):
        def read(self, size: int) -> bytes:
            return super().read(min(size, 1500))

    response = target.stream(Slow(body, 5000), 413, CONTENT_LENGTH=str(len(body)))

    refused(response, 113, "larger than 1000 bytes")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("permissions", {"read": 5}),
        ("permissions", {"read": "abc"}),
        ("permissions", {"read": [5]}),
        ("permissions", {"read": [None]}),
        ("permissions", {"unknown": ["a"]}),
        ("data", {"id": "another"}),
        ("data", {"id": 5}),
        ("data", {"id": None}),
    ],
)
def test_what_a_patch_of_the_record_refuses(target, field, value):
    target.other().create()
    of_kinto = target.app.patch_json(
        target.other().path, {field: value}, headers={"If-Match": "*"}, status=400
    ).json

    response = target.attach(**{field: value}, status=400)

    assert response.json == of_kinto


def test_a_record_that_the_schema_of_the_collection_refuses(target):
    schema = {"type": "object", "properties": {"year": {"type": "integer"}}}
    target.app.patch_json("/v1/buckets/b/collections/c", {"data": {"schema": schema}})

    response = target.attach(data={"year": "soon"}, status=400)

    refused(response, 107, "year in body: 'soon' is not of type 'integer'")


def test_a_record_that_the_schema_of_the_bucket_refuses(target):
    schema = {"type": "object", "properties": {"year": {"type": "integer"}}}
    target.app.patch_json("/v1/buckets/b", {"data": {"record:schema": schema}})

    response = target.attach(data={"year": "soon"}, status=400)

    refused(response, 107, "year in body: 'soon' is not of type 'integer'")


def test_a_schema_may_ask_for_the_attachment(make_record):
    record = make_record()
    schema = {"type": "object", "required": ["attachment"]}
    record.app.patch_json("/v1/buckets/b/collections/c", {"data": {"schema": schema}})

    assert record.attach().status_code == 201


@pytest.mark.parametrize("endpoint", ["attach", "detach"])
@pytest.mark.sampled
@pytest.mark.parametrize("user", ["alice", "bob", None])
@pytest.mark.parametrize(
    ("bucket_id", "collection_id"),
    [
        ("unknown", "c"),
        ("b", "unknown"),
        ("b@", "c"),
        ("b", "c@"),
        ("b", "%00"),
        ("%00", "c"),
        ("b%0A", "c"),
        ("b", "c%0A"),
    ],
)
def test_no_such_bucket_or_collection(record, endpoint, user, bucket_id, collection_id):
    target = record.as_user(user)
    target.endpoint = f"/v1/buckets/{bucket_id}/collections/{collection_id}/records/r/attachment"

    response = getattr(target, endpoint)(status=404)

    refused_without_message = response.json
    assert refused_without_message["code"] == 404
    assert refused_without_message["errno"] == 111


@pytest.mark.sampled
@pytest.mark.parametrize("endpoint", ["attach", "detach"])
@pytest.mark.parametrize("record_id", ["r@", "%00", "-r", "r%20r", "%C3%A9", "r%0A"])
def test_an_id_that_no_record_can_have(record, endpoint, record_id):
    record.endpoint = f"/v1/buckets/b/collections/c/records/{record_id}/attachment"

    response = getattr(record, endpoint)(status=400)

    refused(response, 107, "path: Invalid object id")
    assert record.files() == []


@pytest.mark.parametrize("collection", ["c" * 256, "c" * 2000])
def test_ids_that_are_too_long_for_a_folder(make_record, collection):
    record = make_record(attachment={"folder": "{bucket_id}/{collection_id}"})
    record.app.put_json(f"/v1/buckets/b/collections/{collection}", {})
    target = record.other("r", collection)

    response = target.stream(Unread(), 400, CONTENT_LENGTH="100")

    refused(response, 107, "too long")
