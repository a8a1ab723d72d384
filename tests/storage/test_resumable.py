"""Files that several requests send, to several processes: what every file storage promises."""

from __future__ import annotations

import gc
import json
import random
import signal
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from kinto_attachment.storage import NewFile, StorageUnavailable, names
from kinto_attachment.storage.s3.staged import MIN_PART_SIZE
from tests.storage.conftest import Backend, UsedMeanwhile, random_bytes
from tests.support.servers.forked import run_code
from tests.support.storage_faults import Fuse

MIB = 1024 * 1024
LARGE = MIN_PART_SIZE + 17


class Upload:
    """A file that is sent by requests, each of them to another process."""

    def __init__(self, backend: Backend, filename: str = "a.txt", **options: Any) -> None:
        self._backend = backend
        self.state = saved(backend.storage.create(NewFile(filename, **options)))

    def resume(self, state: Any = None) -> Any:
        return self._backend.make().resume(state or self.state)

    def send(self, content: bytes, chunk_size: int = MIB) -> Any:
        """One request. Returns the state that it has saved."""
        file = self.resume()
        for start in range(0, len(content), chunk_size):
            file.write(content[start : start + chunk_size])
        self.state = saved(file.checkpoint())
        file.close()
        return self.state

    def finish(self, is_used: Callable[[str], bool] | None = None) -> str:
        """Another one. Returns the name."""
        name: str = self.resume().finish(is_used)
        return name


def saved(state: Any) -> Any:
    """A state as it comes back from where it was saved."""
    return json.loads(json.dumps(state))


def visible(backend: Backend) -> list[str]:
    """The names of the files that readers see."""
    names = [file.name for file in backend.storage.list()]
    return [name for name in names if not name.startswith(".")]


@pytest.fixture(params=[True, False], ids=["random name", "kept name"])
def randomize(request: pytest.FixtureRequest) -> bool:
    flag: bool = request.param
    return flag


# What arrives.


@pytest.mark.parametrize("chunk_size", [MIN_PART_SIZE, 1_700_003])
@pytest.mark.parametrize(
    "size", [0, 1, MIN_PART_SIZE - 1, MIN_PART_SIZE, MIN_PART_SIZE + 1, 12 * MIB]
)
def test_what_many_requests_sent_is_what_is_read(
    backend: Backend, size: int, chunk_size: int
) -> None:
    content = random_bytes(size)
    upload = Upload(backend, folder="f", size=size)
    for start in range(0, size, chunk_size):
        assert upload.resume().offset == start
        upload.send(content[start : start + chunk_size], 300_000)
    assert visible(backend) == []
    name = upload.finish()
    assert backend.content(name) == content
    assert backend.everything() == [name]


@pytest.mark.parametrize("announced", [None, 10, 100 * MIB])
@pytest.mark.parametrize("size", [0, 10, MIN_PART_SIZE, LARGE])
def test_the_size_that_is_announced_is_only_a_hint(
    backend: Backend, size: int, announced: int | None, randomize: bool
) -> None:
    content = random_bytes(size)
    upload = Upload(backend, size=announced, randomize=randomize)
    upload.send(content)
    name = upload.finish()
    assert backend.content(name) == content
    assert backend.everything() == [name]


def test_one_request_may_do_it_all(backend: Backend, randomize: bool) -> None:
    for size in (0, 10, MIN_PART_SIZE, LARGE):
        file = Upload(backend, randomize=randomize, size=size).resume()
        file.write(random_bytes(size))
        assert backend.content(file.finish()) == random_bytes(size)
    assert len(backend.everything()) == 4


def test_chunks_may_be_of_any_bytes_like_kind(backend: Backend) -> None:
    upload = Upload(backend)
    file = upload.resume()
    for chunk in (b"", b"one ", bytearray(b"two "), memoryview(b"three")):
        file.write(chunk)
    assert file.offset == 13
    assert backend.content(file.finish()) == b"one two three"


