"""Signed links to the files of records."""

from __future__ import annotations

import io
import logging
import time

import pytest
import transaction
import webtest
from kinto.core.events import ResourceChanged
from kinto.core.metrics import IMetricsService, NoOpMetricsService, NoOpTimer

from kinto_attachment.attachments.lookup import FILES
from kinto_attachment.database import location_index
from kinto_attachment.database.rows import Rows
from tests.support.records import Record

CONTENT = b"0123456789"


@pytest.fixture
def make_private(make_record, stored):
    """``make_private({"download.secret": "..."})``: a record with a private file."""

    def make(attachment=None, **settings):
        private = {**stored.private_settings, "private": "true"}
        record = make_record(attachment={**private, **(attachment or {})}, **settings)
        record.attach(CONTENT, "secret plan.txt")
        return record

    return make


@pytest.fixture
def record(make_private):
    return make_private()


@pytest.fixture
def anyone(record):
    return record.app.as_user(None)


def ask(record, status=201, **options):
    return record.app.post_json(f"{record.endpoint}/link", options, status=status)


def link_to(record, **options):
    return ask(record, **options).json["url"]


def token_in(url):
    return url.partition("/~")[2].partition("/")[0]


def grant_read(record, user="bob"):
    principal = record.app.as_user(user).userid
    record.app.patch_json(record.path, {"permissions": {"read": [principal]}})
    return record.as_user(user)


@pytest.fixture
def clock(monkeypatch):
    """``clock(seconds)``: from now on it is so much later."""
    real = time.time

    def advance(seconds):
        for module in ("attachments.reading", "views.link"):
            monkeypatch.setattr(f"kinto_attachment.{module}.time", Clock(real, seconds))

    return advance


class Clock:
    def __init__(self, real, seconds):
        self.time = lambda: real() + seconds


# To make one


@pytest.mark.both_storages
def test_whoever_may_read_the_record_may_make_one(record, anyone):
    answer = ask(grant_read(record))

    assert answer.json.keys() == {"url", "expires"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["expires"] == pytest.approx(time.time() + 3600, abs=10)
    assert answer.json["url"].startswith(
        f"http://localhost/v1/attachments/~{answer.json['expires']}."
    )
    assert anyone.get(answer.json["url"]).body == CONTENT


@pytest.mark.parametrize(("user", "status"), [("bob", 403), (None, 401)])
@pytest.mark.parametrize("record_id", ["r", "none"])
def test_nobody_else_may(record, user, status, record_id):
    ask(record.other(record_id).as_user(user), status)


@pytest.mark.parametrize(
    "uri", ["/buckets/b/collections/c/records/none", "/buckets/b/collections/none/records/r"]
)
def test_not_of_what_does_not_exist(record, uri):
    answer = ask(Record(record.app, record.stored, uri), 404)

    assert answer.json["code"] == 404


def test_not_of_a_record_without_a_file(record):
    record.other().create(attachment={"location": "/"})

    assert ask(record.other(), 404).json["message"] == "The record has no attachment."
    ask(Record(record.app, record.stored, "/buckets/b/collections/c/records/%00"), 400)
    ask(Record(record.app, record.stored, "/buckets/b/collections/%00/records/r"), 404)


def test_public_files_have_them_too(make_record):
    record = make_record()
    record.attach(CONTENT, "a.txt")

    answer = record.app.as_user(None).get(link_to(record, download=True))

    assert answer.body == CONTENT
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_a_shorter_life(record, anyone, clock):
    answer = ask(record, expires_in=60)

    assert answer.json["expires"] == pytest.approx(time.time() + 60, abs=10)
    clock(50)
    anyone.get(answer.json["url"])
    clock(70)
    anyone.get(answer.json["url"], status=403)


def test_to_save_the_file(record, anyone):
    shown = anyone.get(link_to(record)).headers["Content-Disposition"]
    saved = anyone.get(link_to(record, download=True)).headers["Content-Disposition"]
    asked = anyone.get(f"{link_to(record)}?download").headers["Content-Disposition"]

    assert shown.startswith('inline; filename="secret plan.txt"')
    assert saved == asked == shown.replace("inline", "attachment")


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"expires_in": 0}', "expires_in"),
        ('{"expires_in": 3601}', "1 to 3600"),
        ('{"expires_in": 1.5}', "whole number"),
        ('{"expires_in": true}', "whole number"),
        ('{"expires_in": "60"}', "whole number"),
        (f'{{"expires_in": {"9" * 900}}}', "whole number"),
        ('{"expires_in": null}', "whole number"),
        ('{"expires_in": NaN}', "whole number"),
        ('{"download": 1}', "true or false"),
        ('{"downlod": true}', "'downlod' not in ('expires_in', 'download')"),
        ("[]", "not a JSON object"),
        ("{", "not valid JSON"),
        ("\u00e9", "not valid JSON"),
        ("[" * 1000, "not valid JSON"),
        (" " * 2000, "at most 1024 bytes"),
    ],
)
def test_what_cannot_be_asked_for(record, body, says):
    answer = record.app.post(
        f"{record.endpoint}/link",
        body.encode("latin-1"),
        content_type="application/json",
        status=400,
    )

    assert says in answer.json["message"]


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_nothing_has_to_be_asked_for(record, anyone, body):
    answer = record.app.post(f"{record.endpoint}/link", body, status=201)

    assert anyone.get(answer.json["url"]).body == CONTENT


