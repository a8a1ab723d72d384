"""Files by their record: who may read them, and what the answer says."""

from __future__ import annotations

import base64
import hashlib
from email.utils import parsedate_to_datetime
from wsgiref.util import FileWrapper

import pytest
import transaction
from pyramid.events import NewResponse
from pyramid_storage.interfaces import IFileStorage

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.lookup import FILES
from kinto_attachment.database.rows import Rows
from kinto_attachment.storage import StorageUnavailable
from tests.support.records import Record

CONTENT = b"0123456789"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
COLLECTION = "/v1/buckets/b/collections/c"
NUL, LINE_BREAK = "%00", "a%0A"


@pytest.fixture
def attached(record):
    record.attach(CONTENT, "a.txt")
    return record


@pytest.fixture
def unheard():
    """``unheard(record, attachment)``: what a plugin writes without an event."""

    def write(of, attachment):
        parent_id, _, object_id = of.uri.rpartition("/records/")
        where = {"resource_name": "record", "parent_id": parent_id, "object_id": object_id}
        with transaction.manager:
            of.app.registry.storage.update(**where, obj={"attachment": attachment})

    return write


def read(record, status=200, method="GET", query="", **headers):
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    return record.app.request(
        f"{record.endpoint}{query}", method=method, headers=sent, status=status
    )


def grant(record, path, permission, user="bob"):
    principal = record.as_user(user).app.userid
    record.app.patch_json(path, {"permissions": {permission: [principal]}})


# What the answer says


@pytest.mark.both_storages
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_file_of_a_record(attached, method):
    answer = read(attached, method=method)

    assert answer.body == (CONTENT if method == "GET" else b"")
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.headers["Content-Length"] == "10"
    assert answer.headers["ETag"] == f'"{DIGEST}"'
    digest = base64.b64encode(bytes.fromhex(DIGEST)).decode()
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert parsedate_to_datetime(answer.headers["Last-Modified"])
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Disposition"].startswith('inline; filename="a.txt"')
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.sampled
@pytest.mark.both_storages
@pytest.mark.parametrize(
    ("asked", "status", "content", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-100", 206, CONTENT, "bytes 0-9/10"),
        ("bytes=0-0,5-6", 200, CONTENT, None),
        (f"bytes={'9' * 5000}-", 200, CONTENT, None),
    ],
)
def test_a_part_of_the_file(attached, asked, status, content, content_range):
    answer = read(attached, status, Range=asked)

    assert answer.body == content
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers.get("Content-Range") == content_range
    assert answer.headers["ETag"] == f'"{DIGEST}"'


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=-0"])
def test_a_part_that_is_not_there(attached, asked):
    answer = read(attached, 416, Range=asked)

    assert answer.headers["Content-Range"] == "bytes */10"
    assert answer.json["code"] == 416
    assert answer.json["errno"] == 107


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_None_Match": f'"{DIGEST}"'}, 304),
        ({"If_None_Match": f'W/"x", W/"{DIGEST}"'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"x"'}, 200),
        ({"If_Match": f'"{DIGEST}"'}, 200),
        ({"If_Match": '"x"'}, 412),
        ({"If_Modified_Since": "Fri, 31 Dec 9999 23:59:59 GMT"}, 304),
        ({"If_Modified_Since": "Fri, 31 Dec 99999 23:59:59 GMT"}, 200),
        ({"If_Unmodified_Since": "Mon, 01 Jan 0001 00:00:00 GMT"}, 412),
        ({"If_Range": f'"{DIGEST}"', "Range": "bytes=1-1"}, 206),
        ({"If_Range": '"x"', "Range": "bytes=1-1"}, 200),
    ],
)
def test_conditions(attached, headers, status):
    answer = read(attached, status, **headers)

    if status == 412:
        assert answer.json["errno"] == 114
    else:
        assert answer.headers["ETag"] == f'"{DIGEST}"'
        assert answer.headers["Cache-Control"] == "private, no-cache"
    if status == 304:
        assert answer.body == b""
        assert "Content-Type" not in answer.headers
        assert "Content-Disposition" not in answer.headers


