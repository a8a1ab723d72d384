"""Who may read a file, on which way, and how it is sent."""

from __future__ import annotations

import hashlib
import json
import logging
import urllib.request
from itertools import product
from urllib.parse import parse_qs, urlsplit

import pytest
import transaction
from sqlalchemy import event
from sqlalchemy.engine import Engine

from kinto_attachment.attachments.lookup import FILES, HOLDINGS
from kinto_attachment.database import location_index
from kinto_attachment.database.rows import Rows
from kinto_attachment.storage.base import FileStorage
from tests.support.inventory import Bucket
from tests.support.records import Record

CONTENT = b"0123456789"
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
COLLECTION = "/v1/buckets/b/collections/c"
EVERYONE = {"read": ["system.Everyone"]}


@pytest.fixture
def private_settings(stored):
    return {**stored.private_settings, "private": "true"}


@pytest.fixture
def make_private(make_record, private_settings):
    """``make_private(cache_control="...")``: a record of a Kinto whose files are private."""

    def make(attachment=None, **settings):
        return make_record(attachment={**private_settings, **(attachment or {})}, **settings)

    return make


@pytest.fixture
def record(make_private):
    """A record with a private file, that only alice can read."""
    record = make_private()
    record.attach(CONTENT, "secret plan.txt")
    return record


def name_of(record):
    return record.data["attachment"]["location"].removeprefix("https://files.example.org/")


def by_name(record):
    return f"/v1/attachments/{name_of(record)}"


def link_to(record, **options):
    url = record.app.post_json(f"{record.endpoint}/link", options, status=201).json["url"]
    return url.removeprefix("http://localhost")


def elsewhere(stored):
    """The settings of the other way to send that the storage has."""
    if isinstance(stored, Bucket):
        return {"download.mode": "redirect"}
    return {"download.mode": "accel", "download.accel_prefix": "/internal/"}


USERS = {"anonymous": None, "in a group": "bob", "by parent": "eve", "other": "oscar"}
MAY = {"in a group", "by parent", "owner"}
REQUESTS = {
    "GET": ("GET", {}),
    "HEAD": ("HEAD", {}),
    "range": ("GET", {"Range": "bytes=2-4"}),
    "range of this": ("GET", {"Range": "bytes=2-4", "If-Range": ETAG}),
    "if this": ("GET", {"If-Match": ETAG}),
    "if another": ("GET", {"If-Match": '"x"'}),
    "if not this": ("GET", {"If-None-Match": ETAG}),
}


def expected(mode, private, way, user, asked):
    """By a few rules, the status, the content and who sends it."""
    if way == "name" and not private:
        # Kinto serves no public files where it is not told to.
        return 404, None, "kinto"
    if not (user in MAY or way == "link"):
        return (401 if user == "anonymous" else 404 if way == "name" else 403), None, "kinto"
    if asked == "if another":
        return 412, None, "kinto"
    if asked == "if not this":
        return 304, b"", "kinto"
    answered_here = {"if this", "HEAD", *(["range of this"] if mode == "redirect" else [])}
    if mode != "stream" and asked not in answered_here:
        return (302 if mode == "redirect" else 200), b"", mode
    if "range" in asked:
        return 206, CONTENT[2:5], "kinto"
    return 200, b"" if asked == "HEAD" else CONTENT, "kinto"


def seen(answer):
    sender = "accel" if "X-Accel-Redirect" in answer.headers else "kinto"
    sender = "redirect" if "Location" in answer.headers else sender
    is_error = answer.headers.get("Content-Type", "").startswith("application/json")
    if answer.status_code in (401, 403, 404, 412):
        return answer.status_code, None, sender
    assert not is_error
    return answer.status_code, answer.body, sender


