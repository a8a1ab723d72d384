"""Conditions and ranges of a GET: RFC 9110, sections 13 and 14, and nothing raises."""

from __future__ import annotations

import os
from datetime import datetime, timezone

import pytest

CONTENT = b"0123456789"
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE, AFTER = "Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT"
# What no date, no number and no list should do.
STRANGE = [
    "",
    "x",
    "0",
    "-",
    "Fri, 31 Dec 99999 23:59:59 GMT",
    "Fri, 31 Dec 0000 23:59:59 GMT",
    "Mon, 99 Jan 2001 99:99:99 GMT",
    "Sun, 06 Nov 1994 08:49:37 +9999",
    "9" * 6000,
    "bytes=" + "9" * 6000 + "-",
    "bytes=-" + "9" * 6000,
    "bytes=0-" + "9" * 6000,
    "bytes=" + ",".join(["0-0"] * 500),
    ", ".join([MODIFIED] * 100),
    '"' * 6001,
    'W/"' * 2000,
    "\xe9\xff",
]


@pytest.fixture
def backend():
    """What is asked and answered does not depend on where the objects are."""
    return "memory"


@pytest.fixture
def get(make_record):
    """``get(status, If_Match="x")``: the answer to a GET of the file with these headers."""
    record = make_record(
        attachment={"serve_files": "true", "base_url": "http://localhost/v1/files/"}
    )
    location = record.attach(CONTENT, "a.txt").json["location"]
    (name,) = record.files()
    seconds = datetime(1994, 11, 6, 8, 49, 37, tzinfo=timezone.utc).timestamp()
    os.utime(record.folder / name, (seconds, seconds + 0.5))
    etag = f'"{record.data["attachment"]["hash"]}"'

    def send(status=None, method="GET", **headers):
        sent = {
            name.replace("_", "-"): text.replace("ETAG", etag) for name, text in headers.items()
        }
        return record.app.request(location, method=method, headers=sent, status=status)

    return send


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_Match": "ETAG"}, 200),
        ({"If_Match": '"x", ETAG'}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_Match": "W/ETAG"}, 412),
        ({"If_Match": '"x"'}, 412),
        ({"If_Match": "nonsense"}, 412),
        ({"If_Match": "ETAG", "If_Unmodified_Since": BEFORE}, 200),
        ({"If_Unmodified_Since": BEFORE}, 412),
        ({"If_Unmodified_Since": MODIFIED}, 200),
        ({"If_Unmodified_Since": AFTER}, 200),
        ({"If_Unmodified_Since": "Fri, 31 Dec 9999 23:59:59 GMT"}, 200),
        ({"If_Unmodified_Since": "Mon, 01 Jan 0001 00:00:00 GMT"}, 412),
        ({"If_None_Match": "ETAG"}, 304),
        ({"If_None_Match": "W/ETAG"}, 304),
        ({"If_None_Match": '"x",W/"y",ETAG'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"x"'}, 200),
        ({"If_None_Match": '"x"', "If_Modified_Since": AFTER}, 200),
        ({"If_None_Match": "ETAG", "If_Match": '"x"'}, 412),
        ({"If_Modified_Since": MODIFIED}, 304),
        ({"If_Modified_Since": AFTER}, 304),
        ({"If_Modified_Since": BEFORE}, 200),
        ({"If_Modified_Since": "Sunday, 06-Nov-94 08:49:37 GMT"}, 304),
        ({"If_Modified_Since": "Sunday, 06-Nov-93 08:49:37 GMT"}, 200),
        ({"If_Modified_Since": "Saturday, 06-Nov-49 08:49:37 GMT"}, 304),
        ({"If_Modified_Since": "Sun Nov  6 08:49:37 1994"}, 304),
        ({"If_Modified_Since": "Sun Nov  6 08:49:36 1994"}, 200),
        ({"If_Modified_Since": "Fri, 31 Dec 9999 23:59:59 GMT"}, 304),
        ({"If_None_Match": "ETAG", "Range": "bytes=10-"}, 304),
        ({"If_Match": '"x"', "Range": "bytes=10-"}, 412),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions(get, headers, status, method):
    answer = get(status, method, **headers)

    if method == "GET":
        assert (answer.body == CONTENT) == (status == 200)
    if status == 412:
        assert method == "HEAD" or answer.json["errno"] == 114
    else:
        assert answer.headers["ETag"]
        assert answer.headers["Last-Modified"] == MODIFIED
    if status == 304:
        assert answer.body == b""
        assert "Content-Type" not in answer.headers


@pytest.mark.parametrize(
    ("asked", "content", "content_range"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=8-", b"89", "bytes 8-9/10"),
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=5-1000", b"56789", "bytes 5-9/10"),
        ("bytes=5-18446744073709551615", b"56789", "bytes 5-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-10", CONTENT, "bytes 0-9/10"),
        ("bytes=-1000", CONTENT, "bytes 0-9/10"),
        ("BYTES= 2-4 ", b"234", "bytes 2-4/10"),
    ],
)
def test_ranges(get, asked, content, content_range):
    answer = get(206, Range=asked)

    assert answer.body == content
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Content-Range"] == content_range


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-4", "bytes=-", "bytes=a-b", "bytes=", "lines=1-2", "bytes=0-1,3-4", "bytes=0--1"],
)
def test_what_is_no_single_range_is_answered_as_the_whole(get, asked):
    answer = get(200, Range=asked)

    assert answer.body == CONTENT
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=-000"])
def test_ranges_beyond_the_end(get, asked):
    answer = get(416, Range=asked)

    assert answer.headers["Content-Range"] == "bytes */10"
    assert answer.json["errno"] == 107


def test_ranges_of_an_empty_file(make_record):
    record = make_record(
        attachment={"serve_files": "true", "base_url": "http://localhost/v1/files/"}
    )
    location = record.attach(b"").json["location"]

    record.app.get(location, headers={"Range": "bytes=0-"}, status=416)
    assert record.app.get(location, headers={"Range": "bytes=-5"}, status=200).body == b""


def test_ranges_are_for_get_only(get):
    assert get(200, "HEAD", Range="bytes=2-4").headers["Content-Length"] == "10"
    get(200, "HEAD", Range="bytes=10-")


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        ("ETAG", 206),
        (MODIFIED, 206),
        ("Sun Nov  6 08:49:37 1994", 206),
        ("W/ETAG", 200),
        ('"x"', 200),
        (AFTER, 200),
        (BEFORE, 200),
        ("nonsense", 200),
        ("*", 200),
    ],
)
def test_a_range_of_the_version_that_the_client_has(get, if_range, status):
    assert get(status, Range="bytes=2-4", If_Range=if_range).status_code == status


