"""Whom the scripts send credentials and files to."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.scripts.conftest import SCRIPTS
from tests.support.servers.http import answers

RESUMABLE = ("--resumable-over", "0", "--retry", "0")


def origins(*urls):
    """What ``origin()`` says of them, ``None`` where it refuses."""
    program = """
import json, sys
import connections, errors
def origin(url):
    try:
        return connections.origin(url)
    except errors.Failed:
        return None
print(json.dumps([origin(url) for url in json.load(sys.stdin)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        input=json.dumps(urls),
        capture_output=True,
        text=True,
        check=True,
    )
    return [each and tuple(each) for each in json.loads(done.stdout)]


def test_scheme_and_port_belong_to_an_origin():
    assert origins(
        "http://kinto.example/v1",
        "HTTP://KINTO.example:80/v1/a/../b?c#d",
        "https://kinto.example/v1",
        "http://kinto.example:443",
        "http://[::1]:8888/v1",
    ) == [
        ("http", "kinto.example", 80),
        ("http", "kinto.example", 80),
        ("https", "kinto.example", 443),
        ("http", "kinto.example", 443),
        ("http", "::1", 8888),
    ]


def test_what_has_no_plain_origin_is_refused():
    urls = (
        *("", "/v1", "//kinto.example/", "kinto.example", "file:///etc/passwd", "http://"),
        *("ftp://kinto.example/", "javascript:alert(1)", "http://kinto.example:port/"),
        *("http://alice:secret@kinto.example/", "http://@kinto.example/", "http:///kinto.example"),
        *("http://a\\@b/", "http://a\tb/", "\thttp://a/", " http://a/", "http://a/\r\nHost: b"),
        *("http://a\uff20b/", "http://a\uff0fb@c/", "http://[::1/", "http://a b/"),
    )

    assert dict(zip(urls, origins(*urls), strict=True)) == dict.fromkeys(urls)


@pytest.fixture
def file(local):
    (local / "a.txt").write_bytes(b"hello\n")
    return "a.txt"


@pytest.fixture
def environ(tmp_path):
    """Where uploads are remembered, and a .netrc with a password for 127.0.0.1."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login mallory password stolen\n")
    return {"XDG_STATE_HOME": str(tmp_path / "state"), "NETRC": str(netrc)}


@pytest.mark.parametrize(
    "location", ["{files}v1/upload", "//{host}/v1/upload", "{files}\\@{kinto}"]
)
def test_no_upload_goes_where_another_server_is_named(
    upload, proxy, files, file, environ, location, tmp_path
):
    host = f"127.0.0.1:{files.port}"
    named = location.format(files=f"http://{host}/", host=host, kinto=f"127.0.0.1:{proxy.port}/")
    proxy.faults += [answers(201, {"Location": named})]
    done = upload(file, *RESUMABLE, url=proxy.url, environ=environ, status=1)

    assert "failed a.txt: " in done.err
    assert "which is not its own address" in done.err or "is no plain http" in done.err
    assert not files.requests
    assert not [*(tmp_path / "state/kinto-attachment").iterdir()]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_no_upload_follows_a_redirect(upload, proxy, files, file, environ, method):
    proxy.concerned = lambda request: request.method == method and "/attachment" in request.path
    proxy.faults += [answers(307, {"Location": f"{files.url}upload"})]
    done = upload(file, *RESUMABLE, url=proxy.url, environ=environ, status=1)

    assert f"the server redirects to {files.url}upload; change --server accordingly." in done.err
    assert not files.requests


@pytest.mark.parametrize("options", [(), RESUMABLE])
def test_an_upload_is_that_of_the_user_who_was_named(upload, proxy, kinto, file, environ, options):
    upload(file, *options, url=proxy.url, environ=environ)

    # alice:secret, whatever .netrc says.
    assert {r.headers["Authorization"] for r in proxy.requests} == {"Basic YWxpY2U6c2VjcmV0"}


def test_a_redirect_of_kinto_takes_no_password_elsewhere(upload, proxy, files, file, environ):
    proxy.concerned = lambda request: request.path == "/v1/"
    proxy.faults += [answers(307, {"Location": files.url})]
    upload(file, url=proxy.url, environ=environ, status=1)

    (request,) = files.requests
    assert "Authorization" not in request.headers


@pytest.mark.parametrize("server", ["http://alice:secret@{}/v1", "ftp://{}/v1", "{}"])
def test_a_server_that_is_no_plain_url_is_a_mistake(upload, proxy, file, server):
    done = upload(file, url=server.format(f"127.0.0.1:{proxy.port}"), status=2)

    assert "is no plain http or https URL; credentials belong to --auth-file" in done.err
    assert not proxy.requests


def test_credentials_stand_in_a_file_or_the_environment(upload, kinto, local, file, tmp_path):
    path = tmp_path / "auth"
    path.write_text("alice:secret\n")
    upload(file, "--auth-file", path, auth=None)
    kinto.delete(record_id := kinto.records()[0]["id"])
    upload(file, auth=None, environ={"KINTO_AUTH": "alice:secret"})

    assert [record["id"] for record in kinto.records()] == [record_id]


def test_a_file_comes_before_the_environment_and_an_option_before_both(
    upload, kinto, file, tmp_path
):
    wrong = tmp_path / "auth"
    wrong.write_text("bob:secret")
    kinto.create()
    environ = {"KINTO_AUTH": "alice:secret"}

    assert "403" in upload(file, "--auth-file", wrong, auth=None, environ=environ, status=1).err
    upload(file, "--auth-file", wrong, environ={"KINTO_AUTH": "bob:secret"})


@pytest.mark.parametrize("content", ["", "\n", "alice", "a:b\nc:d\n", "a:b\x1b"])
def test_a_file_without_credentials_is_a_mistake(upload, file, tmp_path, content):
    path = tmp_path / "auth"
    path.write_text(content)
    done = upload(file, "--auth-file", path, auth=None, status=2)

    assert "neither user:password nor an Authorization header" in done.err


def test_a_file_that_cannot_be_read_is_a_mistake(upload, file):
    done = upload(file, "--auth-file", "missing", auth=None, status=2)

    assert "--auth-file: No such file or directory." in done.err