@pytest.mark.both_storages
def test_many_at_once(record, anyone):
    """Thumbnails of a page."""
    for number in range(3):
        record.other(f"r{number}").attach(f"{number}".encode())
    requests = [
        {
            "method": "POST",
            "path": f"{record.other(f'r{number}').endpoint}/link",
            "body": {"expires_in": 60},
        }
        for number in range(3)
    ]
    requests.append({"method": "POST", "path": f"{record.other('none').endpoint}/link"})

    answers = record.app.post_json("/v1/batch", {"requests": requests}).json["responses"]

    assert [each["status"] for each in answers] == [201, 201, 201, 404]
    for number, answer in enumerate(answers[:3]):
        assert anyone.get(answer["body"]["url"]).body == f"{number}".encode()


def test_in_a_batch_the_scheme_is_the_clients(record):
    requests = [{"method": "POST", "path": f"{record.endpoint}/link"}]

    answer = record.app.post_json(
        "/v1/batch", {"requests": requests}, extra_environ={"wsgi.url_scheme": "https"}
    )

    url = answer.json["responses"][0]["body"]["url"]
    assert url.startswith("https://localhost")


@pytest.mark.parametrize("in_batch", [True, False])
def test_through_the_alias(record, stored, anyone, in_batch):
    own = Record(record.app, stored, "/buckets/default/collections/c/records/r")
    own.attach(b"of alice")
    path = f"{own.endpoint}/link"
    if in_batch:
        requests = [{"method": "POST", "path": path}]
        batch = record.app.post_json("/v1/batch", {"requests": requests}).json
        url = batch["responses"][0]["body"]["url"]
    else:
        url = link_to(own)

    assert anyone.get(url).body == b"of alice"
    ask(own.as_user(None), 401)
    ask(Record(record.app, stored, "/buckets/default/collections/none/records/r"), 404)
    buckets = record.app.get("/v1/buckets/default/collections").json["data"]
    assert [each["id"] for each in buckets] == ["c"]


@pytest.mark.parametrize("backend", ["postgresql"])
@pytest.mark.parametrize("bucket_id", ["b", "default"])
def test_a_read_only_server_makes_none_but_takes_them(make_app, record, stored, bucket_id):
    url = link_to(record)
    private = {**stored.private_settings, "private": "true"}
    reader = make_app(attachment=private, **{"kinto.readonly": "true"})
    uri = record.uri.replace("/b/", f"/{bucket_id}/")

    ask(Record(reader, stored, uri), 405)
    assert reader.as_user(None).get(url).body == CONTENT


@pytest.mark.sampled
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_other_methods(record, method):
    record.app.request(f"{record.endpoint}/link", method=method, status=405)
    assert record.data["attachment"]


def test_pages_from_elsewhere_may_make_them(record):
    origin = {"Origin": "https://elsewhere.example.org"}

    answer = record.app.post_json(f"{record.endpoint}/link", {}, headers=origin, status=201)

    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    preflight = record.app.options(
        f"{record.endpoint}/link", headers={**origin, "Access-Control-Request-Method": "POST"}
    )
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("backend", ["memory"])
@pytest.mark.parametrize("former", ["", "secret"])
def test_without_a_secret_there_are_none(make_private, former):
    policies = {"kinto.multiauth.policies": "basicauth"}
    record = make_private(
        {"download.former_secret": former}, **{"kinto.userid_hmac_secret": "", **policies}
    )

    ask(record, 404)
    record.app.as_user(None).get(f"/v1/attachments/~1.v.x/{name_of(record)}", status=403)