@pytest.mark.parametrize(
    "name",
    ["Range", "If_Range", "If_Match", "If_None_Match", "If_Modified_Since", "If_Unmodified_Since"],
)
def test_what_makes_no_sense_is_ignored(get, name):
    for text in STRANGE:
        headers = {"Range": "bytes=2-4"} if name == "If_Range" else {}
        answer = get("*", **{**headers, name: text})

        # An ETag that is none is not that of the file; the year 0 is before it.
        is_compared = name == "If_Match" or (name == "If_Unmodified_Since" and " 0000 " in text)
        assert answer.status_code == (412 if is_compared else 200), text


def test_pages_from_elsewhere_may_read_refusals(get):
    answer = get(416, Range="bytes=10-", Origin="https://elsewhere.example.org")

    assert answer.headers["Access-Control-Allow-Origin"] in ("*", "https://elsewhere.example.org")


def test_a_file_in_a_batch_is_refused_and_the_others_are_answered(make_record):
    record = make_record(
        attachment={"serve_files": "true", "base_url": "http://localhost/v1/files/"}
    )
    path = record.attach(CONTENT).json["location"].removeprefix("http://localhost")
    requests = [
        {"method": "GET", "path": "/buckets/b"},
        {"method": "GET", "path": path},
        {"method": "HEAD", "path": path},
        {"method": "GET", "path": f"{path}.unknown"},
        {"method": "PUT", "path": "/buckets/b/collections/made"},
    ]

    answers = record.app.post_json("/v1/batch", {"requests": requests}).json["responses"]

    assert [answer["status"] for answer in answers] == [200, 400, 400, 404, 201]
    assert answers[1]["body"]["message"].startswith("Files cannot be part of a batch")