@pytest.mark.both_storages
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_empty_file(record, method):
    record.attach(b"", "empty.txt")

    answer = read(record, method=method)

    assert answer.body == b""
    assert answer.headers["Content-Length"] == "0"


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("filename", "content_type", "kind"),
    [
        ("a.png", None, "inline"),
        ("a.jpg", "image/JPEG", "inline"),
        ("a.svg", None, "attachment"),
        ("a.mp3", None, "inline"),
        ("a.mp4", None, "inline"),
        ("a.pdf", None, "inline"),
        ("a.txt", None, "inline"),
        ("a.html", None, "attachment"),
        ("a.css", None, "attachment"),
        ("a.zip", None, "attachment"),
        ("a.bin", "application/x-thing", "attachment"),
    ],
)
def test_browsers_show_what_runs_no_script_and_save_the_rest(record, filename, content_type, kind):
    record.attach(CONTENT, filename, content_type)

    assert read(record).headers["Content-Disposition"].partition(";")[0] == kind


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("?download", "attachment"),
        ("?download=", "attachment"),
        ("?x=1&download=1", "attachment"),
        ("?downloads", "inline"),
        ("?" + "&" * 1000, "inline"),
    ],
)
def test_a_client_may_ask_to_save_it(attached, query, kind):
    answer = read(attached, query=query)

    assert answer.headers["Content-Disposition"].partition(";")[0] == kind
    assert answer.body == CONTENT


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("filename", "ascii_name", "encoded"),
    [
        ("a b.txt", "a b.txt", "a%20b.txt"),
        ("déjà vu.txt", "deja vu.txt", "d%C3%A9j%C3%A0%20vu.txt"),
        ("写真.jpg", "__.jpg", "%E5%86%99%E7%9C%9F.jpg"),
        ("a%41b.txt", "a_41b.txt", "a%2541b.txt"),
        ("a;b=c'd*(e).txt", "a;b=c'd*(e).txt", "a%3Bb%3Dc%27d%2A%28e%29.txt"),
    ],
)
def test_the_filename_has_an_ascii_form_and_its_own(record, filename, ascii_name, encoded):
    record.attach(CONTENT, filename)

    assert read(record, query="?download").headers["Content-Disposition"] == (
        f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{encoded}"
    )


def test_scripts_from_elsewhere_may_read_the_file_and_its_headers(attached):
    answer = read(attached, Origin="https://elsewhere.example.org")

    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    exposed = {
        name.strip().lower() for name in answer.headers["Access-Control-Expose-Headers"].split(",")
    }
    assert exposed >= {
        "accept-ranges",
        "content-disposition",
        "content-length",
        "content-range",
        "content-type",
        "etag",
        "last-modified",
        "repr-digest",
        "retry-after",
    }


def test_scripts_from_elsewhere_may_read_refusals(attached):
    for answer in (
        read(attached, 416, Range="bytes=10-", Origin="https://elsewhere.example.org"),
        read(attached.other("none"), 404, Origin="https://elsewhere.example.org"),
        read(attached.as_user("bob"), 403, Origin="https://elsewhere.example.org"),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_preflight_of_a_download(attached, method):
    answer = attached.app.options(
        attached.endpoint,
        headers={
            "Origin": "https://elsewhere.example.org",
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization, range",
        },
    )

    assert method in answer.headers["Access-Control-Allow-Methods"].split(",")
    assert "range" in answer.headers["Access-Control-Allow-Headers"]


def test_a_query_that_is_no_utf_8(attached):
    read(attached, 400, query="?x=%FF&download")


# Who may


@pytest.mark.sampled
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("user", "status"), [(None, 401), ("bob", 403)])
@pytest.mark.parametrize(
    "uri",
    [
        "/buckets/b/collections/c/records/r",
        "/buckets/b/collections/c/records/none",
        "/buckets/b/collections/none/records/r",
        "/buckets/none/collections/c/records/r",
        f"/buckets/b/collections/c/records/{NUL}",
        f"/buckets/b/collections/{NUL}/records/r",
        f"/buckets/{LINE_BREAK}/collections/{NUL}/records/r",
        "/buckets/b/collections/c/records/a@b",
    ],
)
def test_a_stranger_is_refused_the_same_whatever_there_is(attached, uri, user, status, method):
    stranger = Record(attached.app.as_user(user), attached.stored, uri)

    answer = read(stranger, status, method)

    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    if method == "GET":
        assert answer.json["errno"] == (104 if status == 401 else 121)


@pytest.mark.parametrize("permission", ["read", "write"])
@pytest.mark.parametrize("path", ["/v1/buckets/b", COLLECTION, f"{COLLECTION}/records/r"])
def test_who_may_read_the_record_may_read_its_file(attached, path, permission):
    grant(attached, path, permission)

    assert read(attached.as_user("bob")).body == CONTENT


