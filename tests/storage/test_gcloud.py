"""What only Google Cloud Storage can promise, or do wrong.

A strict server plays it, and misbehaves as it is told to.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import google.auth
import pytest
import requests
from google.auth.exceptions import DefaultCredentialsError
from google.cloud.storage import Bucket as LibraryBucket

from kinto_attachment.storage import (
    FileTooLargeForStorage,
    GCloudOptions,
    NewFile,
    StorageUnavailable,
    names,
    open_storage,
)
from kinto_attachment.storage.gcloud import GCloudStorage
from kinto_attachment.storage.gcloud import session as gcloud_session
from kinto_attachment.storage.gcloud import staged as gcloud_staged
from kinto_attachment.storage.gcloud import upload as gcloud_upload
from kinto_attachment.storage.gcloud.upload import CHUNK_SIZE
from tests.storage.conftest import gcloud_storage, random_bytes
from tests.support.servers.forked import run_code
from tests.support.servers.gcs import (
    GcsServer,
    answers_as,
    breaks_the_line,
    loses_the_answer,
)
from tests.support.servers.gcs.errors import GcsError
from tests.support.servers.http import Exchange, Fault
from tests.support.servers.ports import free_port

CHECKOUT = Path(__file__).parents[2]
MIB = 1024 * 1024
UNIT = 256 * 1024
LARGE = CHUNK_SIZE + 10
UNAVAILABLE = GcsError(503, "backendError", "We encountered an internal error.")
RANDOM_AND_KEPT = pytest.mark.parametrize("randomize", [True, False], ids=["random", "kept"])
SMALL_AND_LARGE = pytest.mark.parametrize("size", [10, LARGE, 3 * CHUNK_SIZE])


@pytest.fixture(autouse=True)
def _pauses_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcloud_session, "_PAUSE", 0.001)


@pytest.fixture
def storage(gcs: GcsServer) -> GCloudStorage:
    """A storage that repeats nothing."""
    return gcloud_storage(gcs)


@pytest.fixture
def patient(gcs: GcsServer) -> GCloudStorage:
    """A storage that repeats a request once, as by default."""
    return gcloud_storage(gcs, num_retries=1)


def store(
    storage: GCloudStorage, content: bytes = b"content", name: str = "a.txt", **kw: Any
) -> str:
    staged = storage.stage(NewFile(name, **{"randomize": False, **kw}))
    staged.write(content)
    return staged.finish()


def content(storage: GCloudStorage, name: str) -> bytes:
    return b"".join(storage.read(name))


def operations(gcs: GcsServer) -> list[str]:
    return [request.operation for request in gcs.requests]


def sent(gcs: GcsServer) -> int:
    """The bytes of all chunks that arrived."""
    return sum(each.received for each in gcs.requests if each.operation == "chunk")


def upload_threads() -> list[threading.Thread]:
    return [
        each for each in threading.enumerate() if each.name.startswith("kinto-attachment-gcloud")
    ]


def refused(status: int, reason: str = "invalid", sentence: str = "Made up.") -> Fault:
    return answers_as(GcsError(status, reason, sentence))


def drops(exchange: Exchange) -> None:
    """The line breaks before anything is done."""
    exchange.drop()


def after_another(gcs: GcsServer, name: str, content: bytes, fault: Fault | None = None) -> Fault:
    """Another upload takes the name before the request is served, or ends in ``fault``."""

    def served(exchange: Exchange) -> None:
        store(gcloud_storage(gcs), content, name)
        (fault or gcs.serve)(exchange)

    return served


# The session.


def test_the_options_reach_the_session(gcs: GcsServer) -> None:
    storage = GCloudStorage(
        GCloudOptions(
            "files", credentials=str(gcs.credentials_file), acl="private", project="mine"
        )
    )
    session = storage._bucket.session
    assert session.url == "https://storage.googleapis.com"
    assert session.credentials.service_account_email == gcs.account.email
    assert session.project == "mine"
    assert (storage.bucket_name, storage.acl, storage.project) == ("files", "private", "mine")


def test_open_storage_chooses_google() -> None:
    storage = open_storage(GCloudOptions("files"), "https://cdn.example.org")
    assert isinstance(storage, GCloudStorage)
    assert storage.url("a.txt") == "https://cdn.example.org/a.txt"
    assert storage.max_size == 5 * 1024**4


def test_the_endpoint_may_end_in_a_slash(gcs: GcsServer) -> None:
    storage = gcloud_storage(gcs, endpoint_url=f"{gcs.endpoint_url}/")
    assert content(storage, store(storage)) == b"content"


def test_the_timeout_is_that_of_a_connection(
    gcs: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts = []
    send = requests.Session.request

    def remembered(self: requests.Session, *args: Any, **kwargs: Any) -> Any:
        timeouts.append(kwargs["timeout"])
        return send(self, *args, **kwargs)

    monkeypatch.setattr(requests.Session, "request", remembered)
    for timeout in (7, 90):
        gcloud_storage(gcs, timeout=timeout).exists("a.txt")
    assert set(timeouts) == {(7, 60), (90, 90)}


def test_the_session_is_made_once(storage: GCloudStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier, authorize = threading.Barrier(8), gcloud_session._authorize

    def slow(options: GCloudOptions) -> Any:
        time.sleep(0.05)
        return authorize(options)

    def get(_: int) -> Any:
        barrier.wait()
        return storage._bucket.session.connect()

    monkeypatch.setattr(gcloud_session, "_authorize", slow)
    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(get, range(8)))
    assert len(set(map(id, sessions))) == 1


def test_a_forked_process_makes_its_own_session(
    storage: GCloudStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = storage._bucket.session.connect()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert storage._bucket.session.connect() is not first
    assert store(storage) == "a.txt"


def test_a_forked_process_makes_its_own_client_of_the_library(
    storage: GCloudStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = storage.get_connection()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert storage.get_connection() is not first
    assert storage.get_connection() is storage.get_connection()


def test_a_service_account_is_asked_for_tokens(gcs: GcsServer) -> None:
    gcs.anonymous = False
    storage = gcloud_storage(gcs, credentials=str(gcs.credentials_file))
    for size in (10, LARGE):
        name = store(storage, random_bytes(size), randomize=True)
        assert content(storage, name) == random_bytes(size)
    assert operations(gcs).count("token") == 1


@SMALL_AND_LARGE
@RANDOM_AND_KEPT
def test_after_a_token_has_expired_everything_is_sent_again(
    gcs: GcsServer, size: int, randomize: bool
) -> None:
    gcs.anonymous = False
    storage = gcloud_storage(gcs, credentials=str(gcs.credentials_file))
    staged = storage.stage(NewFile("a.txt", randomize=randomize))
    storage.exists("a.txt")
    expected = random_bytes(size)
    for start in range(0, size, MIB):
        gcs.expire_tokens()
        staged.write(expected[start : start + MIB])
    gcs.expire_tokens()
    name = staged.finish()
    gcs.expire_tokens()
    assert content(storage, name) == expected


def test_without_credentials_those_of_the_environment_are_found(
    gcs: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(gcs.credentials_file))
    session = GCloudStorage(GCloudOptions("files"))._bucket.session
    assert session.credentials.service_account_email == gcs.account.email
    assert session.project == gcs.project


def test_without_any_credentials_the_storage_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(**_: Any) -> None:
        raise DefaultCredentialsError("Your default credentials were not found.")

    monkeypatch.setattr(google.auth, "default", none)
    storage = GCloudStorage(GCloudOptions("files"))
    with pytest.raises(StorageUnavailable, match="default credentials were not found"):
        storage.exists("a.txt")


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"type": "service_account"}', '"x"'])
def test_credentials_that_cannot_be_used_are_no_missing_file(
    gcs: GcsServer, tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "credentials.json"
    if text is not None:
        path.write_text(text)
    storage = gcloud_storage(gcs, credentials=str(path))
    uses: list[Callable[[], Any]] = [
        lambda: store(storage),
        lambda: store(storage, bytes(LARGE)),
        lambda: storage.read("a.txt"),
        lambda: storage.stat("a.txt"),
        lambda: storage.delete("a.txt"),
        lambda: list(storage.list()),
        storage.check,
        storage.get_bucket,
    ]
    for use in uses:
        with pytest.raises(StorageUnavailable, match=r"in bucket 'tests': no credentials: "):
            use()
    assert caplog.text == ""


def test_a_private_key_that_is_none_is_told(gcs: GcsServer, tmp_path: Path) -> None:
    account = json.loads(gcs.credentials_file.read_text())
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({**account, "private_key": "no key"}))
    with pytest.raises(StorageUnavailable, match="no credentials"):
        gcloud_storage(gcs, credentials=str(path)).exists("a.txt")


def test_a_refused_account_is_told(gcs: GcsServer, caplog: pytest.LogCaptureFixture) -> None:
    gcs.fail("token", refused(400, "invalid_grant"))
    storage = gcloud_storage(gcs, credentials=str(gcs.credentials_file))
    with pytest.raises(StorageUnavailable, match="cannot store 'a.txt' in bucket 'tests'"):
        store(storage)
    assert caplog.text == ""


def test_what_is_refused_to_strangers_is_told_in_googles_words(
    gcs: GcsServer, storage: GCloudStorage, caplog: pytest.LogCaptureFixture
) -> None:
    gcs.anonymous = False
    for size in (10, LARGE):
        with pytest.raises(StorageUnavailable, match=r"401 Anonymous caller .*objects.create"):
            store(storage, bytes(size), randomize=True)
    with pytest.raises(StorageUnavailable, match=r"401 Anonymous caller .*objects.get"):
        storage.exists("a.txt")
    assert caplog.text == ""


def test_a_missing_bucket_is_not_a_missing_file(
    gcs: GcsServer, caplog: pytest.LogCaptureFixture
) -> None:
    storage = gcloud_storage(gcs, bucket="missing")
    uses: list[Callable[[], Any]] = [
        lambda: store(storage),
        lambda: store(storage, bytes(LARGE)),
        lambda: store(storage, randomize=True),
        lambda: store(storage, bytes(LARGE), randomize=True),
        lambda: storage.exists("a.txt"),
        lambda: storage.stat("a.txt"),
        lambda: storage.read("a.txt"),
        lambda: storage.read("a.txt", 3, 3),
        lambda: storage.delete("a.txt"),
        lambda: storage.delete(names.randomized("a.txt")),
        lambda: list(storage.list()),
        storage.check,
    ]
    for use in uses:
        with pytest.raises(
            StorageUnavailable, match=r"in bucket 'missing': 404 The specified bucket does not"
        ):
            use()
    assert upload_threads() == []
    assert caplog.text == ""


def test_a_server_that_is_down_is_reported_soon(
    gcs: GcsServer, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint_url = f"http://127.0.0.1:{free_port()}"
    storage = gcloud_storage(gcs, endpoint_url=endpoint_url, num_retries=1)
    begun = time.monotonic()
    for size in (10, LARGE):
        with pytest.raises(StorageUnavailable, match="Connection refused"):
            store(storage, bytes(size), randomize=True)
    assert time.monotonic() - begun < 5
    assert caplog.text == ""


@pytest.mark.apart
def test_a_server_that_dies_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with GcsServer() as server:
        storage = gcloud_storage(server)
        stored = store(storage, random_bytes(40 * MIB), "b.bin")
        reading = storage.read(stored)
        next(reading)
        small, large = storage.stage(NewFile("a.txt")), storage.stage(NewFile("a.txt"))
        small.write(b"x")
        large.write(bytes(2 * CHUNK_SIZE + 1))
        assert upload_threads()
        with server.down():
            with pytest.raises(StorageUnavailable, match="cannot read 'b.bin'"):
                list(reading)
            with pytest.raises(StorageUnavailable, match="cannot write to"):
                large.write(bytes(3 * CHUNK_SIZE))
            with pytest.raises(StorageUnavailable, match="cannot store"):
                small.finish()
            for use in (
                lambda: storage.read(stored),
                lambda: storage.stat(stored),
                lambda: storage.delete(stored),
                lambda: list(storage.list()),
            ):
                with pytest.raises(StorageUnavailable):
                    use()
    assert upload_threads() == []
    # The session could not be cancelled.
    assert "Could not discard an upload entirely" in caplog.text


@pytest.mark.parametrize("body", ["<html>Bad gateway</html>", "", "[]", '{"error": "no"}', "{}"])
def test_what_is_not_googles_answer_is_told(
    gcs: GcsServer, storage: GCloudStorage, body: str
) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.read()
        exchange.answer(502, {}, body.encode())

    gcs.fail("*", answer)
    with pytest.raises(StorageUnavailable, match=f"502 {re.escape(body) or 'Bad Gateway'}"):
        storage.exists("a.txt")


@pytest.mark.parametrize("body", ["<html>Welcome to our hotel</html>", "[]", '{"name": "a"}'])
def test_an_answer_of_another_kind_is_told(
    gcs: GcsServer, storage: GCloudStorage, body: str
) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.read()
        exchange.answer(200, {}, body.encode())

    gcs.fail("*", answer)
    uses: list[Callable[[], Any]] = [
        lambda: storage.exists("a.txt"),
        lambda: store(storage),
        lambda: store(storage, bytes(LARGE)),
        storage.check,
    ]
    for use in uses if body.startswith("{") else [*uses, lambda: list(storage.list())]:
        with pytest.raises(StorageUnavailable):
            use()


def test_a_redirect_is_not_followed(gcs: GcsServer, storage: GCloudStorage) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.read()
        exchange.answer(302, {"Location": f"{gcs.endpoint_url}/elsewhere"})

    gcs.fail("get", answer)
    with pytest.raises(StorageUnavailable, match="302 Found"):
        storage.exists("a.txt")
    assert operations(gcs) == ["get"]


# The bucket.


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_missing_bucket_is_created_once_it_is_needed(gcs: GcsServer, size: int) -> None:
    gcs.drop_bucket()
    storage = gcloud_storage(
        gcs, auto_create_bucket=True, auto_create_acl="private", project="mine"
    )
    assert gcs.requests == []

    name = store(storage, random_bytes(size), randomize=True)

    assert content(storage, name) == random_bytes(size)
    assert gcs.buckets[gcs.bucket].acl == "private"
    (created,) = [each for each in gcs.requests if each.operation == "create_bucket"]
    assert created.query["project"] == "mine"


def test_a_bucket_is_also_missing_for_readers(gcs: GcsServer) -> None:
    for use in ("exists", "list", "check"):
        gcs.drop_bucket()
        storage = gcloud_storage(gcs, auto_create_bucket=True, project="mine")
        {
            "exists": lambda storage: storage.exists("a.txt"),
            "list": lambda storage: list(storage.list()),
            "check": lambda storage: storage.check(),
        }[use](storage)
        assert gcs.keys() == []


def test_a_bucket_with_uniform_access_is_created_so(gcs: GcsServer) -> None:
    gcs.drop_bucket()
    storage = gcloud_storage(
        gcs,
        auto_create_bucket=True,
        uniform_bucket_level_access=True,
        credentials=str(gcs.credentials_file),
    )
    store(storage)
    assert gcs.buckets[gcs.bucket].uniform_access
    (created,) = [each for each in gcs.requests if each.operation == "create_bucket"]
    assert created.query["project"] == gcs.project
    assert "predefinedAcl" not in created.query


def test_a_bucket_is_created_without_an_acl_if_there_is_none(gcs: GcsServer) -> None:
    gcs.drop_bucket()
    store(gcloud_storage(gcs, auto_create_bucket=True, auto_create_acl="", project="mine"))
    assert gcs.buckets[gcs.bucket].acl is None


def test_processes_that_create_a_bucket_at_once_share_it(gcs: GcsServer) -> None:
    gcs.drop_bucket()
    barrier = threading.Barrier(4)
    storages = [gcloud_storage(gcs, auto_create_bucket=True, project="mine") for _ in range(2)] * 2

    def store_one(storage: GCloudStorage) -> str:
        barrier.wait()
        return store(storage)

    with ThreadPoolExecutor(4) as pool:
        stored = sorted(pool.map(store_one, storages))
    assert stored == gcs.keys() == ["a-1.txt", "a-2.txt", "a-3.txt", "a.txt"]


def test_a_bucket_that_another_thread_creates_meanwhile_is_used(gcs: GcsServer) -> None:
    gcs.drop_bucket()
    storage = gcloud_storage(gcs, auto_create_bucket=True, project="mine")

    def too_early(exchange: Exchange) -> None:
        answer = gcs.answer_to(exchange)
        store(storage, name="b.txt")
        exchange.send(answer)

    gcs.fail("insert", too_early, times=1)
    assert store(storage) == "a.txt"
    assert gcs.keys() == ["a.txt", "b.txt"]


def test_a_bucket_that_cannot_be_created_is_told(gcs: GcsServer) -> None:
    gcs.drop_bucket()
    storage = gcloud_storage(gcs, auto_create_bucket=True)
    with pytest.raises(StorageUnavailable, match="400 Required parameter: project"):
        store(storage)
    assert operations(gcs).count("create_bucket") == 1
    with pytest.raises(StorageUnavailable, match="400 Required parameter: project"):
        store(storage)


def test_a_bucket_that_goes_later_is_not_created_again(gcs: GcsServer) -> None:
    gcs.drop_bucket()
    storage = gcloud_storage(gcs, auto_create_bucket=True, project="mine")
    store(storage)
    gcs.drop_bucket()
    with pytest.raises(StorageUnavailable, match="404"):
        store(storage)


def test_the_check_asks_for_permissions_and_writes_nothing(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    storage.check()
    assert operations(gcs) == ["permissions"]
    gcs.permissions = {"storage.objects.get", "storage.objects.list"}
    with pytest.raises(
        StorageUnavailable, match=r"'tests': storage.objects.create, storage.objects.delete$"
    ):
        storage.check()
    gcs.permissions = set()
    with pytest.raises(StorageUnavailable, match=r"storage.objects.list"):
        storage.check()


def test_other_plugins_get_the_librarys_bucket(
    gcs: GcsServer, storage: GCloudStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", raising=False)
    bucket = storage.get_bucket()
    assert isinstance(bucket, LibraryBucket)
    assert bucket.name == storage.bucket_name == gcs.bucket
    assert storage.get_bucket("other").name == "other"
    assert storage.get_connection() is storage.get_connection()
    # It may not be allowed to ask for the bucket.
    assert gcs.requests == []
    bucket.blob("b.txt").upload_from_string(b"theirs", timeout=5)
    assert content(storage, "b.txt") == b"theirs"
    assert set(operations(gcs)) == {"insert", "media"}
    storage.get_connection().close()


# What the object is.


@SMALL_AND_LARGE
@RANDOM_AND_KEPT
def test_the_object_is_what_is_served(
    gcs: GcsServer, storage: GCloudStorage, size: int, randomize: bool
) -> None:
    name = store(
        storage,
        random_bytes(size),
        "a.svg",
        content_type="image/svg+xml",
        cache_control="public, max-age=31536000, immutable",
        randomize=randomize,
    )
    stored = gcs.objects()[name]
    assert stored.content_type == "image/svg+xml"
    assert stored.cache_control == "public, max-age=31536000, immutable"
    assert stored.acl == "publicRead"


@SMALL_AND_LARGE
@RANDOM_AND_KEPT
def test_the_acl_and_the_cache_may_be_left_out(gcs: GcsServer, size: int, randomize: bool) -> None:
    gcs.uniform_access = True
    for options in ({"acl": ""}, {"uniform_bucket_level_access": True}):
        name = store(gcloud_storage(gcs, **options), bytes(size), randomize=randomize)
        assert (gcs.objects()[name].acl, gcs.objects()[name].cache_control) == (None, None)


def test_nobody_may_read_a_hidden_object(gcs: GcsServer, storage: GCloudStorage) -> None:
    gcs.fail("delete", refused(403))
    store(storage, bytes(LARGE))
    hidden, visible = gcs.objects().values()
    assert names.is_part(hidden.name)
    assert (hidden.acl, visible.acl) == ("projectPrivate", "publicRead")


def test_an_acl_where_there_are_none_is_refused_in_googles_words(
    gcs: GcsServer, storage: GCloudStorage, caplog: pytest.LogCaptureFixture
) -> None:
    gcs.uniform_access = True
    for size in (10, LARGE):
        for randomize in (True, False):
            with pytest.raises(StorageUnavailable, match="400 Cannot insert legacy ACL"):
                store(storage, bytes(size), randomize=randomize)
    assert (gcs.keys(), gcs.sessions()) == ([], [])
    assert caplog.text == ""


@SMALL_AND_LARGE
@RANDOM_AND_KEPT
def test_public_access_prevention_is_not_a_name_that_is_taken(
    gcs: GcsServer,
    storage: GCloudStorage,
    size: int,
    randomize: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gcs.public_access_prevention = True
    with pytest.raises(StorageUnavailable, match="412 .* public access prevention is enforced"):
        store(storage, bytes(size), randomize=randomize)
    assert (gcs.keys(), gcs.sessions()) == ([], [])
    assert caplog.text == ""


def test_save_file_takes_an_acl_and_a_content_type(gcs: GcsServer, storage: GCloudStorage) -> None:
    name = storage.save_file(
        io.BytesIO(b"x"), "a.txt", acl="private", headers={"Content-Type": "text/x"}
    )
    assert (gcs.objects()[name].acl, gcs.objects()[name].content_type) == ("private", "text/x")


def test_no_acl_is_sent_where_the_bucket_has_none(gcs: GcsServer) -> None:
    gcs.uniform_access = True
    storage = gcloud_storage(gcs, uniform_bucket_level_access=True)
    name = storage.save_file(io.BytesIO(b"x"), "a.txt", acl="publicRead")
    assert gcs.objects()[name].acl is None


@pytest.mark.parametrize("size", [0, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE])
@RANDOM_AND_KEPT
def test_files_of_whole_chunks(
    gcs: GcsServer, storage: GCloudStorage, size: int, randomize: bool
) -> None:
    name = store(storage, random_bytes(size), randomize=randomize)
    assert content(storage, name) == random_bytes(size)
    assert storage.stat(name).size == size
    assert gcs.keys() == [name]


def test_a_server_may_leave_out_the_size_of_an_empty_file(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    def without_size(exchange: Exchange) -> None:
        answer = gcs.answer_to(exchange)
        found = json.loads(answer.body)
        found.pop("size")
        answer.body = json.dumps(found).encode()
        exchange.send(answer)

    for operation in ("insert", "get"):
        gcs.fail(operation, without_size)
    assert storage.stat(store(storage, b"", randomize=True)).size == 0


def test_a_file_that_others_stored_is_seen(gcs: GcsServer, storage: GCloudStorage) -> None:
    bucket = storage.get_bucket()
    for name in ("old/file.txt", "folder/", "a//b", "été 1.txt"):
        bucket.blob(name).upload_from_string(b"old", timeout=5)
    storage.get_connection().close()
    assert [file.name for file in storage.list()] == ["old/file.txt", "été 1.txt"]
    assert [file.name for file in storage.list(prefix="old/")] == ["old/file.txt"]
    assert content(storage, "old/file.txt") == b"old"
    assert storage.delete("old/file.txt") is True
    assert storage.delete("old/file.txt") is False


def test_an_object_that_was_stored_without_a_type_has_none(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    name = store(storage)
    del gcs.objects()[name].properties["contentType"]
    assert storage.stat(name).content_type is None


def test_the_time_of_a_file_is_not_that_of_its_metadata(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    name = store(storage)
    before = storage.stat(name).modified
    bucket = gcs.buckets[gcs.bucket]
    bucket.patch(name, {"customTime": "2026-01-01T00:00:00Z"}, {})
    assert storage.stat(name).modified == before
    assert [file.modified for file in storage.list()] == [before]


def test_a_listing_of_many_pages(gcs: GcsServer, storage: GCloudStorage) -> None:
    stored = sorted(store(storage, b"", randomize=True) for _ in range(1001))
    assert [file.name for file in storage.list()] == stored
    assert operations(gcs).count("list") == 2


def test_what_is_stored_as_gzip_is_read_as_it_is_stored(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    packed = gzip.compress(random_bytes(MIB))
    blob = storage.get_bucket().blob("a.gz")
    blob.content_encoding = "gzip"
    blob.upload_from_string(packed, timeout=5)
    storage.get_connection().close()
    assert content(storage, "a.gz") == packed
    assert b"".join(storage.read("a.gz", 5, 700_000)) == packed[5:700_000]
    assert storage.stat("a.gz").size == len(packed)
    assert all(
        each.headers["Accept-Encoding"] == "gzip"
        for each in gcs.requests
        if each.operation == "media"
    )


def test_a_file_that_cannot_be_opened_is_told(gcs: GcsServer, storage: GCloudStorage) -> None:
    name = store(storage)
    gcs.fail("media", answers_as(UNAVAILABLE), times=1)
    with pytest.raises(StorageUnavailable, match=f"cannot read '{name}' .*503 We encountered"):
        storage.read(name)


def test_a_file_that_arrives_shortened_is_not_whole(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    name = store(storage, random_bytes(MIB))

    def shortened(exchange: Exchange) -> None:
        exchange.start(200, {"Content-Length": str(MIB)})
        exchange.wfile.write(bytes(1000))
        exchange.close_connection = True

    gcs.fail("media", shortened)
    with pytest.raises(StorageUnavailable, match=f"cannot read '{name}'"):
        list(storage.read(name))


# Names.


def test_a_name_that_google_cannot_have_is_refused_before_the_first_byte(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    for new, reason in [
        (NewFile("a.txt", "a\nb"), "has a line break"),
        (NewFile("a\r.txt", exact_name=True), "has a line break"),
        (NewFile("a.txt", "x" * 1000), "has more than 1024 bytes"),
        (NewFile("a.txt", "x" * 1015, randomize=False), "has more than 1024 bytes"),
        (NewFile("é" * 513, exact_name=True), "has more than 1024 bytes"),
        (NewFile("a", ".well-known/acme-challenge"), "starts with .well-known/acme-challenge/"),
    ]:
        with pytest.raises(StorageUnavailable, match=f"on Google Cloud Storage: it {reason}"):
            storage.stage(new)
    assert gcs.requests == []
    assert storage.refuses("a.txt") is None
    assert storage.refuses("a\r.txt") == "has a line break"


def test_the_longest_names(gcs: GcsServer, storage: GCloudStorage) -> None:
    longest = "é" * 512
    assert store(storage, name=longest, exact_name=True) == longest
    folder = "x" * (1024 - len("/a.txt") - len("-9999999999"))
    assert store(storage, folder=folder) == f"{folder}/a.txt"
    assert store(storage, folder=folder) == f"{folder}/a-1.txt"
    assert content(storage, longest) == b"content"


def test_a_name_that_google_cannot_have_is_the_name_of_no_file(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    for name in ("x" * 1025, "a\nb", "a\rb", ".well-known/acme-challenge/x"):
        assert storage.exists(name) is False
        assert storage.delete(name) is False
        with pytest.raises(FileNotFoundError):
            storage.read(name)
    assert gcs.requests == []


@pytest.mark.parametrize(("size", "count"), [(10, 8), (LARGE, 8)])
def test_eight_writers_of_one_name_get_one_each(
    gcs: GcsServer, patient: GCloudStorage, size: int, count: int
) -> None:
    contents = [b"%d" % number + bytes(size) for number in range(count)]
    barrier = threading.Barrier(count)

    def write(content: bytes) -> str:
        barrier.wait()
        return store(patient, content)

    with ThreadPoolExecutor(count) as pool:
        stored = list(pool.map(write, contents))
    assert sorted(stored) == gcs.keys()
    assert [content(patient, name) for name in stored] == contents


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_name_that_is_taken_at_the_last_moment_is_not_overwritten(
    gcs: GcsServer, storage: GCloudStorage, size: int
) -> None:
    gcs.fail("insert" if size == 10 else "compose", after_another(gcs, "a.txt", b"first"), 1)
    expected = random_bytes(size)
    assert store(storage, expected) == "a-1.txt"
    assert content(storage, "a.txt") == b"first"
    assert content(storage, "a-1.txt") == expected
    assert gcs.keys() == ["a-1.txt", "a.txt"]


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_random_name_that_is_taken_is_not_overwritten(
    gcs: GcsServer, storage: GCloudStorage, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(storage, b"first", "taken.txt")
    monkeypatch.setattr(names, "randomized", lambda *args: "taken.txt")
    with pytest.raises(StorageUnavailable, match="a random name is taken"):
        store(storage, bytes(size), randomize=True)
    assert content(storage, "taken.txt") == b"first"
    assert gcs.keys() == ["taken.txt"]


# Large files.


def test_a_small_file_is_one_request(gcs: GcsServer, storage: GCloudStorage) -> None:
    store(storage, random_bytes(CHUNK_SIZE), randomize=True)
    assert operations(gcs) == ["insert"]


def test_chunks_go_up_while_the_rest_is_still_arriving(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    staged = storage.stage(NewFile("a.txt"))
    staged.write(bytes(3 * CHUNK_SIZE + 1))
    assert operations(gcs)[:2] == ["start", "chunk"]
    staged.finish()
    assert operations(gcs) == ["start", *["chunk"] * 4]
    assert sent(gcs) == 3 * CHUNK_SIZE + 1


def test_a_kept_name_of_more_than_one_request_is_composed(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    assert store(storage, random_bytes(LARGE)) == "a.txt"
    assert operations(gcs) == ["start", "chunk", "chunk", "compose", "delete"]
    assert sent(gcs) == LARGE


def test_one_of_several_uploads_holds_two_chunks(
    gcs: GcsServer, storage: GCloudStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make_buffer = gcloud_upload.Buffer

    def buffer(capacity: int) -> Any:
        made.append(make_buffer(capacity))
        return made[-1]

    monkeypatch.setattr(gcloud_upload, "Buffer", buffer)
    contents = [random_bytes(3 * CHUNK_SIZE + number) for number in range(1, 4)]
    staged = [storage.stage(NewFile("a.bin")) for _ in contents]
    for start in range(0, len(contents[-1]), MIB):
        for file, each in zip(staged, contents, strict=True):
            file.write(each[start : start + MIB])
    assert len(made) == 1
    stored = [file.finish() for file in staged]
    assert [content(storage, name) for name in stored] == contents
    # It is free again.
    store(storage, bytes(2 * CHUNK_SIZE))
    assert len(made) == 2


MEASURE_MEMORY = """
import re, sys, threading
from pathlib import Path
from kinto_attachment.storage import GCloudOptions, NewFile
from kinto_attachment.storage.gcloud import GCloudStorage