@pytest.mark.both_storages
@pytest.mark.parametrize("way", ["record", "name", "link"])
@pytest.mark.parametrize("privacy", ["private", "public"])
@pytest.mark.parametrize("sent", ["by Kinto", "by another"])
def test_who_reads_what_how(make_private, stored, sent, privacy, way):
    other = elsewhere(stored) if sent == "by another" else {}
    mode = other.get("download.mode", "stream")
    record = make_private({**other, "private": str(privacy == "private").lower()})
    record.attach(CONTENT, "a.txt")
    app = record.app
    group = "/buckets/b/groups/readers"
    app.put_json(f"/v1{group}", {"data": {"members": [app.as_user("bob").userid]}})
    app.patch_json(record.path, {"permissions": {"read": [group]}})
    app.patch_json(COLLECTION, {"permissions": {"read": [app.as_user("eve").userid]}})
    url = {"record": record.endpoint, "name": by_name(record), "link": link_to(record)}[way]
    apps = {"owner": app, **{role: app.as_user(name) for role, name in USERS.items()}}

    answers, rules = {}, {}
    for user, asked in product(apps, REQUESTS):
        method, headers = REQUESTS[asked]
        answer = apps[user].request(url, method=method, headers=headers, status="*")
        answers[user, asked] = seen(answer)
        rules[user, asked] = expected(mode, privacy == "private", way, user, asked)
        if answer.status_code < 400 and privacy == "private":
            assert answer.headers["Vary"] == "Authorization"
            assert answer.headers["CDN-Cache-Control"] == "no-store"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            no_store = "private, no-store" if answer.status_code == 302 else "private, no-cache"
            assert answer.headers["Cache-Control"] == no_store

    assert answers == rules


