"""The files, served by Kinto itself."""

from __future__ import annotations

import pytest
from pyramid.exceptions import ConfigurationError

SERVED = {"serve_files": "true", "base_url": "http://localhost/v1/files/"}


@pytest.fixture
def backend():
    """What is asked and answered does not depend on where the objects are."""
    return "memory"


@pytest.fixture
def record(make_record):
    return make_record(attachment=SERVED)


@pytest.fixture
def anyone(record):
    return record.as_user(None).app


def location_of(record, content=b"0123456789", filename="a.txt", content_type=None):
    return record.attach(content, filename, content_type).json["location"]


def test_a_file_opens_at_its_location(record, anyone):
    response = anyone.get(location_of(record))

    assert response.body == b"0123456789"
    assert response.headers["Content-Length"] == "10"
    assert response.headers["Content-Type"] == "text/plain"


def test_a_file_is_served_as_what_its_record_says(record, anyone):
    location = location_of(record, filename="a.txt", content_type="application/x-thing")

    assert anyone.get(location).headers["Content-Type"] == "application/x-thing"


def test_only_the_headers(record, anyone):
    response = anyone.head(location_of(record))

    assert response.headers["Content-Length"] == "10"


@pytest.mark.parametrize(
    ("asked", "content", "content_range"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=8-", b"89", "bytes 8-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
    ],
)
def test_a_part_of_a_file(record, anyone, asked, content, content_range):
    response = anyone.get(location_of(record), headers={"Range": asked}, status=206)

    assert response.body == content
    assert response.headers["Content-Range"] == content_range


def test_a_part_that_is_not_there(record, anyone):
    anyone.get(location_of(record), headers={"Range": "bytes=10-"}, status=416)


def test_a_file_that_the_client_has(record, anyone):
    location = location_of(record)
    first = anyone.get(location)

    anyone.get(location, headers={"If-None-Match": first.headers["ETag"]}, status=304)
    since = {"If-Modified-Since": first.headers["Last-Modified"]}
    anyone.get(location, headers=since, status=304)


def test_the_etag_is_the_hash(record, anyone):
    location = location_of(record)

    assert anyone.get(location).headers["ETag"] == f'"{record.data["attachment"]["hash"]}"'


@pytest.mark.parametrize("filename", ["a.html", "a.svg", "a.pdf"])
def test_no_script_of_a_file_runs(record, anyone, filename):
    headers = anyone.get(location_of(record, filename=filename)).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert ("sandbox" in policy) == (filename != "a.pdf")


def test_pages_from_elsewhere_may_fetch_files(record, anyone):
    origin = {"Origin": "https://elsewhere.example.org"}

    assert anyone.get(location_of(record), headers=origin).headers[
        "Access-Control-Allow-Origin"
    ] in ("*", origin["Origin"])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_headers_are_those_of_a_file_that_is_read_by_its_record(record, anyone, method):
    location = location_of(record, filename="é.svg")

    by_name = dict(anyone.request(f"{location}?download", method=method).headers)
    by_record = dict(record.app.request(f"{record.endpoint}?download", method=method).headers)

    # In any order.
    exposed = [
        set(headers.pop("Access-Control-Expose-Headers").split(", "))
        for headers in (by_name, by_record)
    ]
    assert exposed[0] == exposed[1]
    assert by_name == by_record


def test_caches_keep_a_file_as_long_as_the_settings_of_its_collection_say(make_record):
    settings = {"cache_control": "max-age=60", "resources.b.c.cache_control": "max-age=3600"}
    record = make_record(attachment={**SERVED, **settings, "keep_old_files": "true"})
    location = location_of(record)

    assert record.app.get(location).headers["Cache-Control"] == "max-age=3600"

    # Kept, but of no collection any more.
    record.detach()
    assert record.app.get(location).headers["Cache-Control"] == "max-age=60"


def test_the_preflight_of_a_range(record, anyone):
    answer = anyone.options(
        location_of(record),
        headers={
            "Origin": "https://elsewhere.example.org",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "range",
        },
    )

    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "range" in answer.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_not_allowed(record, anyone, method):
    anyone.request(location_of(record), method=method, status=405)


@pytest.mark.leaves("a file of others")
@pytest.mark.parametrize(
    "path", ["", "/", "/b", "/b/", "/..", "/../kinto.ini", "/%00", "/.x.part"]
)
def test_nothing_else_is_served(make_record, path):
    record = make_record(attachment={**SERVED, "folder": "{bucket_id}"})
    record.attach()
    (record.folder / ".x.part").write_text("not yet a file")
    (record.folder.parent / "kinto.ini").write_text("secret")

    response = record.app.get(f"/v1/files{path}", expect_errors=True)

    assert response.status_code in (404, 307)


@pytest.mark.leaves("a file of others")
def test_files_that_the_plugin_does_not_own_are_not_served(record, anyone):
    record.attach()
    (record.folder / "other.txt").write_text("of somebody else")

    anyone.get("/v1/files/other.txt", status=404)


def test_files_that_are_gone_are_not_served(record, anyone):
    location = location_of(record)
    record.detach()

    anyone.get(location, status=404)


def test_files_are_not_served_unless_asked_for(make_record):
    record = make_record(attachment={"base_url": SERVED["base_url"]})

    record.app.get(location_of(record), status=404)


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "http://localhost/files/",
        "http://localhost/v1/",
        "http://localhost/v1/buckets/",
        "http://localhost/v1/batch/x/",
        "https://cdn.example.org/",
    ],
)
def test_a_base_url_that_kinto_cannot_serve(make_app, base_url):
    with pytest.raises(ConfigurationError, match=r"kinto\.attachment\.serve_files"):
        make_app(attachment={**SERVED, "base_url": base_url})


def test_a_path_may_be_the_base_url(make_record):
    record = make_record(attachment={**SERVED, "base_url": "/v1/of/files"})

    assert record.app.get(location_of(record)).body == b"0123456789"
