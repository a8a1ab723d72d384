"""Files that several requests send, on S3."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.exceptions import ClientError

from kinto_attachment.storage import NewFile, StorageUnavailable, names
from kinto_attachment.storage.s3 import S3Storage
from kinto_attachment.storage.s3 import resumable as s3_resumable
from kinto_attachment.storage.s3.resumable import PartSizes
from kinto_attachment.storage.s3.staged import MIN_PART_SIZE
from tests.storage.conftest import random_bytes
from tests.support.servers.s3 import S3Server
from tests.support.storage_faults import Faults

MIB = 1024 * 1024
GIB = 1024 * MIB
LARGE = MIN_PART_SIZE + 17

MakeS3 = Callable[..., S3Storage]
MakeFaults = Callable[[S3Storage], Faults]


def send(storage: S3Storage, content: bytes, state: Any = None, **options: Any) -> Any:
    """Let one request send ``content`` to a new file, or to that of ``state``. Returns the
    state."""
    file = storage.resume(state or storage.create(NewFile("a.txt", **options)))
    file.write(content)
    state = file.checkpoint()
    file.close()
    return state


def content(storage: S3Storage, name: str) -> bytes:
    return b"".join(storage.read(name))


def operations(faults: Faults) -> dict[str, int]:
    """How often the requests were made, by method and kind."""
    kinds = ("uploads", "uploadId", "list-type")
    return Counter(
        f"{request.method} {next((kind for kind in kinds if kind in request.url), '')}".strip()
        for request in faults.requests
    )


def part_sizes(faults: Faults) -> list[int]:
    """How large the parts were that were sent, in the order of their numbers."""
    sent = {}
    for request in faults.requests:
        if number := parse_qs(urlsplit(request.url).query).get("partNumber"):
            sent[int(number[0])] = int(request.headers["Content-Length"])
    return [sent[number] for number in sorted(sent)]


# Parts.


def test_a_small_file_needs_no_multipart_upload(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    state = send(storage, b"one ", size=7)
    name = storage.resume(send(storage, b"two", state)).finish()
    assert content(storage, name) == b"one two"
    assert not any("partNumber" in request.url for request in faults.requests)
    assert "POST uploads" not in operations(faults)


@pytest.mark.parametrize("size", [None, 100 * MIB])
def test_all_parts_but_the_last_have_one_size_wherever_requests_end(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, size: int | None
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    state = None
    for length in (3 * MIB, MIN_PART_SIZE, 1, 7 * MIB + 5):
        state = send(storage, random_bytes(length), state, size=size)
    storage.resume(state).finish()
    assert part_sizes(faults) == [MIN_PART_SIZE] * 3 + [6]


def test_parts_are_as_large_as_ten_thousand_of_them_need(make_s3: MakeS3, moto: S3Server) -> None:
    storage = make_s3(moto)
    for size, part_size in [(10, 5 * MIB), (50_001 * MIB, 5 * MIB + 105), (10**18, 64 * MIB)]:
        state = storage.create(NewFile("a.txt", size=size))
        assert state["part_size"] == part_size
        storage.cancel(state)


def test_without_a_size_parts_grow_with_their_number() -> None:
    sizes = PartSizes(None)
    all_sizes = [sizes.size(number) for number in range(1, 10_001)]
    assert all_sizes[:1000] == [5 * MIB] * 1000
    assert all_sizes[1000] == 10 * MIB
    assert max(all_sizes) == all_sizes[-1] == 64 * MIB
    assert sum(all_sizes) > 448 * GIB


@pytest.mark.parametrize("fixed", [None, 5 * MIB, 6 * MIB + 1])
def test_where_a_part_begins_follows_from_its_number(fixed: int | None) -> None:
    sizes = PartSizes(fixed)
    start = 0
    for number in range(1, 10_001):
        assert sizes.split(start) == (number - 1, 0)
        assert sizes.split(start + 1) == (number - 1, 1)
        start += sizes.size(number)
        assert sizes.split(start - 1) == (number - 1, sizes.size(number) - 1)


def test_parts_of_a_file_without_a_size_grow(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_resumable, "_PARTS_OF_A_SIZE", 1)
    storage = make_s3(server)
    faults = make_faults(storage)
    expected = random_bytes(20 * MIB)
    state = send(storage, expected[: 18 * MIB])
    name = storage.resume(send(storage, expected[18 * MIB :], state)).finish()
    assert content(storage, name) == expected
    assert part_sizes(faults) == [5 * MIB, 10 * MIB, 5 * MIB]


def test_the_multipart_upload_is_known_from_the_start(make_s3: MakeS3, server: S3Server) -> None:
    storage = make_s3(server)
    state = storage.create(NewFile("a.txt", size=LARGE))
    assert server.uploads() == [(state["name"], state["upload_id"])]
    send(storage, random_bytes(LARGE), state)
    # The process died, and its state was not saved: the next one goes on with the same upload.
    send(storage, random_bytes(LARGE), state)
    assert server.uploads() == [(state["name"], state["upload_id"])]
    storage.cancel(state)


def test_an_incomplete_part_is_hidden_and_private(make_s3: MakeS3, moto: S3Server) -> None:
    storage = make_s3(moto)
    state = send(storage, b"content", size=LARGE)
    (part,) = moto.keys()
    assert part.startswith(".")
    assert part.endswith(".part")
    grants = moto.admin.get_object_acl(Bucket=moto.bucket, Key=part)["Grants"]
    assert not any(grant["Grantee"]["Type"] == "Group" for grant in grants)
    storage.cancel(state)


def test_an_incomplete_part_that_cannot_be_removed_is_removed_later(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, caplog: pytest.LogCaptureFixture
) -> None:
    storage = make_s3(moto)
    make_faults(storage).answer("DeleteObject", 500, "InternalError", times=1)
    state = None
    for _ in range(3):
        state = send(storage, random_bytes(6 * MIB), state, size=100 * MIB)
    assert "Could not remove an incomplete part entirely" in caplog.text
    assert len(moto.keys()) == 3
    state = send(storage, b"x", state)
    assert len(moto.keys()) == 1
    storage.cancel(state)


# What S3 has of it.


@pytest.mark.parametrize("randomize", [True, False])
@pytest.mark.parametrize("size", [10, LARGE])
def test_content_type_and_acl_outlive_the_request(
    make_s3: MakeS3, moto: S3Server, size: int, randomize: bool
) -> None:
    options = {"content_type": "image/svg+xml", "acl": "authenticated-read"}
    state = send(make_s3(moto), bytes(size), randomize=randomize, **options)
    name = make_s3(moto, acl="private").resume(state).finish()
    assert moto.admin.head_object(Bucket=moto.bucket, Key=name)["ContentType"] == "image/svg+xml"
    grants = moto.admin.get_object_acl(Bucket=moto.bucket, Key=name)["Grants"]
    groups = [grant["Grantee"]["URI"] for grant in grants if grant["Grantee"]["Type"] == "Group"]
    assert [group.rpartition("/")[2] for group in groups] == ["AuthenticatedUsers"]


def test_every_page_of_what_s3_lists_is_read(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)

    def one(name: str) -> Callable[[dict[str, Any]], None]:
        return lambda params: params["query_string"].update({name: "1"})

    faults.before("ListParts", one("max-parts"))
    faults.before("ListMultipartUploads", one("max-uploads"))
    faults.before("ListObjectsV2", one("max-keys"))
    expected = random_bytes(3 * MIN_PART_SIZE + 1)
    states = [send(storage, expected, size=len(expected)) for _ in range(2)]
    assert {upload.id for upload in storage.incomplete()} == {
        state["upload_id"] for state in states
    }
    assert content(storage, storage.resume(states[0]).finish()) == expected
    storage.cancel(states[1])
    assert list(storage.incomplete()) == []
    assert len(moto.keys()) == 1


def test_an_upload_tells_when_it_was_started(make_s3: MakeS3, seaweedfs: S3Server) -> None:
    storage = make_s3(seaweedfs)
    state = storage.create(NewFile("a.txt", size=LARGE))
    (upload,) = storage.incomplete()
    assert (upload.name, upload.id) == (state["name"], state["upload_id"])
    assert abs(datetime.now(timezone.utc) - upload.started) < timedelta(minutes=1)
    storage.abort(upload)


def test_a_store_may_say_that_there_is_no_such_upload_where_there_is_none_at_all(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, caplog: pytest.LogCaptureFixture
) -> None:
    storage = make_s3(moto)
    state = send(storage, b"content", randomize=False)
    faults = make_faults(storage)
    faults.answer("ListMultipartUploads", 404, "NoSuchUpload")
    assert list(storage.incomplete()) == []
    storage.cancel(state)
    assert moto.keys() == []
    assert caplog.text == ""


@pytest.mark.limit_of("rclone", "a missing bucket has no uploads", pytest.fail.Exception)
def test_a_bucket_that_is_gone_is_not_a_file_that_is_gone(
    make_s3: MakeS3, server: S3Server
) -> None:
    storage = make_s3(server)
    missing = make_s3(server, bucket="missing")
    small, large = send(storage, b"x"), send(storage, random_bytes(LARGE))
    new = storage.create(NewFile("a.txt", randomize=False))
    for use in (
        lambda: missing.create(NewFile("a.txt")),
        lambda: missing.resume(new),
        lambda: missing.resume(small),
        lambda: missing.resume(large),
        lambda: list(missing.incomplete()),
        lambda: missing.abort(next(storage.incomplete())),
    ):
        with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
            use()
    for state in (new, small, large):
        storage.cancel(state)


def test_without_lists_of_parts_a_large_file_is_not_resumed_and_nothing_is_lost(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    faults.answer("ListParts", 501, "NotImplemented")
    small = send(storage, b"one ", send(storage, b""))
    assert content(storage, storage.resume(small).finish()) == b"one "
    # Unless it is announced, a file has no parts before there is one.
    for size in (LARGE, None):
        state = storage.create(NewFile("a.txt", size=size))
        with pytest.raises(StorageUnavailable, match="NotImplemented"):
            send(storage, b"", send(storage, random_bytes(LARGE), state))
        storage.cancel(state)
    assert len(moto.keys()) == 1
    assert moto.uploads() == []


# What is gone, or not what it was.


def test_an_upload_that_is_aborted_meanwhile_is_gone(make_s3: MakeS3, seaweedfs: S3Server) -> None:
    storage = make_s3(seaweedfs)
    state = send(storage, random_bytes(LARGE))
    first, second = storage.resume(state), storage.resume(state)
    first.write(random_bytes(MIN_PART_SIZE))
    storage.cancel(state)
    for use in (first.checkpoint, second.finish):
        with pytest.raises(FileNotFoundError):
            use()


@pytest.mark.limit_of("rclone", "a part cannot be replaced by another one", ClientError)
@pytest.mark.parametrize("randomize", [True, False])
def test_a_part_that_is_not_what_was_sent_is_not_made_a_file_of(
    make_s3: MakeS3, server: S3Server, randomize: bool
) -> None:
    storage = make_s3(server)
    state = send(storage, random_bytes(LARGE), randomize=randomize)
    ((key, upload_id),) = server.uploads()
    # SeaweedFS keeps what was sent first, and lists it as well: there are two of the right size.
    for other in (bytes(MIN_PART_SIZE), bytes(MIN_PART_SIZE + 1)):
        server.admin.upload_part(
            Bucket=server.bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=other
        )
    with pytest.raises(FileNotFoundError):
        storage.resume(state).finish()
    storage.cancel(state)
    assert server.keys() == []


@pytest.mark.parametrize("left", [0, 3])
@pytest.mark.parametrize("size", [10, LARGE])
def test_an_incomplete_part_that_is_shorter_than_it_was_is_gone(
    make_s3: MakeS3, server: S3Server, size: int, left: int
) -> None:
    storage = make_s3(server)
    for randomize in (True, False):
        state = send(storage, random_bytes(size), randomize=randomize)
        (number,) = state["tails"]
        part = names.hidden(state["id"], str(number))
        assert part in storage.used_by(state)
        server.admin.put_object(Bucket=server.bucket, Key=part, Body=bytes(left))
        with pytest.raises(FileNotFoundError):
            storage.resume(state)
        storage.cancel(state)
    assert server.keys() == []


@pytest.mark.limit_of("rclone", "what cannot be completed is aborted", FileNotFoundError)
def test_a_part_that_is_another_than_the_state_says_is_gone(
    make_s3: MakeS3, server: S3Server
) -> None:
    storage = make_s3(server)
    for randomize in (True, False):
        state = send(storage, random_bytes(LARGE), randomize=randomize)
        with pytest.raises(FileNotFoundError):
            storage.resume({**state, "etags": {"1": f'"{0:032}"'}}).finish()
        assert content(storage, storage.resume(state).finish()) == random_bytes(LARGE)


@pytest.mark.limit_of("rclone", "a part cannot be replaced by another one", StorageUnavailable)
def test_a_part_that_is_sent_again_takes_the_place_of_the_first_one(
    make_s3: MakeS3, server: S3Server
) -> None:
    storage = make_s3(server)
    state = storage.create(NewFile("a.txt", size=4 * MIN_PART_SIZE))
    first, second = random_bytes(3 * MIN_PART_SIZE), random_bytes(3 * MIN_PART_SIZE)[::-1]
    for killed in (first, second, first):
        send(storage, killed, state)
    state = send(storage, second[: MIN_PART_SIZE + 5], state)
    state = send(storage, second[MIN_PART_SIZE + 5 :], state)
    assert content(storage, storage.resume(state).finish()) == second


def test_an_object_of_somebody_else_is_not_taken_for_the_file(
    make_s3: MakeS3, moto: S3Server
) -> None:
    storage = make_s3(moto)
    state = send(storage, b"content")
    moto.admin.put_object(Bucket=moto.bucket, Key=state["name"], Body=b"content")
    with pytest.raises(FileNotFoundError):
        storage.resume(state).finish()
    assert content(storage, state["name"]) == b"content"
    storage.cancel(state)


def test_a_file_that_was_finished_with_other_bytes_is_not_the_same(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(server)
    for size in (10, LARGE):
        state = send(storage, random_bytes(size), randomize=False)
        file = storage.resume(state)
        file.write(b"not saved")
        faults = make_faults(storage)
        faults.answer("DeleteObject", 500, "InternalError")
        name = file.finish()
        faults.end()
        with pytest.raises(FileNotFoundError):
            storage.resume(state).finish()
        assert content(storage, name) == random_bytes(size) + b"not saved"
        storage.cancel(state)
        storage.delete(name)
    assert server.keys() == []


def test_a_store_that_tells_that_there_was_nothing_to_delete(
    make_s3: MakeS3,
    moto: S3Server,
    make_faults: MakeFaults,
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage = make_s3(moto)
    make_faults(storage).answer("DeleteObject", 404, "NoSuchKey")
    storage.cancel(send(storage, b"content"))
    assert caplog.text == ""


def test_discard_removes_what_was_stored_although_a_failure_was_reported(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(server)
    faults = make_faults(storage)
    for size in (10, LARGE):
        file = storage.resume(send(storage, random_bytes(size)))
        faults.lose_answers("PutObject" if size == 10 else "CompleteMultipartUpload", times=1)
        with pytest.raises(StorageUnavailable, match="Read timeout"):
            file.finish()
        file.discard()
    assert server.keys() == []
    assert server.uploads() == []


def test_a_copy_that_is_aborted_is_made_again(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    expected = random_bytes(LARGE)
    state = send(storage, expected, randomize=False)
    make_faults(storage).answer("UploadPartCopy", 404, "NoSuchUpload", times=1)
    assert storage.resume(state).finish() == "a.txt"
    assert content(storage, "a.txt") == expected
    assert moto.keys() == ["a.txt"]
    assert moto.uploads() == []


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_store_without_conditional_writes_is_looked_at_first(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults, size: int
) -> None:
    storage = make_s3(moto)
    faults = make_faults(storage)
    for operation in ("PutObject", "CompleteMultipartUpload"):
        faults.answer(
            operation, 501, "NotImplemented", when=lambda r: "If-None-Match" in r.headers
        )
    for randomize in (True, False, False):
        name = storage.resume(send(storage, random_bytes(size), randomize=randomize)).finish()
        assert content(storage, name) == random_bytes(size)
    assert name == "a-1.txt"
    assert len(moto.keys()) == 3


def test_without_the_permission_to_list_a_missing_note_is_no_failure(
    make_s3: MakeS3, moto: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(moto)
    state = send(storage, b"content", randomize=False)
    note = max(moto.keys())

    def of_note(request: Any) -> bool:
        return request.method == "GET" and request.url.endswith(note)

    make_faults(storage).answer("GetObject", 403, "AccessDenied", when=of_note)
    assert storage.resume(state).finish() == "a.txt"


def test_what_s3_refuses_is_reported_and_the_state_is_still_good(
    make_s3: MakeS3, server: S3Server, make_faults: MakeFaults
) -> None:
    storage = make_s3(server)
    faults = make_faults(storage)
    state = send(storage, b"one ", size=LARGE)
    for operation in ("ListParts", "GetObject", "UploadPart", "PutObject"):
        faults.answer(operation, 503, "SlowDown", times=1)
        with pytest.raises(StorageUnavailable, match="SlowDown"):
            send(storage, random_bytes(LARGE), state)
    state = send(storage, random_bytes(LARGE), state)
    for operation in ("ListParts", "GetObject", "UploadPart", "CompleteMultipartUpload"):
        faults.answer(operation, 503, "SlowDown", times=1)
        with pytest.raises(StorageUnavailable, match="SlowDown"):
            storage.resume(state).finish()
    assert content(storage, storage.resume(state).finish()) == b"one " + random_bytes(LARGE)


MEASURE_MEMORY = """
import re, sys, threading
from pathlib import Path
from kinto_attachment.storage import NewFile
from tests.storage.conftest import storage_of

MIB = 1024 * 1024
_, megabytes, *arguments = sys.argv

def memory(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\\s+(\\d+) kB", status)[1]) // 1024

def send(state, count):
    file = storage.resume(state)
    for _ in range(count):
        file.write(chunk)
    state = file.checkpoint()
    file.close()
    return state

storage = storage_of(*arguments)
chunk = bytes(64 * 1024)
storage.resume(send(storage.create(NewFile("warm.bin")), 100)).finish()
idle = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
state = storage.create(NewFile("large.bin", size=int(megabytes) * MIB))
for _ in range(int(megabytes) // 13):
    state = send(state, 13 * 16)
file = storage.resume(state)
file.finish()
print(memory("VmHWM") - idle, memory("VmRSS") - idle, threading.active_count())
"""


def test_a_large_upload_takes_little_memory(seaweedfs: S3Server) -> None:
    measured = subprocess.run(
        [
            sys.executable, "-c", MEASURE_MEMORY, "104",
            seaweedfs.endpoint_url, seaweedfs.bucket, seaweedfs.access_key, seaweedfs.secret_key,
            seaweedfs.acl,
        ],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    peak, afterwards, threads = map(int, measured.stdout.split())
    assert peak < 16
    assert afterwards < 8
    assert threads == 1