# To open one


def name_of(record):
    return record.data["attachment"]["location"].removeprefix("https://files.example.org/")


@pytest.mark.both_storages
def test_a_link_that_is_not_valid_says_nothing_more(record, anyone, clock):
    record.other().attach(b"other")
    url, other = link_to(record), link_to(record.other())
    gone = link_to(record.other())
    record.app.delete(record.other().path)
    wrong = {
        "another": url.replace(token_in(url), token_in(other)),
        "changed": url.replace(".v.", ".d."),
        "cut": url.replace(token_in(url), token_in(url)[:-1]),
        "empty": url.replace(token_in(url), ""),
        "of no file": url.replace(name_of(record), "_private/unknown.txt"),
        "of no name": url.replace(name_of(record), "unknown"),
        "gone": gone,
    }
    answers = {case: anyone.get(each, status=403) for case, each in wrong.items()}
    clock(3601)
    answers["late"] = anyone.get(url, status=403)
    answers["of who may read"] = record.app.get(url, status=403)

    first = answers["late"]
    assert first.json["message"] == "This link is not valid, or not any more."
    for answer in answers.values():
        assert answer.body == first.body
        assert dict(answer.headers) == dict(first.headers)
        assert "WWW-Authenticate" not in answer.headers


def test_a_page_of_another_origin_sees_that(record, anyone):
    headers = {"Origin": "https://elsewhere.example.org"}

    answer = anyone.get(f"/v1/attachments/~x/{name_of(record)}", headers=headers, status=403)

    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_it_only_reads(record, anyone, method):
    anyone.request(link_to(record), method=method, status=405)


def test_parts_and_headers(record, anyone):
    url = link_to(record)

    assert anyone.get(url, headers={"Range": "bytes=2-3"}, status=206).body == b"23"
    assert anyone.head(url).headers["Content-Length"] == "10"
    etag = anyone.get(url).headers["ETag"]
    anyone.get(url, headers={"If-None-Match": etag}, status=304)
    assert anyone.get(url, headers={"Range": "bytes=99-"}, status=416).json["code"] == 416


def test_wrong_credentials_do_no_harm(record, anyone):
    anyone.authorization = ("Bearer", "nobody")

    assert anyone.get(link_to(record)).body == CONTENT


@pytest.mark.both_storages
def test_it_goes_with_the_file(record, anyone):
    url = link_to(record)
    record.attach(b"second")
    anyone.get(url, status=403)

    url = link_to(record)
    record.detach()
    anyone.get(url, status=403)


@pytest.mark.leaves("rows that name a record which shows the file no more")
@pytest.mark.parametrize("indexed", [True, False])
def test_it_goes_with_the_last_record_that_shows_the_file(record, anyone, monkeypatch, indexed):
    url = link_to(record)
    if not indexed:

        def missing(*arguments, **named):
            raise location_index.IndexMissing()

        monkeypatch.setattr("kinto_attachment.attachments.lookup.records_ending_with", missing)
    assert anyone.get(url).body == CONTENT
    parent_id, _, object_id = record.uri.rpartition("/records/")
    with transaction.manager:
        record.app.registry.storage.update(
            resource_name="record", parent_id=parent_id, object_id=object_id, obj={}
        )

    anyone.get(url, status=403)


@pytest.mark.leaves("a row with another hash")
def test_it_is_bound_to_the_content(record, anyone):
    url, name = link_to(record), name_of(record)
    rows = Rows(record.app.registry.storage)
    with transaction.manager:
        rows.put(FILES, name, {**rows.get(FILES, name), "hash": "0" * 64})

    anyone.get(url, status=403)


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_secret_may_change(make_app, make_private, stored):
    record = make_private({"download.secret": "old"})
    url = link_to(record)
    private = {**stored.private_settings, "private": "true", "download.secret": "new"}
    rotated = make_app(attachment={**private, "download.former_secret": "old"}).as_user(None)
    forgotten = make_app(attachment=private).as_user(None)

    assert rotated.get(url).body == CONTENT
    forgotten.get(url, status=403)
    new = Record(
        make_app(attachment={**private, "download.former_secret": "old"}), stored, record.uri
    )
    assert forgotten.get(link_to(new)).body == CONTENT


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_shorter_limit_revokes(make_app, make_private, stored):
    record = make_private({"download.link_expires": "1d"})
    private = {**stored.private_settings, "private": "true", "download.link_expires": "10m"}
    url = link_to(record)
    record.app.as_user(None).get(url)

    make_app(attachment=private).as_user(None).get(url, status=403)


