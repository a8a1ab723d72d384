"""POST of an attachment: what a client gets, and what the record becomes."""

from __future__ import annotations

import hashlib
import re
from io import BytesIO

import pytest

from tests.support.forms import CONTENT_TYPE, field_part, file_part, form

SHA256 = hashlib.sha256(b"content").hexdigest()


def test_a_record_that_does_not_exist_is_created(record):
    response = record.attach(b"content", "file.txt")

    assert response.status_code == 201
    assert record.exists


def test_a_record_that_exists_is_updated(record):
    record.create(title="kept")

    response = record.attach(b"content")

    assert response.status_code == 200
    assert record.data["title"] == "kept"


def test_the_answer_has_the_five_attributes_and_no_other(record):
    answer = record.attach(b"content", "file.txt", "text/plain").json

    assert sorted(answer) == ["filename", "hash", "location", "mimetype", "size"]
    assert answer["filename"] == "file.txt"
    assert answer["hash"] == SHA256
    assert answer["mimetype"] == "text/plain"
    assert answer["size"] == 7


def test_the_record_has_what_the_answer_said(record):
    answer = record.attach(b"content").json

    assert record.data["attachment"] == answer


def test_the_file_is_stored_where_the_location_says(record):
    record.attach(b"content")

    assert record.content == b"content"


def test_an_empty_file_is_a_file(record):
    answer = record.attach(b"").json

    assert answer["size"] == 0
    assert answer["hash"] == hashlib.sha256(b"").hexdigest()
    assert record.content == b""


def test_the_headers_are_those_of_the_record(record):
    response = record.attach(b"content")
    of_record = record.app.get(record.path)

    assert response.headers["Location"] == f"http://localhost{record.path}"
    assert response.headers["ETag"] == of_record.headers["ETag"]
    assert response.headers["Last-Modified"] == of_record.headers["Last-Modified"]
    assert response.content_type == "application/json"


def test_data_is_merged_into_the_record_as_by_a_patch(record):
    record.create(title="old", author="kept")

    record.attach(data={"title": "new", "year": 2026})

    data = record.data
    assert (data["title"], data["author"], data["year"]) == ("new", "kept", 2026)


def test_permissions_are_set_as_by_a_patch(record):
    record.attach(permissions={"read": ["system.Everyone"]})

    permissions = record.app.get(record.path).json["permissions"]
    assert permissions["read"] == ["system.Everyone"]
    assert permissions["write"] == [record.app.userid]


def test_permissions_of_an_existing_record_change_alone(record):
    record.create(title="kept")

    record.attach(permissions={"read": ["system.Everyone"]})

    assert record.app.get(record.path).json["permissions"]["read"] == ["system.Everyone"]
    assert record.data["title"] == "kept"


def test_the_creator_may_write_the_record(record):
    record.attach()

    assert record.app.get(record.path).json["permissions"]["write"] == [record.app.userid]


@pytest.mark.sampled
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)])
def test_the_parts_may_come_in_any_order(record, order):
    parts = [
        file_part(b"content"),
        field_part("data", '{"title": "first"}'),
        field_part("permissions", '{"read": ["system.Everyone"]}'),
    ]

    record.send(*(parts[index] for index in order))

    assert record.content == b"content"
    assert record.data["title"] == "first"
    assert record.app.get(record.path).json["permissions"]["read"] == ["system.Everyone"]


def test_the_whole_record_may_be_sent_back_as_data(record):
    record.attach(b"first", data={"title": "kept"})

    response = record.attach(b"second", data=record.data)

    assert response.status_code == 200
    assert record.data["title"] == "kept"
    assert record.content == b"second"


def test_an_attachment_in_data_is_ignored(record):
    answer = record.attach(data={"attachment": {"location": "https://example.org/"}}).json

    assert record.data["attachment"] == answer


def test_a_last_modified_in_data_is_taken_as_by_a_patch(record):
    later = record.create()["last_modified"] + 3600 * 1000

    record.attach(data={"last_modified": later})

    assert record.data["last_modified"] == later


def test_a_replaced_file_gets_a_new_location(record):
    first = record.attach(b"same").json["location"]
    second = record.attach(b"same").json["location"]

    assert first != second


def test_the_file_that_was_replaced_goes(record):
    record.attach(b"first")
    record.attach(b"second")

    assert len(record.files()) == 1
    assert record.content == b"second"


def test_the_replaced_file_stays_where_old_files_are_kept(make_record):
    record = make_record(attachment={"keep_old_files": "true"})

    record.attach(b"first")
    first = record.files()
    record.attach(b"second")

    assert len(record.files()) == 2
    assert record.inventory.kept() == first


def test_stored_names_are_random_and_keep_the_extension(record):
    location = record.attach(filename="My Photo.JPG").json["location"]

    assert re.fullmatch(r"https://files\.example\.org/[0-9a-f-]{36}\.jpg", location)