def test_who_may_read_as_a_member_of_a_group_may_until_it_is_left(attached):
    bob = attached.as_user("bob")
    group = "/buckets/b/groups/readers"
    attached.app.put_json(f"/v1{group}", {"data": {"members": [bob.app.userid]}})
    attached.app.patch_json(attached.path, {"permissions": {"read": [group]}})

    assert read(bob).body == CONTENT

    attached.app.patch_json(f"/v1{group}", {"data": {"members": []}})
    read(bob, 403)


def test_everyone_may_where_everyone_may_read(attached):
    attached.app.patch_json(COLLECTION, {"permissions": {"read": ["system.Everyone"]}})

    assert read(attached.as_user(None)).body == CONTENT


def test_who_may_create_records_may_not_read_those_of_others(attached):
    grant(attached, COLLECTION, "record:create")

    read(attached.as_user("bob"), 403)


def test_principals_of_the_settings_may(make_record):
    record = make_record(**{"kinto.record_read_principals": "system.Authenticated"})
    record.attach(CONTENT)

    assert read(record.as_user("bob")).body == CONTENT
    read(record.as_user(None), 401)


@pytest.mark.parametrize("backend", ["postgresql"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_only_server_lets_files_be_read(make_app, attached, method):
    reader = make_app(**{"kinto.readonly": "true"})

    answer = read(Record(reader, attached.stored, attached.uri), method=method)

    assert answer.headers["Content-Length"] == "10"


# What there is to read


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("/buckets/b/collections/c/records/none", 404),
        ("/buckets/b/collections/none/records/r", 404),
        (f"/buckets/b/collections/{NUL}/records/r", 404),
        (f"/buckets/b/collections/{LINE_BREAK}/records/r", 404),
        (f"/buckets/b/collections/c/records/{NUL}", 400),
        (f"/buckets/b/collections/c/records/{LINE_BREAK}", 400),
    ],
)
def test_what_does_not_exist(attached, uri, status, method):
    answer = read(Record(attached.app, attached.stored, uri), status, method)

    if method == "GET":
        assert answer.json["code"] == status


def test_what_does_not_exist_for_who_may_read_all(make_record):
    record = make_record(**{"kinto.record_read_principals": "system.Everyone"})

    read(Record(record.app, record.stored, "/buckets/none/collections/c/records/r"), 404)
    uri = f"/buckets/{NUL}/collections/c/records/r"
    read(Record(record.app, record.stored, uri), 404)


def test_a_record_without_an_attachment(record):
    record.create(title="none")

    assert read(record, 404).json["message"] == "The record has no attachment."

    record.attach(CONTENT)
    record.detach()
    read(record, 404)


def test_a_deleted_record(attached):
    attached.app.delete(attached.path)

    read(attached, 404)


@pytest.mark.both_storages
def test_a_replaced_file(attached):
    attached.attach(b"second")

    assert read(attached).body == b"second"


@pytest.mark.parametrize("attachment", [1, "x", [], {}, {"location": "/"}])
def test_plain_data_is_no_file(record, attachment):
    record.create(attachment=attachment)

    read(record, 404)


@pytest.mark.leaves("records that claim a file")
@pytest.mark.parametrize("randomize", ["true", "false"])
def test_plain_data_with_the_name_of_a_file_serves_nothing(make_record, randomize):
    record = make_record(attachment={"randomize": randomize})
    record.attach(CONTENT)
    attachment = record.data["attachment"]

    for number, claim in enumerate(
        (
            {"location": attachment["location"]},
            {"location": attachment["location"], "hash": DIGEST},
            {**attachment, "filename": "other.txt"},
            {**attachment, "location": f"https://elsewhere.example.org/{record.files()[0]}"},
        )
    ):
        other = record.other(f"r{number}")
        other.create(attachment=claim)
        read(other, 404)


@pytest.mark.leaves("a record that claims a file")
def test_plain_data_that_was_there_before_the_file_serves_nothing(make_record):
    """Names that are not random can be told."""
    record = make_record(attachment={"randomize": "false"})
    other = record.other()
    other.create(
        attachment={
            "filename": "file.txt",
            "hash": DIGEST,
            "location": "https://files.example.org/file.txt",
            "mimetype": "text/plain",
            "size": 10,
        }
    )

    record.attach(CONTENT)

    assert record.data["attachment"] == other.data["attachment"]
    assert read(record).body == CONTENT
    read(other, 404)