def test_a_request_may_ask_for_many_checkpoints(backend: Backend) -> None:
    content = random_bytes(12 * MIB)
    upload = Upload(backend, size=len(content))
    file = upload.resume()
    for start in range(0, len(content), 700_000):
        file.write(content[start : start + 700_000])
        upload.state = saved(file.checkpoint())
        assert upload.state == saved(file.checkpoint())
        assert upload.resume().offset == file.offset
    # What no state needs any more has gone.
    assert len(backend.everything()) <= 4
    name = upload.finish()
    assert backend.content(name) == content
    assert backend.everything() == [name]


@pytest.mark.limit_of("rclone", "a part cannot be replaced by another one", StorageUnavailable)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_requests_do_the_bytes_are_those_of_the_saved_states(
    backend: Backend, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    announced = chance.choice([None, 16 * MIB])
    upload = Upload(backend, randomize=chance.random() < 0.5, size=announced)
    content = b""
    while len(content) < 12 * MIB:
        file = upload.resume()
        assert file.offset == len(content)
        received = content
        for _ in range(chance.randrange(4)):
            # Not what was sent before an interruption: nothing of that may show up.
            chunk = chance.randbytes(chance.choice([1, 100_000, 3 * MIB, MIN_PART_SIZE]))
            file.write(chunk)
            received += chunk
            if chance.random() < 0.6:
                state = file.checkpoint()
                if chance.random() < 0.7:
                    upload.state, content = saved(state), received
        file.close()
    name = upload.finish()
    assert backend.content(name) == content
    assert backend.everything() == [name]


# The name, and what is seen.


def test_the_name_is_that_of_a_staged_file(backend: Backend) -> None:
    for options, name in [
        ({"filename": "../été.PNG", "folder": "f//g"}, "f/g/ete.PNG"),
        ({"filename": "../été.PNG", "folder": "f//g"}, "f/g/ete-1.PNG"),
        ({"filename": "日本.txt"}, "file.txt"),
    ]:
        upload = Upload(backend, randomize=False, **options)
        upload.send(b"x")
        assert upload.finish() == name
    name = Upload(backend, "My Holidays.JPG").finish()
    assert len(name) == 40
    assert name.endswith(".jpg")
    with pytest.raises(ValueError, match="not a folder"):
        backend.storage.create(NewFile("a.txt", folder=".."))


@pytest.mark.parametrize("size", [10, LARGE])
def test_nothing_is_overwritten(backend: Backend, size: int) -> None:
    backend.store(b"first", randomize=False)
    upload = Upload(backend, randomize=False, size=size)
    upload.send(random_bytes(size))
    backend.store(b"second", randomize=False)
    assert upload.finish() == "a-2.txt"
    assert backend.content("a.txt") == b"first"
    assert backend.content("a-1.txt") == b"second"
    assert backend.content("a-2.txt") == random_bytes(size)
    assert backend.everything() == ["a-1.txt", "a-2.txt", "a.txt"]


@pytest.mark.parametrize("size", [0, 10, LARGE])
def test_a_name_that_was_used_does_not_come_back(backend: Backend, size: int) -> None:
    for is_used in (["f/a.txt", "f/a-1.txt"].__contains__, UsedMeanwhile("f/a.txt", "f/a-1.txt")):
        upload = Upload(backend, folder="f", randomize=False, size=size)
        upload.send(random_bytes(size))
        name = upload.finish(is_used)
        assert name == "f/a-2.txt"
        assert backend.content(name) == random_bytes(size)
        assert backend.everything() == [name]
        backend.storage.delete(name)


def test_nobody_asks_whether_a_random_name_was_used(backend: Backend) -> None:
    is_used = UsedMeanwhile()
    upload = Upload(backend)
    name = upload.finish(is_used)
    assert upload.finish(is_used) == name
    assert is_used.asked == []


@pytest.mark.parametrize("answers", [0, 1, 3])
@pytest.mark.parametrize("size", [0, 10, LARGE])
def test_if_nobody_knows_whether_a_name_was_used_the_file_stays_unfinished(
    backend: Backend, size: int, answers: int
) -> None:
    is_used = UsedMeanwhile("a.txt")

    def fail_after(name: str) -> bool:
        if len(is_used.asked) == answers:
            raise ConnectionError("no database")
        return is_used(name)

    upload = Upload(backend, randomize=False)
    upload.send(random_bytes(size))
    with pytest.raises(ConnectionError, match="no database"):
        upload.finish(fail_after)
    assert visible(backend) == []
    name = upload.finish()
    assert backend.content(name) == random_bytes(size)
    assert backend.everything() == [name]


@pytest.mark.parametrize("answer", ["yes", "none"])
@pytest.mark.parametrize("size", [0, 10, LARGE])
def test_a_name_that_another_process_has_finished_the_file_under_is_not_given_back(
    backend: Backend, size: int, answer: str
) -> None:
    upload = Upload(backend, randomize=False)
    upload.send(random_bytes(size))
    finished = []

    def answered_late(name: str) -> bool:
        if finished or not visible(backend):
            return False
        # This process has stood still: its lease is over, and another has taken the upload.
        finished.append(upload.finish(lambda name: False))
        if answer == "none":
            raise ConnectionError("no database")
        return True

    with pytest.raises(FileNotFoundError if answer == "yes" else ConnectionError):
        upload.finish(answered_late)
    assert finished == ["a.txt"]
    assert backend.content("a.txt") == random_bytes(size)
    assert backend.everything() == ["a.txt"]


def test_a_state_is_small_and_holds_no_secret(backend: Backend) -> None:
    upload = Upload(backend, folder="f", size=100 * MIB)
    for _ in range(12):
        upload.send(random_bytes(MIB))
    text = json.dumps(upload.state)
    assert len(text) < 800
    assert "secret" not in text
    assert "key" not in text.replace('"keep_name"', "")


# Older states, and processes that die.


def test_an_older_state_is_as_good_as_a_newer_one(backend: Backend, randomize: bool) -> None:
    first = random_bytes(3 * MIB)
    for more in (MIB, 9 * MIB):
        upload = Upload(backend, randomize=randomize)
        older = upload.send(first)
        upload.send(random_bytes(more))
        # The process died before the newer one was saved.
        upload.state = older
        assert upload.resume().offset == len(first)
        upload.send(b"other")
        upload.send(random_bytes(more)[::-1])
        name = upload.finish()
        assert backend.content(name) == first + b"other" + random_bytes(more)[::-1]
        backend.storage.delete(name)
    assert backend.everything() == []


def test_the_states_that_a_request_began_with_and_last_had_can_be_resumed(
    backend: Backend,
) -> None:
    content = random_bytes(40 * MIB)
    upload = Upload(backend)
    states = [upload.send(content[: 2 * MIB])]
    file = upload.resume()
    for _ in range(5):
        file.write(content[file.offset : file.offset + 7 * MIB])
        states.append(saved(file.checkpoint()))
    file.close()
    for state in (states[-1], states[-2], states[0]):
        file = upload.resume(state)
        assert file.offset == state["offset"]
        file.close()
    upload.state = states[0]
    upload.send(content[2 * MIB : 20 * MIB])
    name = upload.finish()
    assert backend.content(name) == content[: 20 * MIB]
    assert backend.everything() == [name]


def test_the_first_state_can_be_resumed_whatever_came_after(backend: Backend) -> None:
    upload = Upload(backend, size=None)
    first = upload.state
    upload.send(random_bytes(LARGE))
    upload.state = first
    upload.send(b"short")
    name = upload.finish()
    assert backend.content(name) == b"short"
    assert backend.everything() == [name]


KILLED = """
import json, os, signal, sys
from tests.storage.conftest import random_bytes, storage_of
_, state, *arguments = sys.argv
file = storage_of(*arguments).resume(json.loads(state))
file.write(random_bytes(12 * 1024 * 1024))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_written_since_its_checkpoint_is_dropped(
    backend: Backend, randomize: bool
) -> None:
    upload = Upload(backend, randomize=randomize)
    upload.send(b"one ")
    in_another_process(KILLED, json.dumps(upload.state), *backend.arguments)
    assert upload.resume().offset == 4
    upload.send(b"two")
    name = upload.finish()
    assert backend.content(name) == b"one two"
    assert backend.everything() == [name]


KILLED_IN_FINISH = """
import json, os, signal, sys
from tests.storage.conftest import storage_of
from tests.support.storage_faults import Fuse, fails
_, state, steps, *arguments = sys.argv
storage = storage_of(*arguments)
file = storage.resume(json.loads(state))
fuse = Fuse(int(steps), done=True, blow=lambda: os.kill(os.getpid(), signal.SIGKILL))
with fails(fuse, storage):
    file.finish()
"""


@pytest.mark.parametrize(
    ("randomize", "size", "steps"),
    [(True, 10, 1), (True, LARGE, 4), (False, 10, 3), (False, LARGE, 9)],
)
def test_a_process_killed_in_finish_leaves_one_file_to_finish(
    backend: Backend, randomize: bool, size: int, steps: int
) -> None:
    upload = Upload(backend, randomize=randomize, size=size)
    upload.send(random_bytes(size))
    in_another_process(KILLED_IN_FINISH, json.dumps(upload.state), str(steps), *backend.arguments)
    try:
        name = upload.finish()
    except FileNotFoundError:
        # It was killed at the very end, and nobody knows what the file was called.
        assert not randomize
        (name,) = visible(backend)
    assert backend.content(name) == random_bytes(size)
    assert visible(backend) == [name]


KILLED_WHILE_ASKED = """
import json, os, signal, sys
from tests.storage.conftest import storage_of
_, state, times, *arguments = sys.argv
asked = []
def is_used(name):
    asked.append(name)
    if len(asked) == int(times):
        os.kill(os.getpid(), signal.SIGKILL)
storage_of(*arguments).resume(json.loads(state)).finish(is_used)
"""


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("size", [10, LARGE])
def test_whoever_finishes_after_a_kill_asks_whether_the_name_was_used(
    backend: Backend, size: int, times: int
) -> None:
    for used, expected in ([], "a.txt"), (["a.txt"], "a-1.txt"):
        upload = Upload(backend, randomize=False)
        upload.send(random_bytes(size))
        in_another_process(
            KILLED_WHILE_ASKED, json.dumps(upload.state), str(times), *backend.arguments
        )
        assert visible(backend) == ["a.txt"][: times - 1]
        name = upload.finish(used.__contains__)
        assert name == expected
        assert backend.content(name) == random_bytes(size)
        assert backend.everything() == [name]
        backend.storage.delete(name)


def in_another_process(code: str, *arguments: str) -> None:
    """Run ``code``, which is to kill itself."""
    assert run_code(code, *arguments) in (0, -signal.SIGKILL)


# Storages that fail.


@pytest.mark.parametrize(("size", "done"), [(10, False), (10, True), (LARGE, True)])
def test_a_storage_that_fails_while_a_request_comes_in_loses_no_state(
    backend: Backend, size: int, done: bool
) -> None:
    content = random_bytes(size)
    upload = Upload(backend)
    upload.send(b"one ")
    fuse = Fuse(-1, done=done)
    for steps in range(100):
        fuse = Fuse(steps, done=done)
        file = None
        with backend.fails(fuse):
            try:
                file = backend.storage.resume(upload.state)
                for start in range(0, size, MIB):
                    file.write(content[start : start + MIB])
                file.checkpoint()
            except StorageUnavailable:
                assert fuse.blown
            if file is not None:
                file.close()
        if not fuse.blown:
            break
        assert upload.resume().offset == 4
    assert not fuse.blown
    upload.send(content)
    name = upload.finish()
    assert backend.content(name) == b"one " + content
    assert backend.everything() == [name]


# Each request is done, and its answer is lost. One that is not done leaves what the one before it
# left: no case of its own. A large file that keeps its name: see the next test.
@pytest.mark.parametrize(("randomize", "size"), [(True, 10), (False, 10), (True, LARGE)])
def test_a_storage_that_fails_in_finish_leaves_one_file_to_finish(
    backend: Backend, randomize: bool, size: int
) -> None:
    for steps in range(100):
        upload = Upload(backend, randomize=randomize)
        upload.send(random_bytes(size))
        file = backend.storage.resume(upload.state)
        fuse = Fuse(steps, done=True)
        name = None
        with backend.fails(fuse):
            try:
                name = file.finish()
            except StorageUnavailable:
                assert fuse.blown
        if name is None:
            name = upload.finish()
        assert backend.content(name) == random_bytes(size)
        assert visible(backend) == [name]
        backend.storage.delete(name)
        if not fuse.blown:
            return
    pytest.fail("it never finished")


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_storage_that_fails_while_a_name_is_given_back_leaves_one_file_to_finish(
    backend: Backend, size: int
) -> None:
    for steps in range(100):
        upload = Upload(backend, randomize=False)
        upload.send(random_bytes(size))
        file = backend.storage.resume(upload.state)
        fuse = Fuse(steps, done=True)
        name = None
        with backend.fails(fuse):
            try:
                name = file.finish(UsedMeanwhile("a.txt"))
            except StorageUnavailable:
                assert fuse.blown
        if name is None:
            name = upload.finish(["a.txt"].__contains__)
        assert name == "a-1.txt"
        assert backend.content(name) == random_bytes(size)
        assert visible(backend) == [name]
        backend.storage.delete(name)
        if not fuse.blown:
            return
    pytest.fail("it never finished")


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("size", [None, 10, LARGE])
def test_a_storage_that_fails_in_create_is_reported(
    backend: Backend, size: int | None, done: bool
) -> None:
    for steps in range(100):
        fuse = Fuse(steps, done=done)
        with backend.fails(fuse):
            try:
                state = backend.storage.create(NewFile("a.txt", size=size, randomize=False))
            except StorageUnavailable:
                continue
        assert not fuse.blown
        backend.storage.cancel(state)
        return
    pytest.fail("it was never created")


# The end of it.


@pytest.mark.parametrize("size", [0, 10, LARGE])
def test_discard_leaves_nothing(backend: Backend, randomize: bool, size: int) -> None:
    upload = Upload(backend, randomize=randomize)
    first = upload.state
    upload.send(random_bytes(size))
    upload.send(random_bytes(size))
    file = upload.resume()
    file.write(random_bytes(size))
    file.checkpoint()
    file.write(random_bytes(size))
    file.discard()
    file.discard()
    assert backend.everything() == []
    for state in (first, upload.state):
        with pytest.raises(FileNotFoundError):
            upload.resume(state)


@pytest.mark.parametrize("size", [0, 10, LARGE])
def test_a_file_is_cancelled_by_any_of_its_states(
    backend: Backend, randomize: bool, size: int
) -> None:
    for announced in (None, LARGE):
        upload = Upload(backend, randomize=randomize, size=announced)
        first = upload.state
        upload.send(random_bytes(size))
        upload.send(b"x")
        backend.make().cancel(first)
        assert backend.everything() == []
        backend.storage.cancel(upload.state)
        with pytest.raises(FileNotFoundError):
            upload.resume()


def test_a_file_that_is_partly_gone_cannot_be_resumed_and_the_rest_can_be_cancelled(
    backend: Backend,
) -> None:
    upload = Upload(backend)
    upload.send(random_bytes(LARGE))
    for name in backend.everything():
        backend.storage.delete(name)
    with pytest.raises(FileNotFoundError):
        upload.resume()
    backend.storage.cancel(upload.state)
    assert backend.everything() == []


def test_cancel_and_discard_never_raise(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    upload = Upload(backend)
    upload.send(b"x")
    file = backend.storage.resume(upload.state)
    with backend.fails(Fuse(0, done=False)):
        backend.storage.cancel(upload.state)
        file.discard()
    assert "Could not discard an upload entirely" in caplog.text
    backend.storage.cancel(upload.state)
    assert backend.everything() == []


def test_what_is_finished_is_not_discarded(backend: Backend, randomize: bool) -> None:
    for size in (10, LARGE):
        upload = Upload(backend, randomize=randomize)
        upload.send(random_bytes(size))
        file = upload.resume()
        name = file.finish()
        file.discard()
        file.close()
        backend.storage.cancel(upload.state)
        assert backend.content(name) == random_bytes(size)


@pytest.mark.parametrize("size", [0, 10, MIN_PART_SIZE, LARGE])
def test_whoever_finishes_later_gets_the_same_file_or_none(
    backend: Backend, randomize: bool, size: int
) -> None:
    upload = Upload(backend, randomize=randomize)
    first = upload.state
    upload.send(random_bytes(size))
    early = upload.resume()
    name = upload.finish()
    for finish in (early.finish, upload.finish):
        try:
            assert finish() == name
        except FileNotFoundError:
            assert not randomize
    if size:
        with pytest.raises(FileNotFoundError):
            upload.resume(first)
    assert backend.content(name) == random_bytes(size)
    assert backend.everything() == [name]


@pytest.mark.parametrize("size", [0, LARGE])
def test_a_finished_file_takes_nothing_more(backend: Backend, size: int) -> None:
    upload = Upload(backend)
    upload.send(random_bytes(size))
    name = upload.finish()
    again = upload.resume()
    again.write(b"")
    assert again.checkpoint() == upload.state
    with pytest.raises(FileNotFoundError):
        again.write(b"x")
    assert backend.content(name) == random_bytes(size)


def test_a_closed_file_takes_nothing_more(backend: Backend) -> None:
    upload = Upload(backend)
    file = upload.resume()
    file.write(b"x")
    file.close()
    file.close()
    for use in (lambda: file.write(b"x"), file.checkpoint, file.finish):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert upload.resume().offset == 0


def test_a_request_that_is_interrupted_closes_the_file(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(chunk: bytes) -> None:
        raise KeyboardInterrupt

    upload = Upload(backend)
    upload.send(b"one ")
    file = upload.resume()
    monkeypatch.setattr(file, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        file.write(b"x")
    with pytest.raises(ValueError, match="closed"):
        file.checkpoint()
    upload.send(b"two")
    assert backend.content(upload.finish()) == b"one two"


@pytest.mark.parametrize("end", ["close", "discard", "finish"])
@pytest.mark.parametrize("size", [10, LARGE])
def test_nothing_of_a_request_waits_for_the_garbage_collector(
    backend: Backend, size: int, end: str
) -> None:
    upload = Upload(backend)
    gc.disable()
    try:
        file = upload.resume()
        file.write(random_bytes(size))
        file.checkpoint()
        getattr(file, end)()
        gone = weakref.ref(file)
        del file
        assert gone() is None
    finally:
        gc.enable()


# What an unfinished file uses.


@pytest.mark.parametrize("announced", [None, 100 * MIB])
def test_what_an_unfinished_file_uses_is_known(
    backend: Backend, randomize: bool, announced: int | None
) -> None:
    storage = backend.storage
    upload = Upload(backend, randomize=randomize, size=announced)
    for _ in range(4):
        used = storage.used_by(upload.state)
        listed = {file.name for file in storage.list()}
        assert listed <= used
        assert all(names.is_part(name) for name in listed)
        assert {upload.id for upload in storage.incomplete()} <= used
        upload.send(random_bytes(3 * MIB))
        others = Upload(backend).state
        assert storage.used_by(others).isdisjoint(storage.used_by(upload.state))
        storage.cancel(others)
    # It may become visible at any moment, and nobody else can get that name.
    used = storage.used_by(upload.state)
    assert (upload.finish() in used) is randomize


def test_what_is_incomplete_can_be_aborted(backend: Backend) -> None:
    storage = backend.storage
    upload = Upload(backend, size=LARGE)
    upload.send(random_bytes(LARGE))
    found = list(storage.incomplete())
    for each in found:
        assert each.started.tzinfo is timezone.utc
        assert each.started < datetime.now(timezone.utc) + timedelta(minutes=1)
        storage.abort(each)
        storage.abort(each)
        with pytest.raises(FileNotFoundError):
            upload.resume()
    assert list(storage.incomplete()) == []


def test_the_state_of_another_storage_is_of_no_use(backend: Backend) -> None:
    for state in (
        {"storage": "other", "id": "1", "name": "a.txt", "offset": 0},
        {"storage": "", "id": "1", "name": "a.txt", "offset": 0},
    ):
        with pytest.raises(FileNotFoundError):
            backend.storage.resume(state)
        assert backend.storage.used_by(state) == frozenset()
        backend.storage.cancel(state)