class TestByName:
    @pytest.mark.parametrize("user", [None, "bob"])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.usefixtures("where")
    @pytest.mark.both_storages
    def test_what_is_unknown_and_what_is_forbidden_answer_alike(self, record, user, method):
        record.other().attach(b"gone")
        gone = by_name(record.other())
        record.app.delete(record.other().path)
        names = {
            "forbidden": by_name(record),
            "unknown": f"/v1/attachments/_private/{'0' * 36}.txt",
            "gone": gone,
        }
        app = record.app.as_user(user)

        answers = {
            case: app.request(url, method=method, status="*") for case, url in names.items()
        }

        first = answers["forbidden"]
        assert first.status_code == (401 if user is None else 404)
        assert ("WWW-Authenticate" in first.headers) == (user is None)
        assert "plan" not in first.text
        for answer in answers.values():
            assert answer.status_code == first.status_code
            assert dict(answer.headers) == dict(first.headers)
            assert answer.body == first.body

    @pytest.mark.parametrize("user", [None, "bob"])
    def test_kintos_log_is_alike_too(self, record, user, caplog):
        app = record.app.as_user(user)
        lines = []
        for url in (by_name(record), "/v1/attachments/_private/unknown.txt"):
            caplog.clear()
            with caplog.at_level(logging.INFO, "request.summary"):
                app.get(url, status="4*")
            (line,) = (each for each in caplog.records if each.name == "request.summary")
            lines.append({*vars(line)})
            assert (getattr(line, "uid", None) is None) == (user is None)
        assert lines[0] == lines[1]

    @pytest.mark.sampled
    @pytest.mark.parametrize(
        ("mode", "asks"), [(None, True), ("navigate", True), ("no-cors", False), ("cors", False)]
    )
    @pytest.mark.parametrize("way", ["record", "name", "default"])
    def test_only_a_page_that_opens_asks_for_a_password(self, record, mode, asks, way):
        alias = "/v1/buckets/default/collections/c/records/r/attachment"
        url = {"record": record.endpoint, "name": by_name(record), "default": alias}[way]
        headers = {} if mode is None else {"Sec-Fetch-Mode": mode}

        answer = record.app.as_user(None).get(url, headers=headers, status=401)

        assert ("WWW-Authenticate" in answer.headers) == asks

    def test_an_image_of_a_page_is_an_answer_like_any_other(self, record):
        answer = record.app.get(by_name(record), headers={"Sec-Fetch-Mode": "no-cors"})

        assert answer.body == CONTENT

    def test_a_page_of_another_origin_sees_a_refusal(self, record):
        origin = {"Origin": "https://elsewhere.example.org"}
        url = by_name(record)

        assert record.app.as_user(None).get(url, headers=origin, status=401).headers[
            "Access-Control-Allow-Origin"
        ] in ("*", origin["Origin"])
        preflight = record.app.options(
            url,
            headers={
                **origin,
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization, range",
            },
        )
        assert preflight.headers["Access-Control-Allow-Origin"] == "*"

    def test_everybody_reads_what_is_for_everybody(self, record):
        record.app.patch_json(record.path, {"permissions": EVERYONE})

        assert record.app.as_user(None).get(by_name(record)).body == CONTENT

    @pytest.mark.both_storages
    def test_what_is_revoked_is_revoked_at_once(self, record):
        bob, url = record.app.as_user("bob"), by_name(record)
        record.app.patch_json(record.path, {"permissions": {"read": [bob.userid]}})
        assert bob.get(url).body == CONTENT

        record.app.patch_json(record.path, {"permissions": {"read": []}})

        bob.get(url, status=404)
        bob.get(record.endpoint, status=403)

    def test_ids_are_no_patterns(self, record):
        """``a_b`` is not ``axb``, nor ``a.b``."""
        app, bob = record.app, record.app.as_user("bob")
        for record_id in ("a_b", "a-b", "axb"):
            app.put_json(record.other(record_id).path, {"permissions": {"read": [bob.userid]}})
        secret = record.other("a-b")
        app.patch_json(secret.path, {"permissions": {"read": []}})
        secret.attach(b"of a-b", filename="b")
        underscore = record.other("a_b")
        app.patch_json(underscore.path, {"permissions": {"read": []}})
        underscore.attach(b"of a_b")

        bob.get(by_name(secret), status=404)
        bob.get(by_name(underscore), status=404)

        app.patch_json(underscore.path, {"permissions": {"read": [bob.userid]}})
        assert bob.get(by_name(underscore)).body == b"of a_b"
        bob.get(by_name(secret), status=404)

    @pytest.mark.both_storages
    def test_any_record_that_shows_it_lets_its_readers_read(self, record):
        copy, bob = record.other("copy"), record.app.as_user("bob")
        copy.create(attachment=record.data["attachment"])
        url = by_name(record)
        bob.get(url, status=404)

        record.app.patch_json(copy.path, {"permissions": {"read": [bob.userid]}})
        assert bob.get(url).body == CONTENT

        record.app.patch_json(copy.path, {"data": {"attachment": None}})
        bob.get(url, status=404)

    @pytest.mark.leaves("rows that name a record which shows the file no more")
    @pytest.mark.parametrize("indexed", [True, False])
    def test_a_record_that_shows_it_no_more_lets_nobody_read(self, record, monkeypatch, indexed):
        """A plugin may write it without an event."""
        copy, bob = record.other("copy"), record.app.as_user("bob")
        copy.create(attachment=record.data["attachment"])
        record.app.patch_json(copy.path, {"permissions": {"read": [bob.userid]}})
        if not indexed:
            without_index(monkeypatch)
        assert bob.get(by_name(record)).body == CONTENT

        silently(copy, {"title": "none"})

        bob.get(by_name(record), status=404)
        record.app.get(by_name(record))
        record.app.as_user("eve").get(by_name(record), status=404)

    @pytest.mark.leaves("a record that no row names")
    def test_a_record_that_was_written_silently_lets_nobody_read(self, record):
        forged, bob = record.other("forged"), record.app.as_user("bob")
        forged.create(title="mine")
        record.app.patch_json(forged.path, {"permissions": {"read": [bob.userid]}})

        silently(forged, {"attachment": record.data["attachment"]})

        bob.get(by_name(record), status=404)
        bob.get(forged.endpoint, status=404)
        bob.post_json(f"{forged.endpoint}/link", {}, status=404)
        # Who may read it anyway reads it there, too.
        assert record.app.get(forged.endpoint).body == CONTENT

    def test_a_kept_file_is_for_nobody(self, make_private):
        settings = {"kinto.record_read_principals": "system.Authenticated"}
        record = make_private({"keep_old_files": "true"}, **settings)
        record.attach(CONTENT)
        url, link = by_name(record), link_to(record)
        record.app.as_user("bob").get(url)
        record.detach()

        record.app.get(url, status=404)
        record.app.as_user(None).get(link, status=403)

    @pytest.mark.both_storages
    @pytest.mark.leaves("a row that does not say what the name does")
    def test_a_row_that_does_not_say_what_the_name_does_serves_nothing(self, record):
        rows, name = Rows(record.app.registry.storage), name_of(record)
        url, link = by_name(record), link_to(record)
        with transaction.manager:
            row = rows.get(FILES, name)
            del row["private"]
            rows.put(FILES, name, row)

        record.app.get(url, status=404)
        record.app.get(record.endpoint, status=404)
        record.app.get(link, status=403)

    @pytest.mark.leaves("records whose rows were written by hand")
    @pytest.mark.parametrize("backend", ["postgresql"])
    def test_a_thousand_holders_are_few_questions(self, record):
        hold_also(record, [f"r{number}" for number in range(1000)])
        url, statements = by_name(record), []

        def remember(connection, cursor, statement, *rest) -> None:
            statements.append(statement)

        for user, status in (("alice", 200), ("bob", 404)):
            app = record.app.as_user(user)
            app.get(url, status=status)
            statements.clear()
            event.listen(Engine, "before_cursor_execute", remember)
            try:
                app.get(url, status=status)
            finally:
                event.remove(Engine, "before_cursor_execute", remember)
            assert len(statements) <= 12

    def test_it_is_not_part_of_a_batch(self, record):
        requests = [
            {"method": "GET", "path": by_name(record)},
            {"method": "GET", "path": "/v1/attachments/_private/none"},
            {"method": "PUT", "path": record.other().path},
        ]

        def statuses(app):
            answers = app.post_json("/v1/batch", {"requests": requests}).json["responses"]
            return [each["status"] for each in answers]

        assert statuses(record.app) == [400, 404, 201]
        assert statuses(record.app.as_user(None)) == [401, 401, 401]

    @pytest.mark.leaves("a missing file")
    @pytest.mark.parametrize("user", [None, "alice"])
    def test_a_file_that_is_lost(self, record, user):
        record.app.patch_json(record.path, {"permissions": EVERYONE})
        url, link = by_name(record), link_to(record)
        record.stored.path_of(name_of(record)).unlink()

        record.app.as_user(user).get(url, status=401 if user is None else 404)
        record.app.as_user(user).get(link, status=403)


