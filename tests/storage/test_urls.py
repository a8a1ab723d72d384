"""The URLs that S3 has of its own: presigned ones, and plain ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from botocore.exceptions import NoCredentialsError

from kinto_attachment.storage import FileStorage, NewFile, StorageUnavailable
from kinto_attachment.storage.files import Files
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.storage.s3 import S3Storage
from tests.support.servers.s3 import S3Server

ANSWER = (
    "text/x-thing",
    "attachment; filename=\"a b.txt\"; filename*=UTF-8''%C3%A9.txt",
    "no-store",
)


def presigned(storage: FileStorage, name: str, expires_in: int = 60) -> str:
    url = storage.presigned_url(name, expires_in, *ANSWER)
    assert url is not None
    return url


@pytest.fixture
def s3(server: S3Server, make_s3: Callable[..., S3Storage]) -> S3Storage:
    """On each server in turn."""
    return make_s3(server)


def store(storage: FileStorage, filename: str, folder: str = "") -> str:
    staged = storage.stage(NewFile(filename, folder=folder))
    staged.write(b"content")
    return staged.finish()


def test_the_local_disk_has_none(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    name = store(storage, "a.txt")

    assert storage.presigned_url(name, 60, *ANSWER) is None
    assert storage.plain_url(name) is None


def test_a_presigned_url_serves_the_file_as_it_says(s3: S3Storage) -> None:
    name = store(s3, "a.txt", "f g")

    answer = requests.get(presigned(s3, name), timeout=30)

    assert answer.status_code == 200
    assert answer.content == b"content"
    headers = ("Content-Type", "Content-Disposition", "Cache-Control")
    assert tuple(answer.headers[each] for each in headers) == ANSWER
    part = {"Range": "bytes=1-2"}
    assert requests.get(answer.url, headers=part, timeout=30).content == b"on"


def test_a_plain_url_has_no_credentials(s3: S3Storage) -> None:
    name = store(s3, "a.txt")

    url = s3.plain_url(name)

    assert url is not None
    assert url.endswith(f"/{name}")
    assert "?" not in url


def test_whether_there_is_a_file_is_not_looked_at(s3: S3Storage) -> None:
    answer = requests.get(presigned(s3, "none.txt"), timeout=30)

    assert answer.status_code in (403, 404)


@pytest.mark.parametrize("name", ["", "../x", "a//b", "/etc/passwd"])
def test_what_is_no_name_of_a_file(s3: S3Storage, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        s3.presigned_url(name, 60, *ANSWER)
    with pytest.raises(FileNotFoundError):
        s3.plain_url(name)


@pytest.mark.parametrize("server", ["seaweedfs"], indirect=True)
def test_a_url_is_good_for_its_file_alone(server, make_s3) -> None:
    """As a store sees it that checks signatures."""
    storage: S3Storage = make_s3(server, acl="")
    for key in ("a.txt", "b.txt"):
        storage.s3_client.put_object(Bucket=storage.bucket_name, Key=key, Body=b"content")
    url = presigned(storage, "a.txt")
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url

    assert requests.get(url, timeout=30).status_code == 200
    assert requests.get(url.replace("/a.txt", "/b.txt"), timeout=30).status_code == 403
    assert requests.get(url.replace("Expires=60", "Expires=600"), timeout=30).status_code == 403
    assert requests.put(url, b"x", timeout=30).status_code == 403
    assert requests.get(storage.plain_url("a.txt") or "", timeout=30).status_code == 403


def test_a_store_that_cannot_sign(server, make_s3, monkeypatch) -> None:
    storage: S3Storage = make_s3(server)

    def fail(*arguments: object, **named: object) -> None:
        raise NoCredentialsError()

    monkeypatch.setattr(storage.s3_client, "generate_presigned_url", fail)

    with pytest.raises(StorageUnavailable, match=r"cannot sign a URL of 'a\.txt'"):
        storage.presigned_url("a.txt", 60, *ANSWER)


def test_each_store_signs_for_its_own_files(tmp_path: Path) -> None:
    class Signing(LocalStorage):
        def presigned_url(self, name, *rest):  # type: ignore[no-untyped-def]
            return f"presigned:{self.base_path}/{name}"

        def plain_url(self, name):  # type: ignore[no-untyped-def]
            return f"plain:{self.base_path}/{name}"

    files = Files(Signing(tmp_path / "public"), Signing(tmp_path / "private"))

    for name, path in (("a.txt", "public/a.txt"), ("_private/a.txt", "private/a.txt")):
        assert files.presigned_url(name, 60, *ANSWER) == f"presigned:{tmp_path}/{path}"
        assert files.plain_url(name) == f"plain:{tmp_path}/{path}"