MIB = 1024 * 1024
_, endpoint_url, bucket, megabytes, count = sys.argv

def memory(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\\s+(\\d+) kB", status)[1]) // 1024

storage = GCloudStorage(GCloudOptions(bucket, endpoint_url=endpoint_url))
for size in (10, 0):
    staged = storage.stage(NewFile("warm.bin", size=size))
    staged.write(b"x")
    storage.delete(staged.finish())
chunk = bytes(64 * 1024)
idle = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
files = [storage.stage(NewFile("large.bin")) for _ in range(int(count))]
for _ in range(int(megabytes) * MIB // len(chunk)):
    for staged in files:
        staged.write(chunk)
for name in [staged.finish() for staged in files]:
    for _ in storage.read(name):
        pass
print(memory("VmHWM") - idle, memory("VmRSS") - idle, threading.active_count())
"""


@pytest.mark.parametrize("count", [1, 4])
def test_a_large_upload_takes_little_memory(gcs: GcsServer, count: int) -> None:
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE_MEMORY, gcs.endpoint_url, gcs.bucket, "64", str(count)],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, afterwards, threads = map(int, measured.stdout.split())
    assert peak < 16 + 8 * (count - 1)
    assert afterwards < 8
    assert threads == 1


def test_discard_waits_for_the_chunk_that_is_on_its_way(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    for _ in range(5):
        staged = storage.stage(NewFile("a.bin"))
        staged.write(bytes(LARGE))
        staged.discard()
        assert upload_threads() == []
        assert gcs.sessions() == []


def test_a_chunk_that_fails_discards_the_file(gcs: GcsServer, storage: GCloudStorage) -> None:
    gcs.fail("chunk", answers_as(UNAVAILABLE), times=1)
    staged = storage.stage(NewFile("a.bin"))
    staged.write(bytes(LARGE))
    with pytest.raises(StorageUnavailable, match="503 We encountered"):
        staged.write(bytes(2 * CHUNK_SIZE))
    assert upload_threads() == []
    assert (gcs.keys(), gcs.sessions()) == ([], [])


def test_what_cannot_be_cancelled_is_logged(
    gcs: GcsServer, storage: GCloudStorage, caplog: pytest.LogCaptureFixture
) -> None:
    gcs.fail("cancel", refused(403, sentence="No."))
    staged = storage.stage(NewFile("a.bin"))
    staged.write(bytes(LARGE))
    staged.discard()
    assert "403 No." in caplog.text
    assert upload_threads() == []


@RANDOM_AND_KEPT
@pytest.mark.parametrize(
    "kept",
    [
        lambda sent: sent // 2 // UNIT * UNIT or sent,
        lambda sent: min(sent, UNIT),
        lambda sent: sent // 2 or sent,
        lambda sent: sent - 1 or sent,
        lambda sent: sent // 3 + 1,
    ],
    ids=["half", "a unit", "an odd half", "all but one", "an odd third"],
)
def test_no_byte_is_lost_when_less_is_kept_than_was_sent(
    gcs: GcsServer, storage: GCloudStorage, kept: Callable[[int], int], randomize: bool
) -> None:
    gcs.acknowledges = kept
    expected = random_bytes(3 * CHUNK_SIZE + 777)
    assert content(storage, store(storage, expected, randomize=randomize)) == expected


def test_only_what_was_not_kept_is_sent_again(gcs: GcsServer, storage: GCloudStorage) -> None:
    unkept = []

    def half(sent: int) -> int:
        kept = sent // 2 // UNIT * UNIT or sent
        unkept.append(sent - kept)
        return kept

    gcs.acknowledges = half
    expected = random_bytes(2 * CHUNK_SIZE + 777)
    assert content(storage, store(storage, expected, randomize=True)) == expected
    assert sum(unkept) > 0
    assert sent(gcs) == len(expected) + sum(unkept)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_what_was_kept_is_not_sent_again_after_a_lost_answer(
    gcs: GcsServer, patient: GCloudStorage, at: int
) -> None:
    gcs.fail("chunk", loses_the_answer, times=1, after=at)
    expected = random_bytes(3 * CHUNK_SIZE + 777)
    name = store(patient, expected, randomize=True)
    assert content(patient, name) == expected
    assert (gcs.keys(), gcs.sessions()) == ([name], [])
    assert sent(gcs) == len(expected)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize("after", [0, 1000, MIB + 1000, CHUNK_SIZE - 1])
def test_a_chunk_whose_line_breaks_goes_on_where_it_broke(
    gcs: GcsServer, patient: GCloudStorage, at: int, after: int
) -> None:
    gcs.fail("chunk", breaks_the_line(after), times=1, after=at)
    expected = random_bytes(4 * CHUNK_SIZE)
    assert content(patient, store(patient, expected, randomize=True)) == expected


def test_a_server_that_keeps_nothing_is_given_up(gcs: GcsServer, patient: GCloudStorage) -> None:
    gcs.acknowledges = lambda sent: 0
    for randomize in (True, False):
        with pytest.raises(StorageUnavailable, match="has kept nothing of what was sent"):
            store(patient, bytes(LARGE), randomize=randomize)
    assert (gcs.keys(), gcs.sessions()) == ([], [])


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("chunks", [1, 2])
def test_a_session_that_google_has_forgotten_ends_the_upload(
    gcs: GcsServer, patient: GCloudStorage, status: int, chunks: int
) -> None:
    staged = patient.stage(NewFile("a.bin"))
    staged.write(bytes(chunks * CHUNK_SIZE + 1))
    gcs.lose_sessions(status)
    with pytest.raises(StorageUnavailable, match=f"{status} "):
        staged.finish()
    assert (gcs.keys(), upload_threads()) == ([], [])


@pytest.mark.parametrize("kept", ["bytes=0-99999999", "bytes=1-5", "nonsense"])
def test_a_server_that_says_it_has_what_was_never_sent_is_not_believed(
    gcs: GcsServer, storage: GCloudStorage, kept: str
) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.read()
        exchange.answer(308, {"Range": kept})

    gcs.fail("chunk", answer, times=1)
    with pytest.raises(StorageUnavailable, match="has kept"):
        store(storage, bytes(LARGE), randomize=True)
    assert (gcs.keys(), gcs.sessions()) == ([], [])


def test_a_server_that_ends_an_upload_too_early_is_told(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    def done(exchange: Exchange) -> None:
        exchange.read()
        exchange.answer(200, {}, b"{}")

    gcs.fail("chunk", done, times=1)
    with pytest.raises(StorageUnavailable, match="is finished before its last byte was sent"):
        store(storage, bytes(LARGE))
    assert (gcs.keys(), gcs.sessions()) == ([], [])


# Checksums.


@SMALL_AND_LARGE
@RANDOM_AND_KEPT
def test_a_file_that_arrives_changed_leaves_nothing(
    gcs: GcsServer,
    storage: GCloudStorage,
    size: int,
    randomize: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gcloud_staged, "checksum", lambda crc32c, chunk: 12345)
    with pytest.raises(StorageUnavailable, match="400 Provided CRC32C"):
        store(storage, random_bytes(size), randomize=randomize)
    assert (gcs.keys(), gcs.sessions()) == ([], [])


@SMALL_AND_LARGE
@RANDOM_AND_KEPT
@pytest.mark.parametrize("told", [{"crc32c": "AAAAAA=="}, {"size": "5"}], ids=["crc32c", "size"])
def test_what_google_says_it_has_stored_is_compared(
    gcs: GcsServer, storage: GCloudStorage, size: int, randomize: bool, told: dict[str, str]
) -> None:
    def lies(exchange: Exchange) -> None:
        answer = gcs.answer_to(exchange)
        if answer.status == 200:
            answer.body = json.dumps({**json.loads(answer.body), **told}).encode()
        exchange.send(answer)

    for operation in ("insert", "compose"):
        gcs.fail(operation, lies)
    gcs.fail(_is_last_chunk, lies)
    with pytest.raises(StorageUnavailable, match="stored with other bytes than were sent"):
        store(storage, random_bytes(size), randomize=randomize)
    assert (gcs.keys(), gcs.sessions()) == ([], [])


def _is_last_chunk(request: Any) -> bool:
    total = request.headers.get("Content-Range", "/*").rpartition("/")[2]
    return request.operation == "chunk" and total != "*"


# Faults.


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("fault", [loses_the_answer, drops, answers_as(UNAVAILABLE)])
@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("size", [10, LARGE, 2 * CHUNK_SIZE + 1])
@RANDOM_AND_KEPT
def test_no_orphan_is_left_whichever_request_fails(
    gcs: GcsServer, retries: int, fault: Fault, size: int, randomize: bool, number: int
) -> None:
    storage = gcloud_storage(gcs, num_retries=retries)
    gcs.fail("*", fault, times=1, after=number)
    expected = random_bytes(size)
    try:
        name = store(storage, expected, randomize=randomize)
    except StorageUnavailable:
        assert retries == 0
        left = set(gcs.keys())
    else:
        gcs.heal()
        assert content(storage, name) == expected
        left = set(gcs.keys()) - {name}
    # The hidden object of which the file was composed: the request to delete it was the one.
    assert all(names.is_part(each) for each in left)
    assert not left or gcs.requests[number].operation == "delete"
    # A session whose URI was lost ends by itself, after a week, and is nobody's file.
    assert gcs.sessions() == [] or gcs.requests[number].operation == "start"
    assert upload_threads() == []


@SMALL_AND_LARGE
@RANDOM_AND_KEPT
@pytest.mark.parametrize("operation", ["insert", "chunk", "compose"])
def test_an_object_whose_answers_are_all_lost_is_not_left_behind(
    gcs: GcsServer, patient: GCloudStorage, size: int, randomize: bool, operation: str
) -> None:
    for each in (operation, "status"):
        gcs.fail(each, loses_the_answer)
    try:
        store(patient, random_bytes(size), randomize=randomize)
    except StorageUnavailable:
        assert gcs.keys() == []
    assert gcs.sessions() == []


@RANDOM_AND_KEPT
@SMALL_AND_LARGE
def test_a_conflict_after_a_lost_answer_is_the_files_own(
    gcs: GcsServer, patient: GCloudStorage, size: int, randomize: bool
) -> None:
    for operation in ("insert", "compose"):
        gcs.fail(operation, loses_the_answer, times=1)
    expected = random_bytes(size)
    name = store(patient, expected, randomize=randomize)
    assert randomize or name == "a.txt"
    assert content(patient, name) == expected
    assert gcs.keys() == [name]


def test_the_object_of_another_is_not_taken_for_a_lost_one(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    fault = after_another(gcs, "a.txt", b"first", answers_as(UNAVAILABLE))
    gcs.fail("insert", fault, times=1)
    with pytest.raises(StorageUnavailable, match="503"):
        store(storage)
    assert content(storage, "a.txt") == b"first"


def test_a_status_that_says_it_is_done_is_not_believed(
    gcs: GcsServer, patient: GCloudStorage
) -> None:
    # What a session answers whose precondition has failed.
    def done(exchange: Exchange) -> None:
        exchange.read()
        exchange.answer(200, {}, b'{"name": "a.bin", "generation": "1"}')

    gcs.fail(_is_last_chunk, answers_as(UNAVAILABLE), times=1)
    gcs.fail("status", done, times=1)
    with pytest.raises(StorageUnavailable, match="is not there although it was stored"):
        store(patient, bytes(LARGE), randomize=True)
    assert gcs.keys() == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("size", [10, LARGE])
def test_a_transient_error_is_tried_again(
    gcs: GcsServer, patient: GCloudStorage, status: int, size: int
) -> None:
    operations = ("insert", "start", "chunk", "compose", "delete", "get", "media", "list")
    for operation in operations:
        gcs.fail(operation, refused(status, "backendError"), times=1)
    repeated = []
    patient.watch_retries(lambda: repeated.append(gcs.requests[-1].operation))
    expected = random_bytes(size)
    name = store(patient, expected)
    assert content(patient, name) == expected
    assert [file.name for file in patient.list()] == [name]
    assert patient.delete(name) is True
    asked = {request.operation for request in gcs.requests}
    assert sorted(repeated) == sorted(asked.intersection(operations))


def test_what_is_not_transient_is_not_tried_again(gcs: GcsServer, patient: GCloudStorage) -> None:
    gcs.fail("*", refused(403, "forbidden", "No."))
    for size in (10, LARGE):
        gcs.requests.clear()
        with pytest.raises(StorageUnavailable, match="403 No."):
            store(patient, bytes(size), randomize=True)
        assert len(gcs.requests) == 1


def test_a_second_write_of_a_name_in_a_second_waits(gcs: GcsServer) -> None:
    gcs.one_write_per_second = True
    storage = gcloud_storage(gcs, num_retries=0)
    name = store(storage)
    storage.delete(name)
    with pytest.raises(StorageUnavailable, match="429 .* exceeded the rate limit"):
        store(storage)
    assert gcs.keys() == []


@pytest.mark.parametrize("operation", ["insert", "start", "chunk"])
def test_what_is_too_large_for_google_is_told_from_what_is_not_available(
    gcs: GcsServer, storage: GCloudStorage, operation: str
) -> None:
    gcs.fail(operation, refused(413, "uploadTooLarge", "Payload Too Large."))
    with pytest.raises(FileTooLargeForStorage, match="413 Payload Too Large"):
        store(storage, bytes(10 if operation == "insert" else LARGE))
    assert (gcs.keys(), gcs.sessions()) == ([], [])


def test_a_hidden_object_that_cannot_be_deleted_is_logged_and_listed(
    gcs: GcsServer, storage: GCloudStorage, caplog: pytest.LogCaptureFixture
) -> None:
    gcs.fail("delete", answers_as(UNAVAILABLE), times=1)
    expected = random_bytes(LARGE)
    assert store(storage, expected) == "a.txt"
    assert content(storage, "a.txt") == expected
    (leftover,) = [file.name for file in storage.list() if file.name != "a.txt"]
    assert names.is_part(leftover)
    assert leftover in caplog.text


KILLED = """
import os, sys
from kinto_attachment.storage import GCloudOptions, NewFile
from kinto_attachment.storage.gcloud import GCloudStorage
from tests.support.storage_faults import Fuse, gcloud_fails

_, endpoint_url, bucket, steps, done, randomize = sys.argv
storage = GCloudStorage(GCloudOptions(bucket, endpoint_url=endpoint_url))
fuse = Fuse(int(steps), done=done == "True", blow=lambda: os._exit(9))
with gcloud_fails(fuse, storage):
    staged = storage.stage(NewFile("a.bin", randomize=randomize == "True"))
    staged.write(bytes(9 * 1024 * 1024))
    print(staged.finish())
"""


@RANDOM_AND_KEPT
@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("steps", range(6))
def test_a_killed_process_leaves_the_whole_file_or_hidden_ones_that_are_listed(
    gcs: GcsServer, storage: GCloudStorage, steps: int, done: bool, randomize: bool
) -> None:
    arguments = [gcs.endpoint_url, gcs.bucket, str(steps), str(done), str(randomize)]
    assert run_code(KILLED, *arguments) in (0, 9)
    visible = [file for file in storage.list() if not names.is_part(file.name)]
    assert [file.size for file in visible] in ([], [9 * MIB])
    assert {file.name for file in storage.list()} == set(gcs.keys())


# Deleting.


def test_a_random_name_is_deleted_in_one_request(gcs: GcsServer, storage: GCloudStorage) -> None:
    name = store(storage, randomize=True)
    gcs.requests.clear()
    assert storage.delete(name) is True
    assert operations(gcs) == ["delete"]
    assert storage.delete(name) is False


@RANDOM_AND_KEPT
def test_a_delete_whose_answer_was_lost_is_done(
    gcs: GcsServer, patient: GCloudStorage, randomize: bool
) -> None:
    name = store(patient, randomize=randomize)
    gcs.fail("delete", loses_the_answer, times=1)
    assert patient.delete(name) is True
    assert patient.delete(name) is False
    assert gcs.keys() == []


def test_a_repeated_delete_spares_a_file_that_got_the_name_in_between(
    gcs: GcsServer, patient: GCloudStorage
) -> None:
    store(patient)
    gcs.fail("delete", loses_the_answer, times=1)
    gcs.fail("delete", after_another(gcs, "a.txt", b"new"), times=1)
    assert patient.delete("a.txt") is True
    assert content(patient, "a.txt") == b"new"


def test_a_deleted_generation_can_be_restored_where_versions_are_kept(
    gcs: GcsServer, storage: GCloudStorage
) -> None:
    gcs.versioning = True
    for randomize in (True, False):
        storage.delete(store(storage, randomize=randomize))
    assert len(gcs.buckets[gcs.bucket].archived) == 2


@RANDOM_AND_KEPT
@pytest.mark.parametrize("flag", ["temporaryHold", "eventBasedHold"])
def test_a_file_under_hold_stays_and_is_told(
    gcs: GcsServer, storage: GCloudStorage, randomize: bool, flag: str
) -> None:
    name = store(storage, randomize=randomize)
    gcs.buckets[gcs.bucket].patch(name, {flag: True}, {})
    with pytest.raises(StorageUnavailable, match=rf"delete '{name}' .*403 .* under active"):
        storage.delete(name)
    assert gcs.keys() == [name]


@RANDOM_AND_KEPT
def test_a_file_under_a_retention_policy_stays_and_is_told(
    gcs: GcsServer, storage: GCloudStorage, randomize: bool
) -> None:
    gcs.retention = timedelta(days=1)
    name = store(storage, randomize=randomize)
    with pytest.raises(StorageUnavailable, match="403 .* retention policy"):
        storage.delete(name)
    assert gcs.keys() == [name]