def test_stored_names_are_those_of_the_files_where_randomize_is_false(make_record):
    record = make_record(attachment={"randomize": "false"})

    assert record.attach(filename="a.txt").json["location"].endswith("/a.txt")
    assert record.other().attach(filename="a.txt").json["location"].endswith("/a-1.txt")
    assert record.files() == ["a-1.txt", "a.txt"]


def test_files_go_to_the_folder_of_bucket_and_collection(make_record):
    record = make_record(attachment={"folder": "{bucket_id}/files-of-{collection_id}"})

    location = record.attach().json["location"]

    assert location.startswith("https://files.example.org/b/files-of-c/")
    assert record.content == b"content"


def test_stored_names_follow_the_pattern(make_record):
    settings = {"randomize": "false", "filename_pattern": "{rid}-{datetime}-{filename}"}
    record = make_record(attachment=settings)

    location = record.attach(filename="photo.jpg").json["location"]

    assert re.search(r"/r-20\d{12}-photo\.jpg$", location)


@pytest.mark.sampled
@pytest.mark.both_storages
@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{datetime}--{rid}--{filename}", r"20\d{12}--r--[0-9a-f-]{36}\.png"),
        ("x{filename}", r"x[0-9a-f-]{36}\.png"),
        ("{rid}", r"r\.PNG"),
    ],
)
def test_random_names_follow_the_pattern_too(make_record, pattern, name):
    record = make_record(attachment={"filename_pattern": pattern, "folder": "files"})

    location = record.attach(filename="Photo.PNG").json["location"]

    assert re.fullmatch(rf"https://files\.example\.org/files/{name}", location)
    assert record.content == b"content"


def test_a_pattern_that_gives_the_same_name_again_replaces_no_file(make_record):
    record = make_record(attachment={"filename_pattern": "{rid}", "keep_old_files": "true"})
    record.attach(b"first", "a.png")

    record.attach(b"second", "b.png")

    assert record.files() == ["r-1.png", "r.png"]
    assert record.content == b"second"


def test_a_random_name_stays_random_where_the_id_is_too_long_for_it(make_record):
    record = make_record(attachment={"filename_pattern": "{rid}--{filename}"})

    location = record.other("r" * 300).attach(filename="a.png").json["location"]

    assert re.fullmatch(r"https://files\.example\.org/[0-9a-f-]{36}\.png", location)


@pytest.mark.sampled
@pytest.mark.parametrize("base_url", ["https://cdn.example.org/f", "https://cdn.example.org/f/"])
def test_the_location_starts_with_the_base_url_and_one_slash(make_record, base_url):
    record = make_record(attachment={"base_url": base_url, "randomize": "false"})

    assert record.attach().json["location"] == "https://cdn.example.org/f/file.txt"


def test_the_location_is_relative_without_a_base_url(make_record):
    settings = {"base_url": None, "randomize": "false", "folder": "{bucket_id}"}
    record = make_record(attachment=settings)

    assert record.attach().json["location"] == "b/file.txt"


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("filename", "content_type", "expected"),
    [
        ("a.ftl", "text/plain", "application/vnd.fluent"),
        ("a.FTL", None, "application/vnd.fluent"),
        ("a.txt", "application/x-thing", "application/x-thing"),
        ("a.txt", "Text/HTML; charset=utf-8", "text/html"),
        ("a.png", None, "image/png"),
        ("a.csv.gz", None, "application/gzip"),
        ("a.unknown", None, "application/octet-stream"),
        ("a.png", "not a media type", "image/png"),
        ("a.png", "image", "image/png"),
        ("a.png", 'image/"png"', "image/png"),
        ("data:application;base64,", None, "application/octet-stream"),
        ("a.webp", None, "image/webp"),
        ("a.woff2", None, "font/woff2"),
        ("a.MD", None, "text/markdown"),
        ("a.yaml", None, "application/yaml"),
        ("a.7z", None, "application/x-7z-compressed"),
        (
            "a.docx",
            None,
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
        ("a.flac", None, "audio/flac"),
        ("a.mkv", None, "video/matroska"),
        ("a.3gp", None, "video/3gpp"),
        ("a.tar.xz", None, "application/x-xz"),
        ("a.svgz", None, "application/gzip"),
    ],
)
def test_the_media_type_is_configured_declared_or_guessed(
    make_record, filename, content_type, expected
):
    record = make_record(attachment={"mimetypes": ".ftl:application/vnd.fluent"})

    assert record.attach(b"x", filename, content_type).json["mimetype"] == expected


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("été.txt", "été.txt"),
        ("日本.txt", "日本.txt"),
        ("a b.txt", "a b.txt"),
        ("folder/a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        (r"C:\Users\me\a.txt", "a.txt"),
        (r"..\a.txt", "a.txt"),
        ("a\x00b\x07.txt", "ab.txt"),
        ("a%0D%0Ab.txt", "ab.txt"),
        ("a\u2028b.txt", "ab.txt"),
        ("say %22hi%22.txt", 'say "hi".txt'),
        ("noextension", "noextension"),
        (".hidden", ".hidden"),
        ("x" * 300 + ".txt", "x" * 300 + ".txt"),
    ],
)
def test_the_filename_is_as_sent_without_folders_and_control_characters(record, sent, expected):
    answer = record.attach(b"content", sent).json

    assert answer["filename"] == expected
    assert record.content == b"content"
    assert len(record.files()) == 1
    assert "/" not in record.files()[0]


