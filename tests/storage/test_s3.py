"""What only S3 can promise, or do wrong.

Two servers play S3. Where neither misbehaves as wanted, boto3's own events put an answer in the
place of the server's (``Faults``).
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import NoCredentialsError

from kinto_attachment.storage import FileTooLargeForStorage, NewFile, StorageUnavailable
from kinto_attachment.storage.options import S3Options
from kinto_attachment.storage.s3 import S3Storage
from kinto_attachment.storage.s3 import bucket as s3_bucket
from kinto_attachment.storage.s3 import staged as s3_staged
from kinto_attachment.storage.s3 import upload as s3_upload
from kinto_attachment.storage.s3.staged import MIN_PART_SIZE
from tests.storage.conftest import random_bytes, s3_storage
from tests.support.servers.ports import free_port
from tests.support.servers.s3 import S3Server, SeaweedServer
from tests.support.storage_faults import Faults

MIB = 1024 * 1024
LARGE = MIN_PART_SIZE + 10

MakeS3 = Callable[..., S3Storage]
MakeFaults = Callable[[S3Storage], Faults]


def store(storage: S3Storage, content: bytes = b"content", name: str = "a.txt", **kw: Any) -> str:
    staged = storage.stage(NewFile(name, **{"randomize": False, **kw}))
    staged.write(content)
    return staged.finish()


def content(storage: S3Storage, name: str) -> bytes:
    return b"".join(storage.read(name))


def upload_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("kinto-attachment-s3")]


# The client.


@pytest.mark.parametrize(
    ("options", "endpoint"),
    [
        ({}, None),
        ({"region": "eu-west-1"}, None),
        ({"endpoint_url": "https://s3.example.org"}, "https://s3.example.org"),
        ({"endpoint_url": ""}, None),
        ({"host": "s3.example.org"}, "https://s3.example.org"),
        ({"host": "localhost", "port": 9000}, "https://localhost:9000"),
        ({"host": "localhost", "port": 9000, "is_secure": False}, "http://localhost:9000"),
        ({"endpoint_url": "http://a", "host": "b"}, "http://a"),
    ],
)
def test_the_endpoint_is_what_the_options_say(
    options: dict[str, Any], endpoint: str | None
) -> None:
    assert S3Options("bucket", **options).endpoint == endpoint


def test_the_options_reach_the_client() -> None:
    storage = S3Storage(
        S3Options(
            "files", access_key="a", secret_key="b", region="eu-west-3", num_retries=4, timeout=7
        )
    )
    client = storage.s3_client
    config = client.meta.config
    assert client.meta.region_name == "eu-west-3"
    assert client.meta.endpoint_url == "https://s3.eu-west-3.amazonaws.com"
    assert config.connect_timeout == 7
    assert config.read_timeout == 60
    assert config.retries == {"mode": "standard", "total_max_attempts": 5}
    assert config.s3 is None or "addressing_style" not in config.s3
    assert (storage.bucket_name, storage.acl) == ("files", "public-read")
    client.close()


def test_the_secret_is_not_printed() -> None:
    assert "hunter2" not in repr(S3Options("bucket", access_key="a", secret_key="hunter2"))


def test_the_client_is_made_once(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    make_client = s3_bucket._make_client
    made = []

    def counted(options: S3Options) -> Any:
        made.append(options)
        return make_client(options)

    monkeypatch.setattr(s3_bucket, "_make_client", counted)
    storage = s3_storage(moto)
    assert made == []
    barrier = threading.Barrier(8)

    def get(_: int) -> Any:
        barrier.wait()
        return storage.s3_client

    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(get, range(8)))
    assert len(set(map(id, clients))) == 1
    assert store(storage) == "a.txt"
    assert store(storage) == "a-1.txt"
    assert len(made) == 1
    storage.s3_client.close()


def test_a_forked_process_makes_its_own_client(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = s3_storage(moto)
    first = storage.s3_client
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert storage.s3_client is not first
    assert storage.s3_client is storage.s3_client
    assert store(storage) == "a.txt"
    first.close()
    storage.s3_client.close()


def test_host_and_port_reach_the_server(make_s3: MakeS3, server: S3Server) -> None:
    storage = make_s3(
        server, endpoint_url=None, host="127.0.0.1", port=server.port, is_secure=False
    )
    assert content(storage, store(storage)) == b"content"


def test_without_keys_boto3_looks_for_some(
    make_s3: MakeS3, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.secret_key)
    storage = make_s3(seaweedfs, access_key=None, secret_key=None)
    assert content(storage, store(storage)) == b"content"


def test_without_any_keys_the_storage_is_unavailable(
    make_s3: MakeS3, moto: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "missing"))
    storage = make_s3(moto, access_key=None, secret_key=None)
    with pytest.raises(StorageUnavailable, match="credentials") as caught:
        store(storage)
    assert isinstance(caught.value.__cause__, NoCredentialsError)


def test_options_of_which_no_client_can_be_made() -> None:
    storage = S3Storage(S3Options("files", endpoint_url="not a url"))
    with pytest.raises(StorageUnavailable, match="cannot make a client for bucket 'files'"):
        storage.stage(NewFile("a.txt")).finish()


def test_wrong_keys_are_reported(make_s3: MakeS3, seaweedfs: S3Server) -> None:
    for options in ({"secret_key": "wrong"}, {"access_key": "wrong"}):
        storage = make_s3(seaweedfs, **options)
        for size in (10, LARGE):
            with pytest.raises(
                StorageUnavailable, match="SignatureDoesNotMatch|InvalidAccessKeyId"
            ):
                store(storage, bytes(size), randomize=True)
        with pytest.raises(StorageUnavailable, match="403"):
            storage.exists("a.txt")
    assert seaweedfs.keys() == []
    assert upload_threads() == []


def test_a_missing_bucket_is_not_a_missing_file(make_s3: MakeS3, server: S3Server) -> None:
    storage = make_s3(server, bucket="missing")
    uses: list[Callable[[], Any]] = [
        lambda: store(storage),
        lambda: store(storage, bytes(LARGE)),
        lambda: store(storage, randomize=True),
        lambda: store(storage, bytes(LARGE), randomize=True),
        lambda: storage.exists("a.txt"),
        lambda: storage.stat("a.txt"),
        lambda: storage.read("a.txt"),
        lambda: storage.delete("a.txt"),
        lambda: list(storage.list()),
    ]
    for use in uses:
        with pytest.raises(StorageUnavailable, match=r"in bucket 'missing': .*NoSuchBucket"):
            use()
    assert upload_threads() == []


def test_a_server_that_is_down_is_reported_soon(make_s3: MakeS3, moto: S3Server) -> None:
    storage = make_s3(moto, endpoint_url=f"http://127.0.0.1:{free_port()}", num_retries=1)
    repeated = []
    storage.watch_retries(lambda: repeated.append(True))
    begun = time.monotonic()
    staged = storage.stage(NewFile("a.txt"))
    staged.write(b"x")
    with pytest.raises(StorageUnavailable, match=r"cannot store .*Could not connect"):
        staged.finish()
    assert time.monotonic() - begun < 5
    assert repeated == [True]


@pytest.mark.apart
def test_a_server_that_dies_is_reported(make_s3: MakeS3, caplog: pytest.LogCaptureFixture) -> None:
    with SeaweedServer() as server:
        storage = make_s3(server)
        stored = store(storage, random_bytes(40 * MIB), "b.bin")
        reading = storage.read(stored)
        next(reading)
        small, large = storage.stage(NewFile("a.txt")), storage.stage(NewFile("a.txt"))
        small.write(b"x")
        large.write(bytes(2 * MIN_PART_SIZE + 1))
        assert upload_threads()
        server.kill()
        with pytest.raises(StorageUnavailable, match="cannot read 'b.bin'"):
            list(reading)
        with pytest.raises(StorageUnavailable, match="cannot write to"):
            large.write(bytes(2 * MIN_PART_SIZE))
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
    # The parts that the server still has could not be removed.
    assert "Could not discard an upload entirely" in caplog.text


# What the object is.


@pytest.mark.parametrize("randomize", [True, False])
@pytest.mark.parametrize("size", [10, LARGE])
def test_the_content_type_is_what_is_served(
    make_s3: MakeS3, server: S3Server, size: int, randomize: bool
) -> None:
    name = store(
        make_s3(server), bytes(size), "a.svg", content_type="image/svg+xml", randomize=randomize
    )
    served = server.admin.get_object(Bucket=server.bucket, Key=name)
    served["Body"].close()
    assert served["ContentType"] == "image/svg+xml"


def readers(server: S3Server, name: str) -> list[str]:
    """The groups that may read an object."""
    grants = server.admin.get_object_acl(Bucket=server.bucket, Key=name)["Grants"]
    return [
        grant["Grantee"]["URI"].rpartition("/")[2]
        for grant in grants
        if grant["Grantee"]["Type"] == "Group" and grant["Permission"] == "READ"
    ]


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize(
    ("acl", "groups"),
    [
        ("public-read", ["AllUsers"]),
        ("authenticated-read", ["AuthenticatedUsers"]),
        ("private", []),
    ],
)
def test_the_acl_is_set(
    make_s3: MakeS3, moto: S3Server, size: int, acl: str, groups: list[str]
) -> None:
    storage = make_s3(moto, acl=acl)
    for randomize in (True, False):
        name = store(storage, bytes(size), randomize=randomize)
        assert readers(moto, name) == groups


@pytest.mark.parametrize("size", [10, LARGE])
def test_without_an_acl_none_is_sent(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, size: int
) -> None:
    storage = make_s3(moto, acl="")
    faults = make_faults(storage)
    store(storage, bytes(size))
    assert len(faults.requests) > 0
    assert not any("x-amz-acl" in request.headers for request in faults.requests)


def test_save_file_takes_an_acl_and_a_content_type(make_s3: MakeS3, moto: S3Server) -> None:
    name = make_s3(moto).save_file(
        io.BytesIO(b"x"), "a.txt", acl="private", headers={"Content-Type": "text/x"}
    )
    assert readers(moto, name) == []
    assert moto.admin.head_object(Bucket=moto.bucket, Key=name)["ContentType"] == "text/x"


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("a.png", "image/png"),
        ("a.unknown", "application/octet-stream"),
        # mimetypes takes such a name for a "data:" URL, and what follows for its type.
        ("data:text/evil\r\nx-amz-acl: private,.png", "image/png"),
    ],
)
def test_save_file_guesses_the_content_type(
    make_s3: MakeS3, moto: S3Server, filename: str, content_type: str
) -> None:
    name = make_s3(moto).save_file(io.BytesIO(b"x"), filename, extensions=())
    assert moto.admin.head_object(Bucket=moto.bucket, Key=name)["ContentType"] == content_type


@pytest.mark.limit_of("rclone", "'folder/' becomes 'folder'", AssertionError)
def test_a_file_that_others_stored_is_seen(make_s3: MakeS3, server: S3Server) -> None:
    storage = make_s3(server)
    server.admin.put_object(Bucket=server.bucket, Key="old/file.txt", Body=b"old")
    server.admin.put_object(Bucket=server.bucket, Key="folder/", Body=b"")
    assert [file.name for file in storage.list()] == ["old/file.txt"]
    assert content(storage, "old/file.txt") == b"old"
    assert storage.delete("old/file.txt") is True
    assert storage.delete("old/file.txt") is False


def test_an_unfinished_upload_is_not_listed(make_s3: MakeS3, server: S3Server) -> None:
    storage = make_s3(server)
    staged = storage.stage(NewFile("a.txt"))
    staged.write(bytes(LARGE))
    assert list(storage.list()) == []
    assert len(server.uploads()) == 1
    staged.discard()
    assert server.uploads() == []


# Large files.


def test_parts_go_up_while_the_rest_is_still_arriving(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    staged = storage.stage(NewFile("a.txt"))
    staged.write(bytes(2 * MIN_PART_SIZE + 1))
    operations = [request.method for request in faults.requests]
    assert operations[0] == "POST"
    assert "PUT" in operations
    staged.finish()


def test_one_of_several_uploads_holds_two_parts(
    make_s3: MakeS3, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[s3_upload.PartBuffer] = []
    make_part = s3_upload.PartBuffer

    def part(capacity: int) -> s3_upload.PartBuffer:
        made.append(make_part(capacity))
        return made[-1]

    monkeypatch.setattr(s3_upload, "PartBuffer", part)
    monkeypatch.setattr(s3_staged, "PartBuffer", part)
    storage = make_s3(server)
    contents = [random_bytes(2 * MIN_PART_SIZE + number) for number in range(1, 4)]
    staged = [storage.stage(NewFile("a.bin")) for _ in contents]

    for start in range(0, len(contents[-1]), MIB):
        for file, content in zip(staged, contents, strict=True):
            file.write(content[start : start + MIB])
    held_at_once = len(made)
    names = [file.finish() for file in staged]

    assert held_at_once == len(contents) + 1
    assert [b"".join(storage.read(name)) for name in names] == contents


def test_all_parts_but_the_last_have_one_size(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    store(storage, bytes(2 * MIN_PART_SIZE + 17), randomize=True)
    sizes = [int(r.headers["Content-Length"]) for r in faults.requests if r.method == "PUT"]
    assert sizes == [MIN_PART_SIZE, MIN_PART_SIZE, 17]


@pytest.mark.parametrize(
    ("size", "part_size"),
    [
        (None, 5 * MIB),
        (0, 5 * MIB),
        (50_000 * MIB, 5 * MIB),
        (50_001 * MIB, 5 * MIB + 105),
        # Somebody announces more than there is memory for.
        (10**18, 64 * MIB),
    ],
)
def test_parts_are_as_large_as_ten_thousand_of_them_need(
    make_s3: MakeS3, moto: S3Server, size: int | None, part_size: int
) -> None:
    staged = make_s3(moto).stage(NewFile("a.txt", size=size))
    assert isinstance(staged, s3_staged.S3StagedFile)
    assert staged._part_size == part_size
    staged.discard()


def test_a_file_of_200_mib(make_s3: MakeS3, seaweedfs: S3Server) -> None:
    storage = make_s3(seaweedfs)
    staged = storage.stage(NewFile("a.bin"))
    block, sent, received = random_bytes(MIB), hashlib.sha256(), hashlib.sha256()
    for number in range(200):
        chunk = number.to_bytes(2, "big") + block
        sent.update(chunk)
        staged.write(chunk)
    name = staged.finish()
    for chunk in storage.read(name):
        received.update(chunk)
    assert received.hexdigest() == sent.hexdigest()
    assert storage.stat(name).size == 200 * (MIB + 2)


MEASURE_MEMORY = """
import re, sys, threading
from pathlib import Path
from kinto_attachment.storage import NewFile, S3Options
from kinto_attachment.storage.s3 import S3Storage

