"""How S3 is made sure of what it receives: a CRC32 where it compares one, else the signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kinto_attachment.storage import NewFile, StorageUnavailable
from kinto_attachment.storage.s3 import S3Storage
from kinto_attachment.storage.s3.staged import MIN_PART_SIZE
from tests.storage.conftest import random_bytes, s3_storage
from tests.support.servers.s3 import S3Server
from tests.support.storage_faults import Faults

THREE_PARTS = 2 * MIN_PART_SIZE + 10
CHECKSUM = "x-amz-checksum-crc32"

MakeS3 = Callable[..., S3Storage]
MakeFaults = Callable[[S3Storage], Faults]


@pytest.fixture
def make_s3() -> MakeS3:
    """Each storage here has a client of its own, which knows nothing of the store yet."""
    return s3_storage


@pytest.fixture(params=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    return found


def store(storage: S3Storage, content: bytes) -> str:
    staged = storage.stage(NewFile("a.bin"))
    staged.write(content)
    return staged.finish()


def content(storage: S3Storage, name: str) -> bytes:
    return b"".join(storage.read(name))


def sent(faults: Faults) -> list[tuple[bool, bool]]:
    """Of each request that had content: whether that was signed, and whether it had a CRC32."""
    signatures = [
        (request.headers["X-Amz-Content-SHA256"], CHECKSUM in request.headers)
        for request in faults.requests
        if request.method == "PUT"
    ]
    return [(digest != b"UNSIGNED-PAYLOAD", checksum) for digest, checksum in signatures]


def has_checksum(request: Any) -> bool:
    return CHECKSUM in request.headers or "x-amz-checksum-algorithm" in request.headers


def damage(storage: S3Storage, operation: str) -> None:
    """From now on, let the first byte of what is sent arrive as another one."""

    def flip(request: Any, **_: Any) -> None:
        whole = bytearray().join(map(bytes, request.body))
        whole[0] ^= 1
        request.body = bytes(whole)

    storage.s3_client.meta.events.register_last(f"before-send.s3.{operation}", flip)


def test_what_a_store_compares_is_not_signed(
    make_s3: MakeS3, seaweedfs: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(seaweedfs)
    faults = make_faults(storage)
    whole = random_bytes(THREE_PARTS)
    store(storage, b"first")
    assert content(storage, store(storage, whole)) == whole
    assert sent(faults) == [(True, True), *[(False, True)] * 3]


def test_what_a_store_does_not_compare_is_signed(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    whole = random_bytes(THREE_PARTS)
    assert content(storage, store(storage, whole)) == whole
    assert {signed for signed, _ in sent(faults)} == {True}


def test_everything_is_signed_if_the_settings_say_so(
    make_s3: MakeS3, seaweedfs: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(seaweedfs, sign_payload=True)
    faults = make_faults(storage)
    store(storage, random_bytes(THREE_PARTS))
    assert sent(faults) == [(True, False)] * 3


@pytest.mark.parametrize("is_compared", [False, True])
@pytest.mark.parametrize(("size", "operation"), [(10, "PutObject"), (THREE_PARTS, "UploadPart")])
def test_content_that_arrives_damaged_is_refused(
    make_s3: MakeS3, seaweedfs: S3Server, size: int, operation: str, is_compared: bool
) -> None:
    storage = make_s3(seaweedfs)
    if is_compared:
        store(storage, b"first")
    before = seaweedfs.keys()
    damage(storage, operation)
    with pytest.raises(StorageUnavailable):
        store(storage, random_bytes(size))
    assert (seaweedfs.keys(), seaweedfs.uploads()) == (before, [])


@pytest.mark.parametrize(
    ("operation", "status", "code"),
    [
        ("PutObject", 501, "NotImplemented"),
        ("UploadPart", 400, "InvalidRequest"),
        ("CreateMultipartUpload", 400, "InvalidArgument"),
    ],
)
def test_a_store_that_refuses_checksums_gets_signed_content(
    make_s3: MakeS3,
    server: S3Server,
    make_faults: MakeFaults,
    operation: str,
    status: int,
    code: str,
) -> None:
    storage = make_s3(server)
    faults = make_faults(storage)
    faults.answer(operation, status, code, when=has_checksum)
    whole = b"small" if operation == "PutObject" else random_bytes(MIN_PART_SIZE + 10)
    assert content(storage, store(storage, whole)) == whole
    faults.requests.clear()
    assert content(storage, store(storage, whole)) == whole
    assert not any(map(has_checksum, faults.requests))
    assert {signed for signed, _ in sent(faults)} == {True}


def test_a_policy_that_demands_signed_content_is_met(
    make_s3: MakeS3, seaweedfs: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(seaweedfs)
    store(storage, b"first")
    make_faults(storage).answer(
        "PutObject",
        403,
        "AccessDenied",
        when=lambda request: request.headers["X-Amz-Content-SHA256"] == b"UNSIGNED-PAYLOAD",
    )
    assert content(storage, store(storage, b"second")) == b"second"


@pytest.mark.parametrize(
    ("status", "code"), [(400, "RequestTimeout"), (403, "RequestTimeTooSkewed")]
)
def test_an_error_that_may_pass_is_not_taken_for_a_refusal_of_checksums(
    make_s3: MakeS3, seaweedfs: S3Server, make_faults: MakeFaults, status: int, code: str
) -> None:
    storage = make_s3(seaweedfs)
    store(storage, b"first")
    faults = make_faults(storage)
    faults.answer("PutObject", status, code, times=1)
    with pytest.raises(StorageUnavailable):
        store(storage, b"second")
    faults.requests.clear()
    store(storage, b"third")
    assert sent(faults) == [(False, True)]


def test_a_part_whose_answer_was_lost_is_sent_again_as_a_whole(
    make_s3: MakeS3, seaweedfs: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(seaweedfs, num_retries=1)
    store(storage, b"first")
    make_faults(storage).lose_answers("UploadPart", times=1)
    whole = random_bytes(THREE_PARTS)
    assert content(storage, store(storage, whole)) == whole
