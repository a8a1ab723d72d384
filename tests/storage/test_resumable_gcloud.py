"""Files that several requests send, on Google Cloud Storage."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import google_crc32c
import pytest

from kinto_attachment.storage import NewFile, StorageUnavailable, names
from kinto_attachment.storage.gcloud import GCloudStorage
from kinto_attachment.storage.gcloud.crc32c import concatenated
from kinto_attachment.storage.gcloud.pieces import Piece, Pieces
from tests.storage.conftest import UsedMeanwhile, gcloud_storage, random_bytes
from tests.support.servers.gcs import GcsRequest, GcsServer, answers_as, loses_the_answer
from tests.support.servers.gcs.errors import GcsError
from tests.support.storage_faults import Fuse, gcloud_fails

MIB = 1024 * 1024
# More than goes in one request.
LARGE = 4 * MIB + 17


@pytest.fixture
def storage(gcs: GcsServer) -> GCloudStorage:
    return gcloud_storage(gcs)


def send(storage: GCloudStorage, content: bytes, state: Any = None, **options: Any) -> Any:
    """Let one request send ``content`` to a new file, or to that of ``state``. Returns the
    state."""
    file = storage.resume(state or storage.create(NewFile("a.txt", **options)))
    file.write(content)
    state = json.loads(json.dumps(file.checkpoint()))
    file.close()
    return state


def content(storage: GCloudStorage, name: str) -> bytes:
    return b"".join(storage.read(name))


def operations(gcs: GcsServer) -> dict[str, int]:
    """How often the requests were made, by kind."""
    return Counter(request.operation for request in gcs.requests)


def pieces(gcs: GcsServer, state: Any) -> list[str]:
    """The names of the pieces of a state."""
    return [names.hidden(state["id"], str(number)) for number in state["pieces"]]


# Pieces.


@pytest.mark.parametrize("size", [10, 4 * MIB, LARGE, 12 * MIB])
def test_a_request_stores_one_piece_and_no_byte_is_sent_twice(
    storage: GCloudStorage, gcs: GcsServer, size: int
) -> None:
    first = storage.create(NewFile("a.txt"))
    gcs.requests.clear()
    state = send(storage, random_bytes(size), first)
    assert len(state["pieces"]) == 1
    uploads = [each for each in gcs.requests if each.operation in ("insert", "chunk")]
    assert len(uploads) == -(-size // (4 * MIB))
    assert sum(each.received for each in uploads) < size + 1000
    gcs.requests.clear()
    name = storage.resume(state).finish()
    assert operations(gcs) == {"list": 2, "compose": 1, "delete": 2}
    assert content(storage, name) == random_bytes(size)


def test_an_empty_file_is_not_composed(storage: GCloudStorage, gcs: GcsServer) -> None:
    for randomize in (True, False):
        name = storage.resume(storage.create(NewFile("a.txt", randomize=randomize))).finish()
        assert gcs.objects()[name].size == 0
    assert "compose" not in operations(gcs)


def test_before_a_state_has_too_many_pieces_google_composes_the_last_ones(
    storage: GCloudStorage, gcs: GcsServer
) -> None:
    expected = b""
    state = None
    for number in range(1, 17):
        chunk = b"%d," % number
        state, expected = send(storage, chunk, state), expected + chunk
        assert len(state["pieces"]) == number % 16 or 1
    assert state is not None
    assert gcs.objects()[pieces(gcs, state)[0]].content == expected
    # The state before needs its own, for as long as this one may not be saved.
    assert len(state["superseded"]) == 15
    assert len(gcs.keys()) == 17
    state = send(storage, b"end", state)
    assert state["superseded"] == []
    assert len(gcs.keys()) == 3
    assert content(storage, storage.resume(state).finish()) == expected + b"end"


@pytest.mark.parametrize("checkpoints", [1, 5, 100])
def test_many_requests_with_many_checkpoints_keep_three_states_and_little_else(
    storage: GCloudStorage, gcs: GcsServer, checkpoints: int
) -> None:
    expected = b""
    state = storage.create(NewFile("a.txt", folder="f", cache_control="public, max-age=31536000"))
    for number in range(100 // checkpoints):
        file = storage.resume(state)
        states = [(state, expected)] * 2
        for _ in range(checkpoints):
            chunk = bytes([number]) * (1 + len(expected) * 7 % 11)
            file.write(chunk)
            expected += chunk
            state = json.loads(json.dumps(file.checkpoint()))
            states = [states[0], states[-1], (state, expected)]
            assert len(json.dumps(state)) < 800
            assert set(gcs.keys()) <= storage.used_by(state)
            assert len(gcs.keys()) <= 1 + 16 + 15 + 15
        file.close()
        for resumable, sent in states:
            resumed = storage.resume(resumable)
            assert resumed.offset == len(sent)
            resumed.close()
    assert content(storage, storage.resume(states[1][0]).finish()) == states[1][1]
    assert len(gcs.keys()) == 1


def test_however_many_checkpoints_there_are_no_byte_is_composed_often() -> None:
    composed = 0

    class Google:
        def compose(self, name: str, sources: Any, crc32c: int, size: int) -> Any:
            nonlocal composed
            composed += size
            return {"generation": "1", "size": str(size), "crc32c": "AAAAAA=="}

    class Hidden:
        new_object = Google

        def name(self, number: int) -> str:
            return str(number)

        def delete(self, number: int) -> None: ...

    file = Pieces(Hidden(), {"pieces": [], "superseded": []})  # type: ignore[arg-type]
    for number in range(3000):
        file.append(Piece(number, "1", 1 + number % 5, 0))
        file.fold()
        file.remove_superseded()
        assert len(file.numbers) < 16
        assert len(file.superseded) <= 16
    assert file.size == 9000
    assert composed < 4 * file.size


def test_a_crc32c_of_a_whole_is_that_of_its_parts() -> None:
    for size in (0, 1, 1000, 300_000):
        first, second = random_bytes(777), random_bytes(size)
        parts = [google_crc32c.extend(0, part) for part in (first, second)]
        whole = google_crc32c.extend(parts[0], second)
        assert concatenated(parts[0], parts[1], size) == whole


def test_a_piece_is_hidden_and_private(storage: GCloudStorage, gcs: GcsServer) -> None:
    for randomize in (True, False):
        state = send(storage, b"content", randomize=randomize)
        state = send(storage, random_bytes(LARGE), state)
        for _ in range(15):
            state = send(storage, b"x", state)
        assert len(gcs.keys()) > 2
        for name, stored in gcs.objects().items():
            assert names.is_part(name)
            assert stored.acl == "projectPrivate"
            assert stored.content_type == "application/octet-stream"
        storage.cancel(state)


@pytest.mark.parametrize("options", [{"acl": ""}, {"uniform_bucket_level_access": True}])
def test_where_no_acl_is_sent_none_is_sent_for_a_piece(
    gcs: GcsServer, options: dict[str, Any]
) -> None:
    gcs.uniform_access = True
    storage = gcloud_storage(gcs, **options)
    for randomize in (True, False):
        state = send(storage, random_bytes(LARGE), randomize=randomize)
        assert content(storage, storage.resume(state).finish()) == random_bytes(LARGE)
    assert {stored.acl for stored in gcs.objects().values()} == {None}


def test_no_name_is_written_twice_within_a_second(storage: GCloudStorage, gcs: GcsServer) -> None:
    gcs.one_write_per_second = True
    for randomize in (True, False, False):
        state = None
        for _ in range(20):
            state = send(storage, b"x", state, randomize=randomize)
        name = storage.resume(state).finish()
    assert name == "a-1.txt"
    assert len(gcs.keys()) == 3


def test_what_a_bucket_retains_fails_no_request(
    storage: GCloudStorage, gcs: GcsServer, caplog: pytest.LogCaptureFixture
) -> None:
    gcs.retention = timedelta(days=1)
    state = None
    for _ in range(100):
        state = send(storage, b"x", state)
        assert len(json.dumps(state)) < 800
    assert "Could not remove a composed object entirely" in caplog.text
    name = storage.resume(state).finish()
    assert content(storage, name) == b"x" * 100
    assert "Could not remove the hidden objects of an upload entirely" in caplog.text
    gcs.retention = None
    storage.cancel(state)
    assert gcs.keys() == [name]


def test_an_upload_session_is_cancelled_with_the_file(
    storage: GCloudStorage, gcs: GcsServer
) -> None:
    file = storage.resume(storage.create(NewFile("a.txt")))
    file.write(random_bytes(LARGE))
    assert len(gcs.sessions()) == 1
    file.discard()
    assert gcs.sessions() == []
    assert gcs.keys() == []


def test_a_session_that_google_forgets_loses_no_checkpoint(
    storage: GCloudStorage, gcs: GcsServer
) -> None:
    state = send(storage, b"one ")
    file = storage.resume(state)
    file.write(random_bytes(LARGE))
    gcs.lose_sessions()
    with pytest.raises(StorageUnavailable):
        file.checkpoint()
    name = storage.resume(send(storage, b"two", state)).finish()
    assert content(storage, name) == b"one two"


def test_one_file_at_a_time_has_two_chunks_in_memory(storage: GCloudStorage) -> None:
    first, second = (storage.resume(storage.create(NewFile("a.txt"))) for _ in range(2))
    for file in (first, second):
        file.write(random_bytes(12 * MIB))
    assert not storage._bucket.second_buffer.acquire(blocking=False)
    first.close()
    second.close()
    assert storage._bucket.second_buffer.acquire(blocking=False)
    storage._bucket.second_buffer.release()


# What Google has of it.


@pytest.mark.parametrize("randomize", [True, False])
@pytest.mark.parametrize("size", [0, 10, LARGE])
def test_content_type_cache_control_and_acl_outlive_the_request(
    gcs: GcsServer, size: int, randomize: bool
) -> None:
    options = {
        "content_type": "image/svg+xml",
        "cache_control": "public, max-age=60",
        "acl": "authenticatedRead",
    }
    state = send(gcloud_storage(gcs), bytes(size), randomize=randomize, **options)
    name = gcloud_storage(gcs, acl="private").resume(state).finish()
    stored = gcs.objects()[name]
    assert stored.content_type == "image/svg+xml"
    assert stored.cache_control == "public, max-age=60"
    assert stored.acl == "authenticatedRead"
    assert stored.metadata == {"upload": state["id"]}


def test_every_page_of_what_google_lists_is_read(
    storage: GCloudStorage, gcs: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = storage._bucket.session.request

    def one_a_page(method: str, path: str, *, params: Any = None, **options: Any) -> Any:
        if path.endswith("/o") and method == "GET":
            params = {**params, "maxResults": "1"}
        return listed(method, path, params=params, **options)

    monkeypatch.setattr(storage._bucket.session, "request", one_a_page)
    state = None
    for _ in range(5):
        state = send(storage, b"x", state)
    name = storage.resume(state).finish()
    assert gcs.keys() == [name]


def test_a_bucket_that_is_gone_is_not_a_file_that_is_gone(
    storage: GCloudStorage, gcs: GcsServer
) -> None:
    missing = gcloud_storage(gcs, bucket="missing")
    state = None
    for _ in range(15):
        state = send(storage, b"x", state)
    kept = send(storage, b"x", randomize=False)
    files = [storage.resume(each) for each in (state, state, kept, kept)]
    for file in files:
        file.write(b"x")
    gcs.drop_bucket()
    for use in (
        lambda: missing.create(NewFile("a.txt")),
        lambda: missing.resume(state),
        files[0].checkpoint,
        files[1].finish,
        files[2].checkpoint,
        files[3].finish,
    ):
        with pytest.raises(StorageUnavailable, match="bucket does not exist"):
            use()


def test_a_bucket_that_goes_before_pieces_are_composed_is_not_a_file_that_is_gone(
    storage: GCloudStorage, gcs: GcsServer
) -> None:
    state = None
    for _ in range(15):
        state = send(storage, b"x", state)
    for use in ("checkpoint", "finish"):
        file = storage.resume(state)
        file.write(b"x")
        missing = GcsError(404, "notFound", "The specified bucket does not exist.")
        gcs.fail(lambda r: r.operation in ("compose", "list", "get"), answers_as(missing))
        with pytest.raises(StorageUnavailable, match="bucket does not exist"):
            getattr(file, use)()
        gcs.heal()
    assert content(storage, storage.resume(state).finish()) == b"x" * 15


def test_what_google_refuses_is_reported_and_the_state_is_still_good(
    storage: GCloudStorage, gcs: GcsServer
) -> None:
    refused = answers_as(GcsError(403, "forbidden", "Made up."))
    for randomize in (True, False):
        state = None
        for _ in range(15):
            state = send(storage, b"x", state, randomize=randomize)
        for operation in ("list", "insert", "compose"):
            gcs.fail(operation, refused, times=1)
            with pytest.raises(StorageUnavailable, match="403 Made up"):
                send(storage, b"x", state)
        gcs.fail("compose", refused, times=1)
        with pytest.raises(StorageUnavailable, match="403 Made up"):
            storage.resume(state).finish()
        assert content(storage, storage.resume(state).finish()) == b"x" * 15


# What is gone, or not what it was.


@pytest.mark.parametrize("checkpoints", [0, 14])
def test_a_file_that_is_cancelled_meanwhile_is_gone(
    storage: GCloudStorage, gcs: GcsServer, checkpoints: int
) -> None:
    state = send(storage, random_bytes(LARGE))
    for _ in range(checkpoints):
        state = send(storage, b"x", state)
    first, second = storage.resume(state), storage.resume(state)
    first.write(b"x")
    second.write(b"x")
    storage.cancel(state)
    if checkpoints:
        with pytest.raises(FileNotFoundError):
            first.checkpoint()
    with pytest.raises(FileNotFoundError):
        second.finish()
    storage.cancel(state)
    assert gcs.keys() == []


@pytest.mark.parametrize("randomize", [True, False])
@pytest.mark.parametrize("other", [b"Content", b"con"])
def test_a_piece_that_is_not_what_was_sent_is_not_made_a_file_of(
    storage: GCloudStorage, gcs: GcsServer, other: bytes, randomize: bool
) -> None:
    state = send(storage, b"content", randomize=randomize)
    overwrite(gcs, pieces(gcs, state)[0], other)
    with pytest.raises(FileNotFoundError):
        storage.resume(state)
    storage.cancel(state)
    assert gcs.keys() == []


def test_a_piece_that_is_overwritten_meanwhile_is_gone(
    storage: GCloudStorage, gcs: GcsServer
) -> None:
    state = send(storage, b"content")
    file = storage.resume(state)
    overwrite(gcs, pieces(gcs, state)[0], b"Content")
    with pytest.raises(FileNotFoundError):
        file.finish()


@pytest.mark.parametrize("randomize", [True, False])
def test_what_google_composes_is_compared_with_what_was_sent(
    storage: GCloudStorage, gcs: GcsServer, monkeypatch: pytest.MonkeyPatch, randomize: bool
) -> None:
    state = send(storage, b"content", randomize=randomize)
    file = storage.resume(state)
    compose = storage._bucket.compose
    monkeypatch.setattr(
        storage._bucket,
        "compose",
        lambda name, sources, attributes: compose(name, sources[:1], attributes),
    )
    file.write(b"more")
    with pytest.raises(FileNotFoundError):
        file.finish()
    file.discard()
    assert gcs.keys() == []


def test_an_object_of_somebody_else_is_not_taken_for_a_piece(
    storage: GCloudStorage, gcs: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = send(storage, b"one ")
    with monkeypatch.context() as patched:
        patched.setattr("secrets.randbelow", lambda limit: 0)
        overwrite(gcs, names.hidden(state["id"], str(10**9)), b"two")
        with pytest.raises(StorageUnavailable, match="is taken"):
            send(storage, b"two", state)
    name = storage.resume(send(storage, b"two", state)).finish()
    assert content(storage, name) == b"one two"
    assert gcs.keys() == [name]


def test_an_object_of_somebody_else_is_not_taken_for_the_file(
    storage: GCloudStorage, gcs: GcsServer
) -> None:
    state = send(storage, b"content")
    overwrite(gcs, state["name"], b"content")
    with pytest.raises(FileNotFoundError):
        storage.resume(state).finish()
    storage.cancel(state)
    assert gcs.keys() == [state["name"]]


@pytest.mark.parametrize("randomize", [True, False])
def test_a_file_that_was_finished_with_other_bytes_is_not_the_same(
    storage: GCloudStorage, gcs: GcsServer, randomize: bool
) -> None:
    state = send(storage, b"content", randomize=randomize)
    file = storage.resume(state)
    file.write(b"not saved")
    gcs.fail("delete", answers_as(GcsError(503, "backendError", "Made up.")))
    name = file.finish()
    gcs.heal()
    with pytest.raises(FileNotFoundError):
        storage.resume(state).finish()
    assert content(storage, name) == b"contentnot saved"
    storage.cancel(state)
    assert gcs.keys() == [name]


def test_discard_removes_what_was_stored_although_a_failure_was_reported(
    storage: GCloudStorage, gcs: GcsServer
) -> None:
    for randomize in (True, False):
        for sent in (b"", b"content"):
            file = storage.resume(send(storage, sent, randomize=randomize))
            # The note of a kept name is inserted before.
            notes = 0 if randomize or sent else 1
            gcs.fail("compose" if sent else "insert", loses_the_answer, times=1, after=notes)
            with pytest.raises(StorageUnavailable):
                file.finish()
            file.discard()
            assert gcs.keys() == []


def test_a_name_that_is_refused_is_not_searched_for_ever(
    storage: GCloudStorage, gcs: GcsServer
) -> None:
    for randomize in (True, False):
        state = send(storage, b"content", randomize=randomize)
        gcs.public_access_prevention = True
        with pytest.raises(StorageUnavailable, match="public access prevention"):
            storage.resume(state).finish()
        gcs.public_access_prevention = False
        assert content(storage, storage.resume(state).finish()) == b"content"


# Several processes, and a server that fails.


@pytest.mark.parametrize("randomize", [True, False])
@pytest.mark.parametrize("size", [0, 10])
def test_of_several_processes_that_finish_at_once_one_makes_the_file(
    gcs: GcsServer, size: int, randomize: bool
) -> None:
    state = send(gcloud_storage(gcs), bytes(size), randomize=randomize)
    files = [gcloud_storage(gcs).resume(state) for _ in range(4)]

    def finish(file: Any) -> str | None:
        try:
            name: str = file.finish()
        except (FileNotFoundError, StorageUnavailable):
            return None
        return name

    with ThreadPoolExecutor(4) as threads:
        finished = set(threads.map(finish, files)) - {None}
    (name,) = {name for name in gcs.objects() if not names.is_part(name)}
    assert finished == {name}
    gcloud_storage(gcs).cancel(state)
    assert gcs.keys() == [name]


@pytest.mark.parametrize("done", [False, True])
def test_a_process_that_is_killed_while_pieces_are_composed_loses_no_state(
    storage: GCloudStorage, gcs: GcsServer, done: bool
) -> None:
    first = None
    for _ in range(13):
        first = send(storage, b"x", first)
    for steps in itertools.count():
        fuse = Fuse(steps, done=done)
        states = [first]
        # Nothing reaches Google once the fuse has blown, clean-up included.
        with gcloud_fails(fuse, storage), contextlib.suppress(StorageUnavailable):
            file = storage.resume(first)
            for _ in range(5):
                file.write(b"x")
                states.append(json.loads(json.dumps(file.checkpoint())))
        for state in (first, *states[-2:]):
            resumed = storage.resume(state)
            assert resumed.offset == state["offset"]
            resumed.close()
        if not fuse.blown:
            break
    assert content(storage, storage.resume(states[-1]).finish()) == b"x" * 18
    assert len(gcs.keys()) == 1


FAULTS = {
    "lost answer": loses_the_answer,
    "503": answers_as(GcsError(503, "backendError", "Made up.")),
    "429": answers_as(GcsError(429, "rateLimitExceeded", "Made up.")),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("randomize", [True, False])
def test_every_request_that_fails_is_repeated(
    gcs: GcsServer,
    fault: str,
    randomize: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    # The question what has become of a chunk fails as well.
    storage = gcloud_storage(gcs, num_retries=2)
    failed = set()

    def is_first_try(request: GcsRequest) -> bool:
        key = (request.method, request.path, *request.pairs, request.headers.get("Content-Range"))
        failed.symmetric_difference_update({key})
        return key in failed

    gcs.fail(is_first_try, FAULTS[fault])
    file = storage.resume(send(storage, random_bytes(LARGE), randomize=randomize))
    for _ in range(17):
        file.write(b"x")
        file.checkpoint()
    name = file.finish(UsedMeanwhile("a.txt"))
    storage.cancel(storage.create(NewFile("b.txt")))
    assert name == "a-1.txt" or randomize
    assert gcs.keys() == [name]
    assert gcs.objects()[name].content == random_bytes(LARGE) + b"x" * 17
    assert caplog.text == ""


def overwrite(gcs: GcsServer, name: str, content: bytes) -> None:
    """Let another program store an object."""
    storage = gcloud_storage(gcs)
    storage.delete(name)
    folder, _, filename = name.rpartition("/")
    staged = storage.stage(NewFile(filename, folder, exact_name=True))
    staged.write(content)
    staged.finish()


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
state = storage.create(NewFile("large.bin"))
for _ in range(int(megabytes) // 13):
    state = send(state, 13 * 16)
storage.resume(state).finish()
print(memory("VmHWM") - idle, memory("VmRSS") - idle, threading.active_count())
"""


def test_a_large_upload_takes_little_memory(gcs: GcsServer) -> None:
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE_MEMORY, "208", gcs.endpoint_url, gcs.bucket],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, afterwards, threads = map(int, measured.stdout.split())
    assert peak < 16
    assert afterwards < 8
    assert threads == 1