MIB = 1024 * 1024
_, endpoint_url, access_key, secret_key, bucket, megabytes = sys.argv

def memory(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\\s+(\\d+) kB", status)[1]) // 1024

storage = S3Storage(S3Options(bucket, access_key=access_key, secret_key=secret_key,
                              endpoint_url=endpoint_url, use_path_style=True))
for size in (10, 0):
    staged = storage.stage(NewFile("warm.bin", size=size))
    staged.write(b"x")
    storage.delete(staged.finish())
chunk = bytes(64 * 1024)
idle = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
staged = storage.stage(NewFile("large.bin"))
for _ in range(int(megabytes) * MIB // len(chunk)):
    staged.write(chunk)
name = staged.finish()
for _ in storage.read(name):
    pass
print(memory("VmHWM") - idle, memory("VmRSS") - idle, threading.active_count())
"""


def test_a_large_upload_takes_little_memory(seaweedfs: S3Server) -> None:
    arguments = [
        seaweedfs.endpoint_url, seaweedfs.access_key, seaweedfs.secret_key, seaweedfs.bucket,
    ]  # fmt: skip
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE_MEMORY, *arguments, "100"],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, afterwards, threads = map(int, measured.stdout.split())
    assert peak < 16
    assert afterwards < 8
    assert threads == 1


def test_discard_waits_for_the_part_that_is_on_its_way(
    make_s3: MakeS3, seaweedfs: S3Server
) -> None:
    storage = make_s3(seaweedfs)
    for _ in range(5):
        staged = storage.stage(NewFile("a.bin"))
        staged.write(bytes(LARGE))
        staged.discard()
        assert upload_threads() == []
    assert seaweedfs.uploads() == []


def test_a_part_that_fails_discards_the_file(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(server)
    make_faults(storage).answer("UploadPart", 500, "InternalError", times=1)
    staged = storage.stage(NewFile("a.bin"))
    staged.write(bytes(LARGE))
    with pytest.raises(StorageUnavailable, match="InternalError"):
        staged.write(bytes(2 * MIN_PART_SIZE))
    assert upload_threads() == []
    assert server.uploads() == []
    assert server.keys() == []


def test_a_failed_request_is_tried_again(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto, num_retries=1)
    faults = make_faults(storage)
    faults.answer("PutObject", 503, "SlowDown", times=1)
    faults.answer("UploadPart", 500, "InternalError", times=1)
    assert content(storage, store(storage)) == b"content"
    large = random_bytes(2 * LARGE)
    assert content(storage, store(storage, large)) == large


def test_what_cannot_be_aborted_is_logged(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, caplog: pytest.LogCaptureFixture
) -> None:
    storage = make_s3(moto)
    make_faults(storage).answer("AbortMultipartUpload", 403, "AccessDenied")
    staged = storage.stage(NewFile("a.bin"))
    staged.write(bytes(LARGE))
    staged.discard()
    assert "AccessDenied" in caplog.text
    assert upload_threads() == []
    assert len(moto.uploads()) == 1


# What the bucket does not allow.


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize("code", ["AccessControlListNotSupported", "AccessDenied"])
def test_where_the_acl_may_be_refused_the_error_names_the_setting(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, code: str, size: int
) -> None:
    for acl in ("public-read", ""):
        storage = make_s3(moto, acl=acl)
        faults = make_faults(storage)
        for operation in ("PutObject", "CreateMultipartUpload"):
            faults.answer(operation, 403, code)
        with pytest.raises(StorageUnavailable, match=code) as caught:
            store(storage, bytes(size))
        advice = "if the bucket does not allow the ACL 'public-read', leave aws.acl empty"
        assert (advice in str(caught.value)) is bool(acl)


def test_another_error_has_nothing_to_do_with_the_acl(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    faults.answer("PutObject", 503, "SlowDown")
    faults.answer("GetObject", 403, "AccessDenied")
    for use in (lambda: store(storage), lambda: storage.read("a.txt")):
        with pytest.raises(StorageUnavailable, match="SlowDown|AccessDenied") as caught:
            use()
        assert "acl" not in str(caught.value)


@pytest.mark.more_stores
@pytest.mark.parametrize("size", [10, LARGE])
def test_a_bucket_with_acls_disabled_takes_files_without_one(
    make_s3: MakeS3, ministack: S3Server, size: int
) -> None:
    with pytest.raises(StorageUnavailable, match="NotSupported.* leave aws.acl empty"):
        store(make_s3(ministack, acl="public-read"), bytes(size))
    assert ministack.keys() == []
    assert ministack.uploads() == []
    for acl in ("", "private", "bucket-owner-full-control"):
        storage = make_s3(ministack, acl=acl)
        assert content(storage, store(storage, bytes(size))) == bytes(size)


# Names that are to be kept.


@pytest.fixture
def small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_upload, "COPY_PART_SIZE", 6 * MIB)


@pytest.mark.usefixtures("small_copies")
def test_a_very_large_file_is_copied_to_its_name_in_parts(
    make_s3: MakeS3, server: S3Server
) -> None:
    storage = make_s3(server)
    expected = random_bytes(13 * MIB)
    assert content(storage, store(storage, expected)) == expected
    assert server.keys() == ["a.txt"]
    assert server.uploads() == []


@pytest.mark.limit_of("rclone", "no conditional writes", AssertionError)
@pytest.mark.parametrize("size", [10, LARGE])
def test_a_name_that_is_taken_at_the_last_moment_is_not_overwritten(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults, size: int
) -> None:
    storage = make_s3(server)

    def take(params: dict[str, Any]) -> None:
        if params["url_path"].endswith("/a.txt") and server.keys().count("a.txt") == 0:
            server.admin.put_object(Bucket=server.bucket, Key="a.txt", Body=b"first")

    faults = make_faults(storage)
    faults.before("PutObject", take)
    faults.before("CompleteMultipartUpload", take)
    expected = random_bytes(size)
    assert store(storage, expected) == "a-1.txt"
    assert content(storage, "a.txt") == b"first"
    assert content(storage, "a-1.txt") == expected
    assert server.keys() == ["a-1.txt", "a.txt"]
    assert server.uploads() == []


def conditional(request: Any) -> bool:
    return "If-None-Match" in request.headers


@pytest.mark.parametrize(
    ("status", "code", "size"),
    [
        (501, "NotImplemented", 10),
        (501, "NotImplemented", LARGE),
        (400, "InvalidArgument", 10),
        (400, "NotImplemented", 10),
    ],
)
def test_a_store_without_conditional_writes_is_looked_at_first(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, status: int, code: str, size: int
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    faults.answer("PutObject", status, code, when=conditional)
    faults.answer("CompleteMultipartUpload", status, code, when=conditional)
    contents = [b"%d" % number + bytes(size) for number in range(3)]
    assert [store(storage, each) for each in contents] == ["a.txt", "a-1.txt", "a-2.txt"]
    assert [content(storage, f"a{n}.txt") for n in ("", "-1", "-2")] == contents
    # It is asked once, not for every file.
    asked = [request for request in faults.requests if conditional(request)]
    assert len(asked) <= 2  # with a checksum, and without
    assert moto.uploads() == []


@pytest.mark.parametrize("ignored", [True, False])
def test_threads_keep_apart_on_a_store_without_conditional_writes(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, ignored: bool
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    if ignored:
        faults.before("PutObject", lambda params: params["headers"].pop("If-None-Match", None))
    else:
        faults.answer("PutObject", 501, "NotImplemented", when=conditional)
    contents = [b"%d" % number for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda each: store(storage, each), contents))
    assert len(set(names)) == 8
    assert [content(storage, name) for name in names] == contents


@pytest.mark.parametrize("refused", [True, False])
def test_a_store_without_conditional_writes_is_logged_once(
    make_s3: MakeS3,
    moto: S3Server,
    make_faults: MakeFaults,
    caplog: pytest.LogCaptureFixture,
    refused: bool,
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    if refused:
        faults.answer("PutObject", 501, "NotImplemented", when=conditional)
    else:
        faults.before("PutObject", lambda params: params["headers"].pop("If-None-Match", None))
    store(storage, randomize=True)
    store(storage, bytes(LARGE))
    assert caplog.text == ""
    for number in range(2, 4):
        assert store(storage, b"%d" % number, "b.txt") == f"b{'-1' * (number - 2)}.txt"
    assert caplog.text.count("The server of bucket 'attachments' has no conditional writes") == 1
    assert [content(storage, name) for name in ("b.txt", "b-1.txt")] == [b"2", b"3"]


@pytest.mark.parametrize("down", [False, True])
def test_a_store_with_conditional_writes_is_asked_once_more_and_no_longer(
    make_s3: MakeS3,
    moto: S3Server,
    make_faults: MakeFaults,
    caplog: pytest.LogCaptureFixture,
    down: bool,
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    sent: list[Any] = []
    faults.before("PutObject", sent.append)
    if down:
        faults.answer("PutObject", 500, "InternalError", when=lambda _: len(sent) == 2)
    contents = [b"%d" % number for number in range(3)]
    names = [store(storage, each) for each in contents]
    assert [content(storage, name) for name in names] == contents
    assert len(sent) == 4
    assert caplog.text == ""


@pytest.mark.more_stores
def test_rclone_has_no_conditional_writes(
    make_s3: MakeS3, rclone: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    store(make_s3(rclone))
    assert "has no conditional writes" in caplog.text


def test_a_name_that_is_taken_while_the_store_refuses_the_condition_is_left_alone(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)

    def take_and_refuse(request: Any) -> bool:
        if conditional(request):
            moto.admin.put_object(Bucket=moto.bucket, Key="a.txt", Body=b"first")
        return conditional(request)

    # With a checksum, and without.
    make_faults(storage).answer("PutObject", 501, "NotImplemented", when=take_and_refuse, times=2)
    assert store(storage) == "a-1.txt"
    assert content(storage, "a.txt") == b"first"


@pytest.mark.parametrize("size", [10, LARGE])
def test_another_error_of_a_conditional_write_is_reported(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults, size: int
) -> None:
    storage = make_s3(server)
    faults = make_faults(storage)
    faults.answer("PutObject", 403, "AccessDenied", when=conditional)
    faults.answer("CompleteMultipartUpload", 403, "AccessDenied", when=conditional)
    with pytest.raises(StorageUnavailable, match="AccessDenied"):
        store(storage, bytes(size))
    assert server.keys() == []
    assert server.uploads() == []


def test_without_the_permission_to_list_the_condition_decides(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    # What AWS answers for a missing object to whom it does not tell that it is missing.
    storage = make_s3(moto)
    faults = make_faults(storage)
    faults.answer("HeadObject", 403, "AccessDenied", times=1)
    assert store(storage) == "a.txt"
    faults.answer("HeadObject", 403, "AccessDenied")
    with pytest.raises(StorageUnavailable, match="AccessDenied"):
        storage.exists("a.txt")


def test_without_both_nothing_is_written(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, caplog: pytest.LogCaptureFixture
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    faults.answer("HeadObject", 403, "AccessDenied")
    faults.answer("PutObject", 501, "NotImplemented", when=conditional)
    with pytest.raises(StorageUnavailable, match="AccessDenied"):
        store(storage)
    assert moto.keys() == []
    assert caplog.text == ""


def test_an_object_that_comes_between_two_looks_is_missing_at_the_first(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    store(storage)
    make_faults(storage).answer("HeadObject", 404, "404", times=1)
    assert not storage.exists("a.txt")
    assert storage.exists("a.txt")


@pytest.mark.parametrize("randomize", [True, False])
@pytest.mark.parametrize("size", [10, LARGE])
def test_an_answer_that_is_lost_once_is_asked_for_again(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults, size: int, randomize: bool
) -> None:
    storage = make_s3(server, num_retries=1)
    faults = make_faults(storage)
    faults.lose_answers("PutObject", times=1)
    faults.lose_answers("CompleteMultipartUpload", times=1)
    expected = random_bytes(size)
    name = store(storage, expected, randomize=randomize)
    # Not refused for the sake of an object that is its own.
    assert randomize or name == "a.txt"
    assert content(storage, name) == expected
    assert server.keys() == [name]
    assert server.uploads() == []


@pytest.mark.parametrize("randomize", [True, False])
@pytest.mark.parametrize("size", [10, LARGE])
def test_an_object_whose_answer_was_lost_is_not_left_behind(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults, size: int, randomize: bool
) -> None:
    storage = make_s3(server)
    faults = make_faults(storage)
    faults.lose_answers("PutObject")
    faults.lose_answers("CompleteMultipartUpload")
    with pytest.raises(StorageUnavailable, match="Read timeout"):
        store(storage, random_bytes(size), randomize=randomize)
    assert server.keys() == []
    assert server.uploads() == []


@pytest.mark.parametrize("randomize", [True, False])
def test_an_upload_whose_start_was_not_answered_is_not_left_behind(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults, randomize: bool
) -> None:
    storage = make_s3(server)
    make_faults(storage).lose_answers("CreateMultipartUpload")
    with pytest.raises(StorageUnavailable, match="Read timeout"):
        store(storage, random_bytes(LARGE), randomize=randomize)
    assert server.keys() == []
    assert server.uploads() == []


@pytest.mark.parametrize(
    ("randomize", "lost"), [(True, ".txt"), (False, ".part"), (False, "a.txt")]
)
def test_a_repeated_completion_may_be_told_that_there_is_no_such_upload(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, randomize: bool, lost: str
) -> None:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    storage = make_s3(moto, num_retries=1)
    faults = make_faults(storage)

    def of_lost(request: Any) -> bool:
        return urlsplit(request.url).path.endswith(lost)

    faults.lose_answers("CompleteMultipartUpload", times=1, when=of_lost)
    faults.answer("CompleteMultipartUpload", 404, "NoSuchUpload", times=1, when=of_lost)
    expected = random_bytes(LARGE)
    name = store(storage, expected, randomize=randomize)
    assert randomize or name == "a.txt"
    assert content(storage, name) == expected
    assert moto.keys() == [name]
    assert moto.uploads() == []


def test_an_upload_that_is_gone_is_not_taken_for_completed(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    make_faults(storage).answer("CompleteMultipartUpload", 404, "NoSuchUpload")
    with pytest.raises(StorageUnavailable, match="NoSuchUpload"):
        store(storage, bytes(LARGE), randomize=True)
    assert moto.keys() == []
    assert moto.uploads() == []


def test_the_mark_of_an_upload_is_known_in_upper_case(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto, num_retries=1)
    faults = make_faults(storage)

    def capitalize(parsed: dict[str, Any], **_: Any) -> None:
        metadata = parsed.get("Metadata", {})
        parsed["Metadata"] = {name.capitalize(): value for name, value in metadata.items()}

    faults.after("HeadObject", capitalize)
    faults.lose_answers("PutObject", times=1)
    assert store(storage) == "a.txt"
    assert moto.keys() == ["a.txt"]


def test_an_object_whose_answer_was_lost_again_is_not_left_behind(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto, num_retries=1)
    make_faults(storage).lose_answers("PutObject")
    with pytest.raises(StorageUnavailable, match="Read timeout"):
        store(storage)
    assert moto.keys() == []


def test_the_object_of_another_is_not_taken_for_a_lost_one(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)

    def taken_by_another(request: Any) -> bool:
        moto.admin.put_object(Bucket=moto.bucket, Key="a.txt", Body=b"first")
        return True

    make_faults(storage).answer("PutObject", 500, "InternalError", when=taken_by_another)
    with pytest.raises(StorageUnavailable, match="InternalError"):
        store(storage)
    assert content(storage, "a.txt") == b"first"


def test_a_copied_upload_that_cannot_be_deleted_is_logged(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, caplog: pytest.LogCaptureFixture
) -> None:
    storage = make_s3(moto)
    make_faults(storage).answer("DeleteObject", 500, "InternalError", times=1)
    expected = random_bytes(LARGE)
    assert store(storage, expected) == "a.txt"
    assert content(storage, "a.txt") == expected
    (leftover,) = [file.name for file in storage.list() if file.name != "a.txt"]
    assert leftover.endswith(".part")
    assert leftover in caplog.text


@pytest.mark.parametrize("answer", ["not implemented", "an empty part"])
@pytest.mark.parametrize("size", [LARGE, 3 * MIN_PART_SIZE])
def test_a_store_that_cannot_copy_parts_is_sent_them_again(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, size: int, answer: str
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    if answer == "not implemented":
        faults.answer("UploadPartCopy", 501, "NotImplemented")
    else:
        # It takes the request for an UploadPart without content.
        faults.before("UploadPartCopy", lambda params: params["headers"].pop("x-amz-copy-source"))
    contents = [random_bytes(size), random_bytes(size)[::-1]]
    assert [store(storage, each) for each in contents] == ["a.txt", "a-1.txt"]
    assert [content(storage, name) for name in ("a.txt", "a-1.txt")] == contents
    assert moto.keys() == ["a-1.txt", "a.txt"]
    assert moto.uploads() == []


def test_what_cannot_be_sent_again_leaves_nothing(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    faults.answer("UploadPartCopy", 501, "NotImplemented")
    faults.answer("GetObject", 503, "SlowDown", when=lambda r: ".part" in r.url)
    with pytest.raises(StorageUnavailable, match="SlowDown"):
        store(storage, random_bytes(LARGE))
    assert moto.keys() == []
    assert moto.uploads() == []
    assert upload_threads() == []


def test_a_copy_that_fails_leaves_nothing(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(server)
    make_faults(storage).answer("UploadPartCopy", 503, "SlowDown")
    with pytest.raises(StorageUnavailable, match="SlowDown"):
        store(storage, random_bytes(LARGE))
    assert server.keys() == []
    assert server.uploads() == []


def test_a_store_that_tells_that_there_was_nothing_to_delete(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    random = store(storage, randomize=True)
    make_faults(storage).answer("DeleteObject", 404, "NoSuchKey", times=1)
    assert storage.delete(random) is False
    assert storage.delete(random) is True


@pytest.mark.limit_of("rclone", "no conditional deletes", FileNotFoundError)
def test_a_repeated_delete_spares_a_file_that_got_the_name_in_between(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(server, num_retries=1)
    faults = make_faults(storage)
    store(storage)
    repeated = []

    def another_upload(request: Any) -> bool:
        repeated.append(request)
        server.admin.put_object(Bucket=server.bucket, Key="a.txt", Body=b"new")
        return False

    faults.lose_answers("DeleteObject", times=1)
    faults.answer("DeleteObject", 500, "InternalError", when=another_upload)
    assert storage.delete("a.txt") is True
    assert len(repeated) == 1
    assert content(storage, "a.txt") == b"new"


def test_a_delete_whose_answer_was_lost_is_done(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(server, num_retries=1)
    store(storage)
    make_faults(storage).lose_answers("DeleteObject", times=1)
    assert storage.delete("a.txt") is True
    assert storage.delete("a.txt") is False
    assert server.keys() == []


def test_a_store_without_conditional_deletes_deletes(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    store(storage)
    for status, code in ((503, "SlowDown"), (403, "AccessDenied")):
        faults.answer("DeleteObject", status, code, times=1)
        with pytest.raises(StorageUnavailable, match=code):
            storage.delete("a.txt")
    faults.answer("DeleteObject", 501, "NotImplemented", when=lambda r: "If-Match" in r.headers)
    assert storage.delete("a.txt") is True
    assert moto.keys() == []


@pytest.mark.parametrize(
    "code", ["EntityTooLarge", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"]
)
@pytest.mark.parametrize(("operation", "size"), [("PutObject", 1), ("UploadPart", LARGE)])
def test_what_is_too_large_for_s3_is_told_from_what_is_not_available(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, code: str, operation: str, size: int
) -> None:
    storage = make_s3(moto)
    make_faults(storage).answer(operation, 400, code)

    with pytest.raises(FileTooLargeForStorage, match=code):
        store(storage, bytes(size))

    assert moto.uploads() == []


def test_a_file_of_unknown_size_with_too_many_parts(
    make_s3: MakeS3, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_upload, "MAX_PARTS", 1)

    with pytest.raises(FileTooLargeForStorage, match="more than 1 parts"):
        store(make_s3(moto), bytes(2 * MIN_PART_SIZE + 1))

    assert moto.uploads() == []


def test_a_key_of_more_than_1024_bytes_is_refused(
    make_s3: Callable[..., S3Storage], moto: S3Server
) -> None:
    storage = make_s3(moto)
    for name in ("a" * 1025, "é" * 513):
        assert storage.refuses(name) == "has more than 1024 bytes"
    assert storage.refuses("é" * 512) is None


def test_an_object_that_was_stored_without_a_type_has_none(
    make_s3: Callable[..., S3Storage], moto: S3Server
) -> None:
    moto.admin.put_object(Bucket=moto.bucket, Key="a", Body=b"x")

    assert make_s3(moto).stat("a").content_type is None
