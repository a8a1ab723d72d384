"""Private files are asked for at Kinto, with the credentials of the user, and kept from others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scripts.conftest import Kinto, Script
from tests.scripts.test_download import metadata, names
from tests.support.servers.http import Exchange, FileServer, Proxy, Request
from tests.support.servers.kinto import LiveKinto
from tests.support.servers.s3 import S3Server

HELLO = b"hello\n"
WITHOUT = ("--retry", "0")


@pytest.fixture(scope="module")
def session_kinto(settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKinto]:
    """All the files are private; where public ones would be served is another server."""
    folder = tmp_path_factory.mktemp("private")
    private = {
        "kinto.attachment.serve_files": "false",
        "kinto.attachment.private": "true",
        "kinto.attachment.private.base_path": str(folder),
    }
    with LiveKinto({**settings, **private}) as kinto:
        yield kinto


@pytest.fixture(scope="module")
def session_proxy(session_kinto: LiveKinto) -> Iterator[Proxy]:
    with Proxy(session_kinto.url) as proxy:
        yield proxy


def is_file(request: Request) -> bool:
    return request.method == "GET" and request.path.endswith("/attachment")


def breaks_after(size: int) -> Any:
    """The connection breaks when so many bytes of what is behind a proxy were sent."""

    def fault(exchange: Exchange) -> None:
        assert isinstance(exchange.owner, Proxy)
        status, headers, body = exchange.owner.forward(exchange)
        exchange.start(status, headers)
        exchange.wfile.write(body[:size])
        exchange.wfile.flush()
        exchange.close_connection = True

    return fault


def test_a_private_file_is_that_of_its_record(download, kinto, target, files: FileServer):
    kinto.create()
    location = kinto.attach("a", "a.txt", HELLO)["location"]
    assert location.startswith(f"{files.url}files/_private/")
    done = download()

    assert done.lines == ["downloaded a.txt"]
    assert (target / "a.txt").read_bytes() == HELLO
    # Where its location is, nobody is asked.
    assert not files.requests
    assert download().summary == "downloaded 0, unchanged 0, failed 0, 0 bytes"


def test_who_may_not_read_the_records_gets_none(download, kinto, target):
    kinto.create()
    kinto.attach("a", "a.txt", HELLO)

    assert "403" in download(auth="bob:secret", status=1).err
    assert "401" in download(*WITHOUT, auth=None, status=1).err
    assert names(target) == []


def test_what_everybody_may_read_needs_no_credentials(download, kinto, target):
    kinto.create({"read": ["system.Everyone"]})
    kinto.attach("a", "a.txt", HELLO)
    download(auth=None)

    assert names(target) == ["a.txt"]


def test_a_broken_download_of_a_private_file_is_continued(download, kinto, target, proxy):
    content = os.urandom(3_000_000)
    kinto.create()
    kinto.attach("a", "a.bin", content)
    proxy.concerned = is_file
    proxy.faults += [breaks_after(1_000_000)]
    done = download("--retry-after", "0", url=proxy.url)

    assert (target / "a.bin").read_bytes() == content
    assert done.summary == "downloaded 1, unchanged 0, failed 0, 3000000 bytes"
    assert [request.headers["Range"] for request in proxy.requests if is_file(request)] == [
        None,
        "bytes=1000000-",
    ]


def test_who_writes_a_private_location_elsewhere_gets_no_credentials(
    download, kinto, target, files
):
    kinto.create()
    location = f"{files.url}_private/a.txt"
    kinto.put("a", attachment=metadata("a.txt", HELLO, location))
    done = download(*WITHOUT, status=1)

    assert "failed a.txt: the server answered 404" in done.err
    assert not files.requests


@pytest.fixture(scope="module")
def bucket(seaweedfs_server: S3Server) -> Iterator[Proxy]:
    """The way to S3, on which one sees what is asked."""
    seaweedfs_server.create_private_bucket()
    with Proxy(f"{seaweedfs_server.endpoint_url}/") as proxy:
        yield proxy
    seaweedfs_server.empty()


@pytest.fixture(scope="module")
def redirecting(seaweedfs_server: S3Server, bucket: Proxy, settings) -> Iterator[LiveKinto]:
    kept = {key: value for key, value in settings.items() if "base_path" not in key}
    on_s3 = {
        "serve_files": "false",
        "private": "true",
        "download.mode": "redirect",
        "aws.bucket": seaweedfs_server.bucket,
        "aws.private_bucket": seaweedfs_server.private_bucket,
        "aws.endpoint_url": f"http://127.0.0.1:{bucket.port}",
        "aws.use_path_style": "true",
        "aws.access_key": seaweedfs_server.access_key,
        "aws.secret_key": seaweedfs_server.secret_key,
        "aws.region": seaweedfs_server.region,
    }
    named = {f"kinto.attachment.{name}": value for name, value in on_s3.items()}
    with LiveKinto({**kept, **named}) as kinto:
        yield kinto


class TestInModeRedirect:
    @pytest.fixture
    def kinto(self, redirecting: LiveKinto, kinto: Kinto) -> Kinto:
        return Kinto(redirecting.url, kinto.bucket)

    @pytest.fixture
    def download(self, kinto: Kinto, target) -> Script:
        return Script("download.py", kinto, target)

    def test_the_storage_gets_no_credentials(self, download, kinto, target, bucket):
        kinto.create()
        kinto.attach("a", "a.txt", HELLO)
        bucket.reset()
        download()

        assert (target / "a.txt").read_bytes() == HELLO
        (request,) = [each for each in bucket.requests if "X-Amz-Signature" in each.path]
        assert "Authorization" not in request.headers

    def test_a_broken_download_is_continued_there(self, download, kinto, target, bucket):
        content = os.urandom(3_000_000)
        kinto.create()
        kinto.attach("a", "a.bin", content)
        bucket.reset()
        bucket.concerned = lambda request: "X-Amz-Signature" in request.path
        bucket.faults += [breaks_after(1_000_000)]
        done = download("--retry-after", "0")

        assert (target / "a.bin").read_bytes() == content
        assert done.summary == "downloaded 1, unchanged 0, failed 0, 3000000 bytes"
        ranges = [each.headers["Range"] for each in filter(bucket.concerned, bucket.requests)]
        assert ranges == [None, "bytes=1000000-"]
