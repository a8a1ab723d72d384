"""Large files go up in chunks, and on where they were."""

from __future__ import annotations

import json
import random

import pytest
import requests

from tests.scripts.conftest import record_id
from tests.support.servers.http import answers, loses_the_answer

MIB = 1024 * 1024
RESUMABLE = ("--resumable-over", "0", "--retry-after", "0")


@pytest.fixture
def state(tmp_path):
    """Where the script keeps how far uploads are."""
    return tmp_path / "state" / "kinto-attachment"


@pytest.fixture
def environ(state):
    return {"XDG_STATE_HOME": str(state.parent)}


@pytest.fixture
def large(local):
    """A file of three chunks."""
    path = local / "large.bin"
    path.write_bytes(random.Random(3).randbytes(33 * MIB))  # noqa: S311
    return path


@pytest.fixture
def chunks(proxy):
    """The proxy's faults are for these: the chunks of uploads."""
    proxy.concerned = lambda request: request.method == "PATCH"
    return proxy


def check_that_it_is_there(kinto, files, path):
    attachment = kinto.record(path.name)["attachment"]
    assert files.path_of(attachment["location"]).read_bytes() == path.read_bytes()


def methods(proxy):
    return [request.method for request in proxy.requests if "/attachment" in request.path]


def test_a_file_above_the_limit_is_sent_in_chunks(upload, kinto, files, proxy, large, environ):
    done = upload("large.bin", *RESUMABLE, url=proxy.url, environ=environ)

    assert done.lines == ["uploaded large.bin"]
    assert done.summary == f"uploaded 1, unchanged 0, failed 0, {33 * MIB} bytes"
    assert methods(proxy) == ["POST", "PATCH", "PATCH", "PATCH"]
    check_that_it_is_there(kinto, files, large)


def test_a_file_below_it_is_sent_at_once(upload, kinto, files, proxy, large):
    upload("large.bin", url=proxy.url)

    assert methods(proxy) == ["POST"]
    check_that_it_is_there(kinto, files, large)


def test_what_is_known_of_the_file_goes_with_it(upload, kinto, local, environ):
    (local / "a.png").write_bytes(b"picture")
    (local / "b.txt").write_bytes(b"text" * 1000)
    upload("a.png", *RESUMABLE, environ=environ)
    upload("b.txt", "--gzip", *RESUMABLE, environ=environ)

    assert kinto.record("a.png")["attachment"]["mimetype"] == "image/png"
    assert kinto.record("b.txt")["original"]["size"] == 4000
    assert kinto.record("b.txt")["attachment"]["filename"] == "b.txt.gz"


def test_a_run_that_is_killed_is_picked_up(upload, kinto, files, chunks, large, environ, state):
    chunks.faults += [lambda exchange: exchange.owner.serve(exchange), answers(503)]
    first = upload(
        "large.bin", *RESUMABLE, "--retry", "0", url=chunks.url, status=1, environ=environ
    )
    assert "503" in first.err
    assert len(list(state.iterdir())) == 1
    chunks.reset()

    upload("large.bin", *RESUMABLE, url=chunks.url, environ=environ)

    assert methods(chunks) == ["HEAD", "PATCH", "PATCH"]
    assert list(state.iterdir()) == []
    check_that_it_is_there(kinto, files, large)


def test_a_busy_server_and_an_answer_that_got_lost(upload, kinto, files, chunks, large, environ):
    chunks.faults += [answers(423), loses_the_answer, answers(503)]

    upload("large.bin", *RESUMABLE, url=chunks.url, environ=environ)

    assert methods(chunks).count("POST") == 1
    check_that_it_is_there(kinto, files, large)


def test_an_answer_that_got_lost_in_the_end(upload, kinto, files, chunks, local, environ):
    path = local / "a.bin"
    path.write_bytes(b"content")
    chunks.faults += [loses_the_answer]

    upload("a.bin", *RESUMABLE, url=chunks.url, environ=environ)

    assert methods(chunks) == ["POST", "PATCH", "HEAD"]
    check_that_it_is_there(kinto, files, path)


def test_an_upload_that_has_ended_is_begun_anew(
    upload, kinto, files, chunks, large, environ, state
):
    chunks.faults += [answers(503)]
    upload("large.bin", *RESUMABLE, "--retry", "0", url=chunks.url, status=1, environ=environ)
    (remembered,) = state.iterdir()
    headers = {"Tus-Resumable": "1.0.0"}
    auth = ("alice", "secret")
    requests.delete(remembered.read_text(), headers=headers, auth=auth, timeout=30)
    chunks.reset()

    upload("large.bin", *RESUMABLE, url=chunks.url, environ=environ)

    assert methods(chunks) == ["HEAD", "POST", "PATCH", "PATCH", "PATCH"]
    check_that_it_is_there(kinto, files, large)


@pytest.mark.parametrize(("status", "message"), [(460, "something else"), (410, "expired")])
def test_an_upload_that_is_refused(upload, chunks, large, environ, state, status, message):
    chunks.faults += [answers(status)]

    done = upload("large.bin", *RESUMABLE, url=chunks.url, status=1, environ=environ)

    assert message in done.err
    assert list(state.iterdir()) == []


def test_a_creation_that_is_refused(upload, kinto, proxy, large, environ, state):
    refusal = json.dumps({"message": "File extension is not allowed."}).encode()
    proxy.faults += [answers(400, body=refusal)]

    done = upload("large.bin", *RESUMABLE, url=proxy.url, status=1, environ=environ)

    assert "File extension is not allowed" in done.err
    assert not state.exists()


def test_what_others_write_meanwhile(upload, kinto, files, chunks, large, environ):
    def other(exchange):
        kinto.put(record_id("large.bin"), theme="orange")
        exchange.owner.serve(exchange)

    chunks.faults += [other]

    upload("large.bin", *RESUMABLE, url=chunks.url, environ=environ)

    assert kinto.record("large.bin")["theme"] == "orange"
    check_that_it_is_there(kinto, files, large)


def test_a_folder_that_cannot_be_written(upload, kinto, files, large, tmp_path):
    (tmp_path / "state").write_text("not a folder")

    upload("large.bin", *RESUMABLE, environ={"XDG_STATE_HOME": str(tmp_path / "state")})

    check_that_it_is_there(kinto, files, large)


def test_a_server_that_has_no_resumable_uploads(upload, kinto, files, proxy, large, environ):
    def without(exchange):
        status, headers, body = exchange.owner.forward(exchange)
        info = json.loads(body)
        del info["capabilities"]["attachments"]["resumable"]
        answer = json.dumps(info).encode()
        exchange.answer(status, {**headers, "Content-Length": str(len(answer))}, answer)

    proxy.concerned = lambda request: request.path == "/v1/"
    proxy.faults += [without]

    upload("large.bin", *RESUMABLE, url=proxy.url, environ=environ)

    assert methods(proxy) == ["POST"]
    check_that_it_is_there(kinto, files, large)