class TestWhere:
    def test_at_base_url_where_kinto_serves_private_files_only(self, make_private):
        base_url = "http://localhost/v1/files/"
        settings = {"base_url": base_url, "resources.b.public.private": "false"}
        record = make_private(settings)
        record.app.put_json("/v1/buckets/b/collections/public", {})
        record.attach(CONTENT)
        public = record.other("r", "public")
        public.attach(b"public")

        location = record.data["attachment"]["location"]
        assert location.startswith(f"{base_url}_private/")
        assert record.app.get(location).body == CONTENT
        record.app.as_user(None).get(location, status=401)
        location = public.data["attachment"]["location"]
        record.app.get(location, status=404)
        name = location.removeprefix(base_url)
        record.app.get(f"/v1/attachments/{name}", status=404)
        assert record.app.as_user(None).get(link_to(public)).body == b"public"

    def test_public_files_where_kinto_serves_them(self, make_record):
        settings = {"base_url": "http://localhost/v1/files/", "serve_files": "true"}
        record = make_record(attachment=settings)
        record.attach(CONTENT)
        location = record.data["attachment"]["location"]

        for url in (location, location.replace("/files/", "/attachments/")):
            assert record.app.as_user(None).get(url).body == CONTENT

    @pytest.mark.parametrize("path", ["attachments/", "attachments", "attachments/x/", "of/files"])
    def test_at_a_base_url_beside_or_below_it(self, make_private, path):
        base_url = f"http://localhost/v1/{path}"
        record = make_private({"base_url": base_url, "serve_files": "true"})
        record.attach(CONTENT)
        location = record.data["attachment"]["location"]

        assert record.app.get(location).body == CONTENT
        record.app.as_user(None).get(location, status=401)
        assert record.app.as_user(None).get(link_to(record)).body == CONTENT

    def test_a_public_file_keeps_its_caching_by_name_but_not_by_its_record(self, make_record):
        forever = "public, max-age=31536000, immutable"
        served = {"base_url": "http://localhost/v1/files/", "serve_files": "true"}
        record = make_record(attachment={"cache_control": forever, **served})
        record.attach(CONTENT)

        location = record.data["attachment"]["location"]
        assert record.app.get(location).headers["Cache-Control"] == forever
        assert record.app.get(link_to(record)).headers["Cache-Control"] == forever
        answer = record.app.get(record.endpoint)
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert "Vary" not in answer.headers or "Authorization" not in answer.headers["Vary"]

    def test_a_private_file_is_never_cached_by_others(self, make_private):
        record = make_private({"cache_control": "public, max-age=60"})
        record.attach(CONTENT)

        for url in (record.endpoint, by_name(record), link_to(record)):
            answer = record.app.get(url)
            assert answer.headers["Cache-Control"] == "private, no-cache"


