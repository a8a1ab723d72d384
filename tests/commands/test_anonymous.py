"""``kinto-attachment check`` asks for a private file as a stranger does."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.servers.ports import free_port

CONTENT = b"0123456789"


class Web:
    """A web server in front of the files, that answers as ``answer(path)`` says: a status, a
    body and headers. It remembers the paths, and the credentials that it got."""

    def __init__(self):
        self.reset()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                web.paths.append(self.path)
                web.credentials.append(self.headers.get("Authorization"))
                status, body, headers = web.answer(self.path)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def reset(self):
        """Answer 404 to everything, and remember nothing."""
        self.paths, self.credentials = [], []
        self.answer = lambda path: (404, b"", {})

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def web_server():
    """One for all tests: with the same address, they share their Kinto."""
    server = Web()
    yield server
    server.close()


@pytest.fixture
def web(web_server):
    yield web_server
    web_server.reset()


@pytest.fixture
def attachment(web, stored):
    base_url = f"{web.url}/v1/files/"
    return {**stored.private_settings, "private": "true", "base_url": base_url}


@pytest.fixture
def check(make_record, command, attachment):
    """``check()``: the result for a site with a private file."""

    def run(*, permissions=None, prepare=lambda record: None, kinto=None, **settings):
        merged = {**attachment, **settings}
        record = make_record(attachment=merged, **(kinto or {}))
        record.attach(CONTENT, permissions=permissions or {})
        prepare(record)
        return command("check", "--json", attachment=merged, **(kinto or {}))

    return run


def problems(result):
    return {(each["problem"], each["url"].partition("_private")[0]) for each in result.findings}


def test_nobody_gets_one(check, web):
    result = check()

    assert result.status == 0
    assert result.counts["private files for anybody"] == 0
    assert result.findings == []
    assert set(web.credentials) == {None}
    plain, link, again, wrong = web.paths
    assert plain == again
    assert plain.startswith("/v1/files/_private/")
    assert link.startswith("/v1/attachments/~")
    assert wrong.startswith("/v1/attachments/~")
    assert wrong != link


def test_a_web_server_publishes_them(check, web):
    web.answer = lambda path: (200, CONTENT, {})

    result = check()

    assert result.status == 1
    assert result.counts["private files for anybody"] == 2
    assert problems(result) == {
        ("readable by anybody", f"{web.url}/v1/files/"),
        ("readable by anybody", f"{web.url}/v1/attachments/~.../"),
    }


def test_a_cache_keeps_what_a_link_has_fetched(check, web):
    kept = []

    def answer(path):
        if "/~" in path:
            kept.append(path)
            return 200 if len(kept) == 1 else 403, CONTENT if len(kept) == 1 else b"", {}
        return (200, CONTENT, {}) if kept else (401, b"", {})

    web.answer = answer

    result = check()

    assert result.status == 1
    assert problems(result) == {("readable by anybody", f"{web.url}/v1/files/")}
    assert kept[0].split("~")[1].partition("/")[0] not in result.output


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"the page of an application", {}),
        (206, CONTENT, {}),
        (500, CONTENT, {}),
        (302, b"", {"Location": "https://login.example.org/"}),
        (302, b"", {"Location": "ftp://127.0.0.1/"}),
        (302, b"", {"Location": "/v1/"}),
    ],
)
def test_another_answer_is_none(check, web, answer):
    web.answer = lambda path: answer

    assert check().status == 0


def test_a_redirection_to_a_host_that_is_asked_anyway_is_followed(check, web):
    def answer(path):
        if path == "/moved":
            return 200, CONTENT, {}
        return 302, b"", {"Location": "/moved"}

    web.answer = answer

    assert check().status == 1


@pytest.mark.parametrize("base_url", ["", "/files/", "ftp://127.0.0.1/"])
def test_there_may_be_nothing_to_ask(check, web, base_url):
    result = check(base_url=base_url)

    assert result.status == 0
    assert result.findings == []
    assert web.paths == []


def test_no_answer_is_told_and_is_no_failure(check):
    result = check(base_url=f"http://127.0.0.1:{free_port()}/files/")

    assert result.status == 0
    (finding,) = result.findings
    assert finding["problem"] == "not asked"


def test_a_former_base_url_is_asked_too(check, web):
    web.answer = lambda path: (200 if path.startswith("/old/") else 404, CONTENT, {})

    result = check(former_base_urls=f"{web.url}/old/")

    assert result.status == 1
    assert problems(result) == {("readable by anybody", f"{web.url}/old/")}


def test_without_a_secret_there_is_no_link_to_ask_with(check, web):
    result = check(kinto={"kinto.userid_hmac_secret": ""})

    assert result.status == 0
    (path,) = web.paths
    assert path.startswith("/v1/files/_private/")


def test_what_everybody_may_read_is_not_asked_for(check, web):
    web.answer = lambda path: (200, CONTENT, {})

    result = check(permissions={"read": ["system.Everyone"]})

    assert result.status == 0
    assert web.paths == []


@pytest.mark.parametrize("where", ["moto"])
def test_a_bucket_that_is_public(check, moto):
    def publish(record):
        (name,) = record.files()
        where = {"Bucket": moto.private_bucket, "Key": name.removeprefix("_private/")}
        moto.admin.put_object_acl(**where, ACL="public-read")

    assert check().status == 0

    result = check(prepare=publish)

    assert result.status == 1
    assert result.counts["private files for anybody"] == 1
    (finding,) = result.findings
    assert finding["problem"] == "readable by anybody"
    assert "X-Amz" not in finding["url"]


@pytest.mark.parametrize("where", ["s3"])
def test_a_store_that_is_down(check, monkeypatch):
    from kinto_attachment.storage import StorageUnavailable
    from kinto_attachment.storage.s3 import S3Storage

    def fail(*arguments):
        raise StorageUnavailable("down")

    monkeypatch.setattr(S3Storage, "plain_url", fail)

    assert check().findings == []