def test_a_copy_serves_the_file_also_when_the_first_record_is_gone(attached):
    other = attached.other()
    other.create(attachment=attached.data["attachment"])

    attached.app.delete(attached.path)

    assert read(other).body == CONTENT


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_record_keeps_its_file_when_base_url_changes(make_app, attached):
    moved = make_app(attachment={"base_url": "https://elsewhere.example.org/"})

    assert read(Record(moved, attached.stored, attached.uri)).body == CONTENT


@pytest.mark.leaves("rows of another file")
def test_a_record_that_was_rolled_back_without_an_event_serves_what_it_shows(attached, unheard):
    first = attached.data["attachment"]
    attached.other().create(attachment=first)
    attached.attach(b"second")

    unheard(attached, first)

    assert read(attached).body == CONTENT


@pytest.mark.leaves("a record without a row")
def test_a_record_that_was_written_without_an_event_serves_what_it_shows(attached, unheard):
    other = attached.other()
    other.create(title="none")

    unheard(other, attached.data["attachment"])

    assert read(other).body == CONTENT


@pytest.mark.leaves("metadata that differs")
def test_a_location_that_was_changed_without_an_event_is_that_of_the_file(attached, unheard):
    attachment = attached.data["attachment"]
    unheard(attached, {**attachment, "location": attachment["location"].replace("files", "cdn")})

    assert read(attached).body == CONTENT


@pytest.mark.sampled
@pytest.mark.leaves("metadata that differs")
@pytest.mark.parametrize("wrong", ["\r\nX: y", "", 5, None, "text", "text/html; charset=é"])
def test_metadata_of_earlier_versions_makes_no_header(attached, unheard, wrong):
    attachment = attached.data["attachment"]
    unheard(attached, {**attachment, "mimetype": wrong, "filename": wrong})

    answer = read(attached)

    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    assert "X" not in answer.headers


@pytest.mark.leaves("a row without a hash")
def test_a_file_whose_hash_is_not_known_has_no_etag(attached):
    (name,) = attached.files()
    rows = Rows(attached.app.registry.storage)
    with transaction.manager:
        rows.put(FILES, name, {**rows.get(FILES, name), "hash": None})

    answer = read(attached, If_None_Match=f'"{DIGEST}"')

    assert "ETag" not in answer.headers
    assert "Repr-Digest" not in answer.headers
    assert answer.body == CONTENT


@pytest.mark.leaves("a missing file")
def test_a_file_that_is_lost(attached):
    (name,) = attached.files()
    (attached.folder / name).unlink()

    read(attached, 404)


@pytest.mark.parametrize("method", ["stat", "read"])
def test_a_file_that_is_replaced_while_it_is_opened(attached, monkeypatch, method):
    files = attached.app.registry.getUtility(IFileStorage)
    original = getattr(files, method)
    replaced = []

    def replace_first(name, *arguments):
        if not replaced:
            replaced.append(name)
            attached.attach(b"second")
        return original(name, *arguments)

    monkeypatch.setattr(files, method, replace_first)

    assert read(attached).body == b"second"


@pytest.mark.both_storages
@pytest.mark.parametrize("method", ["stat", "read"])
def test_a_storage_that_is_down(attached, monkeypatch, method):
    files = attached.app.registry.getUtility(IFileStorage)

    def fail(*arguments):
        raise StorageUnavailable("down")

    monkeypatch.setattr(files, method, fail)

    answer = read(attached, 503)

    assert answer.headers["Retry-After"]
    assert answer.json["errno"] == 201


# How it is read


def test_nothing_is_hooked_to_the_end_of_the_transaction(attached, monkeypatch):
    def fail(*arguments):
        raise AssertionError("hooked")

    monkeypatch.setattr(FileChanges, "current", fail)

    assert read(attached).body == CONTENT