class TestAccel:
    """nginx sends the file."""

    @pytest.fixture(params=["/internal/", "/internal"])
    def make(self, make_private, request):
        def make(**settings):
            accel = {"download.mode": "accel", "download.accel_prefix": request.param}
            record = make_private({**accel, **settings})
            record.attach(CONTENT, "a.txt")
            return record

        return make

    @pytest.mark.parametrize("privacy", ["private", "public"])
    def test_from_a_location_of_each_store(self, make, privacy):
        record = make(private=str(privacy == "private").lower(), folder="{bucket_id}")
        name = name_of(record).removeprefix("_private/")

        answer = record.app.get(record.endpoint)

        assert answer.headers["X-Accel-Redirect"] == f"/internal/{privacy}/{name}"
        assert answer.body == b""
        assert answer.headers["Content-Type"] == "text/plain"
        assert answer.headers["ETag"] == ETAG
        assert answer.headers["Content-Disposition"].startswith("inline")
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert "Accept-Ranges" not in answer.headers
        assert "Content-Range" not in answer.headers

    @pytest.mark.leaves("a file under another name")
    def test_its_path_is_percent_encoded(self, make_record):
        accel = {"download.mode": "accel", "download.accel_prefix": "/internal"}
        served = {"base_url": "http://localhost/v1/files/", "serve_files": "true"}
        record = make_record(attachment={**accel, **served})
        record.attach(CONTENT)
        (name,) = record.files()
        odd = "of 2020/a?b%41.txt"
        rename(record, name, odd)

        answer = record.app.get("/v1/files/of%202020/a%3Fb%2541.txt")

        assert answer.headers["X-Accel-Redirect"] == "/internal/public/of%202020/a%3Fb%2541.txt"

    @pytest.mark.leaves("a missing file")
    def test_a_file_that_is_lost(self, make):
        record = make()
        record.stored.path_of(name_of(record)).unlink()

        record.app.get(record.endpoint, status=404)


