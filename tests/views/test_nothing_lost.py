"""Whatever goes wrong with a replacement: the previous file stays, and nothing else does."""

from __future__ import annotations

from io import BytesIO

import pytest

from tests.support.forms import CONTENT_TYPE, field_part, file_part, form

pytestmark = pytest.mark.both_storages

FILE = file_part(b"replacement")
CUT = form([FILE])[:-20]
SCHEMA = {"type": "object", "properties": {"year": {"type": "integer"}}}


def parts(*sent):
    return lambda record, status: record.send(*sent, status=status)


def field(name, text):
    return parts(FILE, field_part(name, text))


def body(content, content_type=CONTENT_TYPE):
    return lambda record, status: record.post(content, content_type, status)


def stream(content, **environ):
    return lambda record, status: record.stream(BytesIO(content), status, **environ)


def attached(*args, **options):
    return lambda record, status: record.attach(*args, **options, status=status)


def header(name, value):
    return attached(headers={name: value})


FAILING = {
    "data that is not JSON": (400, field("data", "{")),
    "data that is an array": (400, field("data", "[]")),
    "data that is a string": (400, field("data", '"text"')),
    "data that is a number": (400, field("data", "5")),
    "data that is null": (400, field("data", "null")),
    "permissions that are not JSON": (400, field("permissions", "{")),
    "permissions that are an array": (400, field("permissions", "[]")),
    "permissions that are a string": (400, field("permissions", '"text"')),
    "permissions that are a number": (400, field("permissions", "5")),
    "permissions that are null": (400, field("permissions", "null")),
    "permissions that Kinto refuses": (400, attached(permissions={"read": 5})),
    "an unknown field": (400, field("x", "{}")),
    "data sent as a file": (400, parts(FILE, file_part(b"{}", "blob", name="data"))),
    "permissions sent as a file": (400, parts(FILE, file_part(b"{}", "blob", name="permissions"))),
    "a forbidden extension": (400, attached(b"replacement", "a.exe")),
    "a file over the limit": (413, attached(b"x" * 1001)),
    "no attachment": (400, parts(field_part("data", "{}"))),
    "no attachment but a field of its name": (400, parts(field_part("attachment", "text"))),
    "an attachment without a filename": (400, parts(file_part(b"replacement", ""))),
    "two attachments": (400, parts(FILE, FILE)),
    "not multipart": (400, body(b'{"data": {}}', "application/json")),
    "no boundary": (400, body(form([FILE]), "multipart/form-data")),
    "a body that is cut": (400, body(CUT)),
    "a body that ends early": (400, stream(CUT, **{"wsgi.input_terminated": True})),
    "a body that ends before its length": (400, stream(CUT, CONTENT_LENGTH="1000")),
    "an empty body": (400, body(b"")),
    "what the schema refuses": (400, attached(data={"year": "soon"})),
    "another id": (400, attached(data={"id": "other"})),
    "a stale If-Match": (412, header("If-Match", '"1"')),
    "If-None-Match": (412, header("If-None-Match", "*")),
    "a malformed If-Match": (400, header("If-Match", "abc")),
    "a malformed If-None-Match": (400, header("If-None-Match", "abc")),
}


@pytest.fixture
def record(make_record):
    """A record with a file, where replacements must fulfil a lot."""
    record = make_record(attachment={"extensions": "text", "max_size_bytes": "1000"})
    record.app.patch_json("/v1/buckets/b/collections/c", {"data": {"schema": SCHEMA}})
    record.attach(b"previous", data={"year": 2026}, permissions={"read": ["system.Everyone"]})
    return record


@pytest.mark.parametrize(("status", "replace"), FAILING.values(), ids=FAILING.keys())
def test_a_replacement_that_fails_leaves_all_as_it_was(record, status, replace):
    before = record.app.get(record.path)
    files = record.files()

    assert replace(record, status).json["code"] == status

    after = record.app.get(record.path)
    assert after.json == before.json
    assert after.headers["ETag"] == before.headers["ETag"]
    assert record.content == b"previous"
    assert record.files() == files