@pytest.mark.sampled
@pytest.mark.parametrize("filename", ["日本.txt", "x" * 300 + ".txt", ".txt.txt", "é.txt"])
def test_a_stored_file_keeps_its_extension(make_record, filename):
    record = make_record(attachment={"randomize": "false"})

    record.attach(b"content", filename)

    assert record.files()[0].endswith(".txt")


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        (b"; filename*=UTF-8''%e2%82%ac%20rates.txt", "€ rates.txt"),
        (b"; filename*=iso-8859-1'en'%A3%20rates.txt", "£ rates.txt"),
        (b"; filename=\"plain.txt\"; filename*=UTF-8''other.txt", "other.txt"),
        (b"; filename=token.txt", "token.txt"),
        (b"; filename*=UTF-8''..%2F..%2Fa.txt", "a.txt"),
    ],
)
def test_an_extended_filename_is_decoded(record, disposition, expected):
    answer = record.send(file_part(b"content", disposition=disposition)).json

    assert answer["filename"] == expected


def test_a_body_may_end_without_the_last_line_break(record):
    body = form([file_part(b"content")], end=b"--")

    assert record.post(body, CONTENT_TYPE).status_code == 201
    assert record.content == b"content"


def test_a_form_may_come_without_a_length(record):
    body = form([file_part(b"content")])

    response = record.stream(BytesIO(body), **{"wsgi.input_terminated": True})

    assert response.status_code == 201
    assert record.content == b"content"


def test_without_a_length_an_old_server_sends_no_body(record):
    response = record.stream(BytesIO(form([file_part(b"content")])), status=400)

    assert response.json["errno"] == 107


def test_the_content_may_look_like_a_boundary(record):
    content = b"\r\n--boundary-of-the-tes\r\n--\r\n"

    record.attach(content)

    assert record.content == content


def test_browsers_from_elsewhere_may_read_the_answer(record):
    response = record.attach(headers={"Origin": "https://elsewhere.example.org"})

    assert response.headers["Access-Control-Allow-Origin"] == "*"
    exposed = response.headers["Access-Control-Expose-Headers"]
    assert {"ETag", "Last-Modified", "Location"} <= set(exposed.split(", "))


def test_browsers_from_elsewhere_may_read_why_a_file_is_refused(record):
    response = record.send(status=400, headers={"Origin": "https://elsewhere.example.org"})

    assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.sampled
@pytest.mark.parametrize("bucket", ["b", "default", "unknown"])
def test_a_preflight_is_answered_whatever_exists(record, bucket):
    response = record.as_user(None).app.options(
        f"/v1/buckets/{bucket}/collections/nope/records/nope/attachment",
        headers={
            "Origin": "https://elsewhere.example.org",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,if-match",
        },
    )

    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert {"GET", "HEAD", "POST", "DELETE"} <= set(
        response.headers["Access-Control-Allow-Methods"].split(",")
    )
    assert "if-match" in response.headers["Access-Control-Allow-Headers"].lower()


@pytest.mark.sampled
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("bucket", ["b", "unknown"])
def test_other_methods_are_not_allowed(record, method, bucket):
    path = record.endpoint.replace("/b/", f"/{bucket}/")

    assert record.app.request(path, method=method, status=405)


def test_one_event_tells_of_the_record(spied_record):
    record = spied_record
    events = record.app.registry.spied

    record.attach(b"first")
    record.attach(b"second")

    assert [event.payload["action"] for event in events] == ["create", "update"]
    for event in events:
        assert event.payload["resource_name"] == "record"
        assert event.payload["uri"] == f"{record.uri}/attachment"
        assert event.payload["record_id"] == "r"
        assert event.payload["collection_id"] == "c"
        assert event.payload["bucket_id"] == "b"
        assert event.payload["user_id"] == record.app.userid
    (change,) = events[1].impacted_objects
    assert change["old"]["attachment"]["size"] == 5
    assert change["new"]["attachment"] == record.data["attachment"]


def test_others_are_told_after_the_commit(spied_record):
    spied_record.attach()

    events = spied_record.app.registry.spied_after
    assert [event.payload["action"] for event in events] == ["create"]


def test_history_names_the_record_and_the_user(make_record):
    record = make_record(
        **{"kinto.includes": "kinto.plugins.history kinto.plugins.default_bucket kinto_attachment"}
    )

    record.attach(b"first")
    record.detach()

    entries = record.app.get("/v1/buckets/b/history?resource_name=record").json["data"]
    assert [entry["action"] for entry in entries] == ["update", "create"]
    assert {entry["uri"] for entry in entries} == {record.uri}
    assert {entry["user_id"] for entry in entries} == {record.app.userid}
    assert entries[1]["target"]["data"]["attachment"]["size"] == 5
    assert entries[0]["target"]["data"]["attachment"] is None