@pytest.mark.parametrize(("where", "backend"), [("s3", "memory")])
class TestRedirect:
    """The storage sends the file."""

    @pytest.fixture
    def record(self, make_private):
        record = make_private({"download.mode": "redirect", "download.link_expires": "10m"})
        record.attach(CONTENT, "é.svg")
        return record

    def test_to_a_presigned_url(self, record):
        answer = record.app.get(record.endpoint, status=302)

        url = answer.headers["Location"]
        query = parse_qs(urlsplit(url).query)
        assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
        assert query["X-Amz-Expires"] == ["600"]
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.body == b""
        with urllib.request.urlopen(url) as sent:  # noqa: S310 - of the test's own server
            assert sent.read() == CONTENT
            assert sent.headers["Content-Type"] == "image/svg+xml"
            assert sent.headers["Content-Disposition"].startswith('attachment; filename="e.svg"')
            assert sent.headers["Cache-Control"] == "private, no-store"

    def test_in_a_batch_nothing_is_followed(self, record):
        requests = [{"method": "GET", "path": record.endpoint}]

        answers = record.app.post_json("/v1/batch", {"requests": requests}).json["responses"]

        assert [each["status"] for each in answers] == [400]
        assert "X-Amz" not in json.dumps(answers)

    def test_through_the_alias(self, make_private, stored):
        app = make_private({"download.mode": "redirect"}).app
        record = Record(app, stored, "/buckets/default/collections/c/records/r")
        record.attach(CONTENT)

        answer = app.get(record.endpoint, status=302)

        assert "X-Amz-Signature" in answer.headers["Location"]

    def test_the_url_is_in_no_log(self, record, caplog):
        logger = logging.getLogger("request.summary")
        before = logger.level
        logger.setLevel(logging.DEBUG)
        try:
            with caplog.at_level(logging.DEBUG):
                url = record.app.get(record.endpoint, status=302).headers["Location"]
        finally:
            logger.setLevel(before)

        logged = "\n".join(
            str(vars(each))
            for each in caplog.records
            if "kinto" in each.name or each.name == "request.summary"
        )
        assert "attachment" in logged
        assert "X-Amz" not in logged
        assert urlsplit(url).query not in logged

    def test_a_storage_without_such_urls_lets_kinto_send(self, record, monkeypatch):
        files = record.app.registry.attachment_files
        monkeypatch.setattr(files, "presigned_url", FileStorage.presigned_url.__get__(files))

        assert record.app.get(record.endpoint).body == CONTENT

    def test_a_lost_file_is_not_there(self, record):
        record.app.registry.attachment_files.private.delete(
            name_of(record).removeprefix("_private/")
        )

        record.app.get(record.endpoint, status=404)

        record.app.delete(record.path)


def silently(record, data):
    """Write a record without an event."""
    parent_id, _, object_id = record.uri.rpartition("/records/")
    where = {"resource_name": "record", "parent_id": parent_id, "object_id": object_id}
    with transaction.manager:
        record.app.registry.storage.update(**where, obj=data)


def hold_also(record, ids):
    """As if these records had copied the attachment, one after the other."""
    storage, attachment, name = (
        record.app.registry.storage,
        record.data["attachment"],
        name_of(record),
    )
    rows = Rows(storage)
    with transaction.manager:
        for record_id in ids:
            parent_id = record.uri.rpartition("/records/")[0]
            obj = {"id": record_id, "attachment": attachment}
            storage.create(resource_name="record", parent_id=parent_id, obj=obj)
            uri = f"{parent_id}/records/{record_id}"
            location = attachment["location"]
            rows.put(HOLDINGS, uri, {"uri": uri, "name": name, "location": location})
        holders = [record.uri, *(f"{parent_id}/records/{each}" for each in ids)]
        rows.put(FILES, name, {**rows.get(FILES, name), "holders": sorted(holders)})


def without_index(monkeypatch):
    def missing(*arguments, **named):
        raise location_index.IndexMissing()

    monkeypatch.setattr("kinto_attachment.attachments.lookup.records_ending_with", missing)


def rename(record, name, other):
    """As if an earlier version had stored the file under this name."""
    (record.folder / other).parent.mkdir()
    (record.folder / name).rename(record.folder / other)
    rows = Rows(record.app.registry.storage)
    with transaction.manager:
        rows.put(FILES, other, {**rows.get(FILES, name), "name": other})