# What stands in logs


@pytest.fixture
def logged(caplog):
    """``logged()``: all that Kinto has logged in this test, at its most talkative."""
    summary = logging.getLogger("request.summary")
    before = summary.level
    summary.setLevel(logging.DEBUG)
    caplog.set_level(logging.DEBUG)

    def text():
        ours = [each for each in caplog.records if each.name.partition(".")[0] in LOGGERS]
        return "\n".join(f"{each.getMessage()} {vars(each)!r}" for each in ours)

    yield text
    summary.setLevel(before)


LOGGERS = ("kinto", "kinto_attachment", "request", "root", "subrequest")


def test_a_link_is_in_no_log(record, anyone, logged):
    url = link_to(record)
    token = token_in(url)
    anyone.get(url)
    anyone.get(url, headers={"Range": "bytes=99-"}, status=416)
    anyone.get(f"{url}?x=%FF", status=400)
    anyone.get(f"{url}x", status=403)
    anyone.get(f"{url.replace(name_of(record), '')}?y", status="*")
    anyone.get(url.replace("/~", "/%7e"))
    anyone.post(url, status=405)

    text = logged()

    assert "/v1/attachments/_private/" in text
    assert "%FF" in text
    assert token not in text
    assert token.rpartition(".")[2] not in text


def test_nor_is_one_where_kinto_fails(record, anyone, logged, monkeypatch):
    url = link_to(record)

    def fail(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(type(record.app.registry.attachment_files), "stat", fail)
    anyone.get(url, status=500)

    assert "ZeroDivisionError" in logged()
    assert token_in(url) not in logged()


def test_nor_in_history_events_or_metrics(make_private):
    def remember(*arguments, **named):
        seen.append(repr((arguments, named)))
        return NoOpTimer()

    class Metrics(NoOpMetricsService):
        count = observe = timer = remember

    seen, events = [], []
    record = make_private(
        **{
            "kinto.includes": "kinto.plugins.default_bucket kinto.plugins.history"
            " kinto_attachment",
            "kinto.metrics_matchdict_fields": "name bucket_id id",
        }
    )
    registry = record.app.registry
    before = registry.metrics
    history = "/v1/buckets/b/history"
    entries = record.app.get(history).json["data"]
    registry.registerUtility(Metrics(), IMetricsService)
    registry.registerHandler(events.append, (ResourceChanged,))
    try:
        url = link_to(record)
        record.app.as_user(None).get(url)
        record.app.as_user(None).get(f"{url}x", status=403)
    finally:
        registry.registerUtility(before, IMetricsService)
        registry.unregisterHandler(events.append, (ResourceChanged,))

    assert record.app.get(history).json["data"] == entries
    assert events == []
    text = "\n".join(seen)
    assert name_of(record) in text
    assert token_in(url).rpartition(".")[2] not in text


def environ_after(app, url, **environ):
    """What a server sees of its environ once the request is over, as gunicorn's access log
    does."""
    request = webtest.TestRequest.blank(url)
    request.environ.update(environ)
    request.environ["wsgi.errors"] = io.StringIO()
    b"".join(app.app(request.environ, lambda *arguments: None))
    return request.environ


@pytest.mark.sampled
@pytest.mark.parametrize("prefix", ["", "http://localhost"])
@pytest.mark.parametrize("query", ["", "?download=1"])
@pytest.mark.parametrize("tilde", ["~", "%7E"])
def test_servers_see_nothing_of_it_when_they_log(record, anyone, prefix, query, tilde):
    path = link_to(record).removeprefix("http://localhost").replace("~", tilde) + query
    raw = dict.fromkeys(("RAW_URI", "REQUEST_URI"), prefix + path)

    environ = environ_after(anyone, path, **raw)

    name = f"/v1/attachments/{name_of(record)}"
    assert environ["PATH_INFO"] == name
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == f"{name}{query}"
    assert token_in(path.replace("%7E", "~")).rpartition(".")[2] not in repr(environ)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "path", ["/attachments/~x.v.y/a", "/v1/buckets/~x.v.y/a", "/v1/~x/a", "/v1/attachments/a/~x"]
)
def test_other_paths_stay_as_they_are(anyone, path):
    environ = environ_after(anyone, path, RAW_URI=path)

    assert environ["RAW_URI"] == environ["PATH_INFO"] == path