@pytest.mark.parametrize("backend", ["postgresql"])
@pytest.mark.parametrize("bucket", ["b", "default"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_connection_is_held_while_the_storage_is_asked(
    attached, kinto_database, monkeypatch, method
):
    files = attached.app.registry.getUtility(IFileStorage)
    stat, read_file, busy = files.stat, files.read, []

    def look():
        question = """
            SELECT query FROM pg_stat_activity WHERE datname = current_database()
               AND pid <> pg_backend_pid() AND state <> 'idle'
        """
        busy.append(kinto_database.execute(question))

    monkeypatch.setattr(files, "stat", lambda name: (look(), stat(name))[1])
    monkeypatch.setattr(files, "read", lambda *asked: (look(), read_file(*asked))[1])

    assert read(attached, method=method).headers["Content-Length"] == "10"

    assert busy == ([[], []] if method == "GET" else [[]])


@pytest.mark.both_storages
def test_a_reader_who_leaves_closes_the_file(attached, monkeypatch):
    files = attached.app.registry.getUtility(IFileStorage)
    original, opened = files.read, []

    def remember(*arguments):
        opened.append(original(*arguments))
        return opened[-1]

    monkeypatch.setattr(files, "read", remember)
    environ = dict(attached.app.extra_environ)
    request = attached.app.RequestClass.blank(attached.endpoint, environ=environ)
    started = attached.app.app(request.environ, lambda *arguments: None)

    started.close()

    (file,) = opened
    assert file.gi_frame is None


@pytest.fixture
def handed_over(attached):
    """The files that Kinto has handed over to its server, to send them."""
    files = []

    def wrap(file, block_size):
        files.append(file)
        return FileWrapper(file, block_size)

    attached.app.extra_environ["wsgi.file_wrapper"] = wrap
    return files


@pytest.mark.parametrize("bucket", ["b", "default"])
def test_the_server_sends_a_whole_file_of_the_disk_by_itself(attached, handed_over):
    answer = read(attached)

    assert answer.body == CONTENT
    assert answer.headers["Content-Length"] == "10"
    (file,) = handed_over
    assert file.closed


@pytest.mark.parametrize(
    ("method", "headers", "status", "content"),
    [
        ("GET", {"Range": "bytes=2-4"}, 206, b"234"),
        ("GET", {"Range": "bytes=2-"}, 206, b"23456789"),
        ("GET", {"If_None_Match": f'"{DIGEST}"'}, 304, b""),
        ("HEAD", {}, 200, b""),
    ],
)
def test_kinto_sends_what_is_not_the_whole_file(
    attached, handed_over, method, headers, status, content
):
    assert read(attached, status, method, **headers).body == content
    assert handed_over == []


@pytest.mark.parametrize("where", ["s3"])
def test_kinto_sends_what_is_not_on_the_disk(attached, handed_over):
    assert read(attached).body == CONTENT
    assert handed_over == []


def test_what_kinto_measures_and_logs_of_the_body_is_nothing(attached):
    seen = []
    registry = attached.app.registry

    def look(event):
        seen.append((event.response.body, event.response.json))

    registry.registerHandler(look, (NewResponse,))
    try:
        assert read(attached).body == CONTENT
    finally:
        registry.unregisterHandler(look, (NewResponse,))

    assert seen == [(b"", {})]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_in_a_batch_is_refused_and_the_others_are_answered(attached, method):
    path = attached.endpoint
    requests = [
        {"method": "GET", "path": "/buckets/b"},
        {"method": method, "path": path, "headers": {"Range": f"bytes={'9' * 5000}-"}},
        {"method": method, "path": f"{COLLECTION}/records/none/attachment"},
        {"method": "PUT", "path": f"{COLLECTION}/records/made"},
    ]

    answers = attached.app.post_json("/v1/batch", {"requests": requests}).json["responses"]

    assert [answer["status"] for answer in answers] == [200, 400, 404, 201]
    if method == "GET":
        assert answers[1]["body"]["message"].startswith("Files cannot be part of a batch")


@pytest.mark.parametrize(("user", "status"), [(None, 401), ("bob", 403)])
def test_in_a_batch_the_permission_is_asked_first(attached, user, status):
    requests = [{"method": "GET", "path": attached.endpoint}, {"method": "GET", "path": "/"}]

    batch = attached.app.as_user(user).post_json("/v1/batch", {"requests": requests})

    assert [answer["status"] for answer in batch.json["responses"]] == [status, 200]


# Caching


def test_caches_keep_a_file_as_long_as_the_settings_of_its_collection_say(make_record):
    record = make_record(
        attachment={
            "cache_control": "max-age=60",
            "resources.b.cache_control": "public, max-age=3600",
            "resources.b.c.cache_control": "public, max-age=7200",
        }
    )
    record.attach(CONTENT)

    assert read(record).headers["Cache-Control"] == "public, max-age=7200"
    answer = read(record, 304, If_None_Match="*")
    assert answer.headers["Cache-Control"] == "public, max-age=7200"


def test_refusals_are_not_cached_like_files(make_record):
    record = make_record(attachment={"cache_control": "public, max-age=60"})
    record.attach(CONTENT)

    for answer in (
        read(record, 416, Range="bytes=10-"),
        read(record, 412, If_Match='"x"'),
        read(record.as_user("bob"), 403),
        read(record.other(), 404),
    ):
        assert "max-age=60" not in answer.headers.get("Cache-Control", "")
