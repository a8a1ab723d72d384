"""The files as nginx serves them."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from tests.deploy.conftest import MIB
from tests.support.servers.ports import free_port

on_the_disk = pytest.mark.parametrize("site", ["disk"], indirect=True)


def get(url: str, **arguments: object) -> requests.Response:
    return requests.get(url, timeout=60, allow_redirects=False, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def location(site):
    """Of a file with the content ``a picture``."""
    return site.attach(b"a picture", "picture.png", "picture")


def test_a_file_can_be_kept_by_all_and_for_ever(location):
    answer = get(location)

    assert (answer.status_code, answer.content) == (200, b"a picture")
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_file_has_no_right_to_do_anything(location):
    headers = get(location).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert headers["Content-Security-Policy"].endswith("; sandbox")


def test_chromium_shows_a_pdf(site):
    headers = get(site.attach(b"%PDF-1.7", "paper.pdf", "paper")).headers

    assert headers["Content-Type"] == "application/pdf"
    assert "sandbox" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("site", ["s3"], indirect=True)
def test_what_is_sent_as_html_is_in_the_sandbox_whatever_its_name(site):
    location = f"{site.url}/files/b/c/page.pdf"
    # As an earlier version, or another program, has stored it.
    site.installation.put_object("b/c/page.pdf", b"<script>alert(1)</script>", "text/html")
    headers = get(location).headers

    assert headers["Content-Type"] == "text/html"
    assert headers["Content-Security-Policy"].endswith("; sandbox")


@pytest.mark.parametrize("site", ["s3"], indirect=True)
def test_a_store_that_fails_is_answered_as_kinto_does(site, tmp_path):
    class Store(BaseHTTPRequestHandler):
        """It is being stopped: SeaweedFS answers that then."""

        def do_GET(self) -> None:
            self.send_error(500)

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    port = free_port()
    store = HTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=store.serve_forever, args=(0.01,), daemon=True).start()
    changes = {
        f"listen 127.0.0.1:{site.installation.port};": f"listen 127.0.0.1:{port};",
        site.installation.store_url: f"http://127.0.0.1:{store.server_port}",
    }
    with site.installation.other_nginx(tmp_path, changes, port):
        for path in ("files/a.png", "presigned/attachments-private/a.png?X-Amz-Signature=1"):
            answer = get(f"http://127.0.0.1:{port}/{path}")
            assert (answer.status_code, answer.json()["errno"]) == (503, 201)
            assert answer.headers["Retry-After"] == "10"
    store.shutdown()
    store.server_close()


def test_a_web_page_of_another_host_may_read_it(location):
    answer = get(location, headers={"Origin": "https://example.org"})

    # One header: browsers refuse two, and requests shows both in one.
    assert answer.raw.headers.getlist("Access-Control-Allow-Origin") == ["*"]
    assert answer.raw.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    assert len(answer.raw.headers.getlist("Content-Security-Policy")) == 1


def test_a_part_of_a_file_can_be_read(location):
    answer = get(location, headers={"Range": "bytes=2-8"})

    assert (answer.status_code, answer.content) == (206, b"picture")


def test_credentials_for_kinto_do_no_harm(site, location):
    assert get(location, auth=site.auth).status_code == 200


@pytest.mark.parametrize("name", ["b/c/none.png", "b/none/none.png"])
def test_a_file_that_is_not_there_is_looked_for_again(site, name):
    answer = get(f"{site.url}/files/{name}")

    assert answer.status_code == 404
    assert "Cache-Control" not in answer.headers


@pytest.mark.parametrize("path", ["", "b", "b/", "b/c", "b/c/", "?list-type=2", "?acl", "b/c?acl"])
def test_nobody_lists_files(site, location, path):
    answer = get(f"{site.url}/files/{path}")

    assert answer.status_code == 404
    assert location.rpartition("/")[2] not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nobody_writes_files(location, method):
    answer = requests.request(method, location, data=b"mine", timeout=60)

    assert answer.status_code in (403, 404, 405)
    assert get(location).content == b"a picture"


@on_the_disk
def test_an_upload_in_flight_cannot_be_read(site):
    files = site.installation.files
    with site.start_upload(2 * MIB):
        deadline = time.monotonic() + 30
        while not (parts := list(files.glob(".*.part"))):
            assert time.monotonic() < deadline, "no upload has begun"
            time.sleep(0.02)
        answers = [get(f"{site.url}/files/{part.name}") for part in parts]

    assert {answer.status_code for answer in answers} == {404}
