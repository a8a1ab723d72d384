"""Several records that show one file: it goes with the last of them."""

from __future__ import annotations

import threading
import time

import pytest

pytestmark = pytest.mark.both_storages


def metadata_of(record):
    return {"data": {"attachment": record.data["attachment"]}}


@pytest.fixture
def record(record):
    """A record with a file."""
    record.attach(b"content")
    return record


@pytest.fixture
def copy(record):
    """A copy of it in another collection, which exists; the copy does not."""
    record.app.put_json("/v1/buckets/b/collections/copies", {})
    return record.other("copy", "copies")


def detach(record):
    return record.detach()


def replace(record):
    return record.attach(b"new")


def delete(record):
    return record.app.delete(record.path)


def delete_collection(record):
    return record.app.delete("/v1/buckets/b/collections/c")


WAYS = pytest.mark.parametrize("lose", [detach, replace, delete, delete_collection])


def test_a_post_may_copy(record):
    answer = record.app.post_json("/v1/buckets/b/collections/c/records", metadata_of(record))
    copy = record.other(answer.json["data"]["id"])

    record.detach()

    assert copy.content == b"content"
    copy.app.delete(copy.path)
    assert record.files() == []


@WAYS
def test_the_file_stays_until_the_last_one_goes(record, copy, lose):
    copy.app.put_json(copy.path, metadata_of(record))

    lose(record)
    assert copy.content == b"content"

    delete(copy)
    assert len(record.files()) == (1 if lose is replace else 0)


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.leaves("a record with plain data that names a file of ours")
def test_a_new_record_with_forged_metadata_holds_nothing(record, copy, method):
    """Where no file was before, importers write what they like."""
    forged = {"data": {"attachment": {**record.data["attachment"], "hash": "0" * 64}}}
    path = copy.path if method == "PUT" else copy.path.removesuffix("/copy")

    write = copy.app.put_json if method == "PUT" else copy.app.post_json
    write(path, forged, status=201)
    assert record.content == b"content"

    copy.app.delete("/v1/buckets/b/collections/copies")
    assert record.content == b"content"
    record.inventory.check()


class Holdup:
    """Holds one change up, when all is written and nothing committed."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._resume = threading.Event()
        self._used = False

    def __call__(self, event) -> None:
        if not self._used:
            self._used = True
            self._arrived.set()
            assert self._resume.wait(20)

    def race(self, first, second, waits):
        """Return what both return: ``second`` comes while ``first`` is held up, which goes on
        once ``second`` is done, or waits for it."""
        answers = {}
        threads = [
            threading.Thread(target=lambda: answers.update({0: first()})),
            threading.Thread(target=lambda: answers.update({1: second()})),
        ]
        threads[0].start()
        assert self._arrived.wait(20)
        threads[1].start()
        deadline = time.monotonic() + 20
        while threads[1].is_alive() and not waits():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self._resume.set()
        for thread in threads:
            thread.join(20)
        return answers[0], answers[1]


@pytest.fixture
def race(record, subscribe, backend, request):
    """``race(first, second)``: what both answer, where the first is about to commit when the
    second comes."""

    def waits():
        if backend == "memory":
            return False
        database = request.getfixturevalue("kinto_database")
        return database.execute("SELECT 1 FROM pg_locks WHERE NOT granted") != []

    def race(first, second):
        holdup = Holdup()
        subscribe(record.app, holdup)
        return holdup.race(first, second, waits)

    return race


@WAYS
def test_who_copies_what_is_about_to_go_is_told(record, copy, race, lose):
    metadata = metadata_of(record)

    _, copied = race(
        lambda: lose(record),
        lambda: copy.app.put_json(copy.path, metadata, status=409),
    )

    assert copied.json["errno"] == 122
    assert not copy.exists or "attachment" not in copy.data
    assert len(record.files()) == (1 if lose is replace else 0)


@WAYS
def test_who_copies_first_has_the_file(record, copy, race, lose):
    metadata = metadata_of(record)

    race(lambda: copy.app.put_json(copy.path, metadata), lambda: lose(record))

    assert copy.content == b"content"
    assert len(record.files()) == (2 if lose is replace else 1)


@pytest.fixture
def workspace(make_record):
    """A record in a collection that a plugin publishes to another."""
    record = make_record(**{"kinto.includes": "tests.plugins.copying_records kinto_attachment"})
    record.app.put_json("/v1/buckets/b/collections/main", {})
    record.attach(b"content")
    return record


def publish(record):
    data = {"data": {"publish": "main", "at": time.time()}}
    record.app.patch_json("/v1/buckets/b/collections/c", data)


def test_a_published_record_keeps_its_file_until_that_is_published_too(workspace):
    published = workspace.other("r", "main")
    publish(workspace)
    assert published.content == b"content"

    workspace.app.delete(workspace.path)
    assert published.content == b"content"

    publish(workspace)
    assert not published.exists
    assert workspace.files() == []


def test_a_published_record_has_the_old_file_until_the_new_one_is_published(workspace):
    published = workspace.other("r", "main")
    publish(workspace)

    workspace.attach(b"new")
    assert published.content == b"content"

    publish(workspace)
    assert published.content == b"new"
    assert len(workspace.files()) == 1


def test_a_file_that_goes_with_the_workspace_stays_published(workspace):
    publish(workspace)

    workspace.app.delete("/v1/buckets/b/collections/c")

    assert workspace.other("r", "main").content == b"content"


def test_what_is_published_without_its_file_lets_go_of_it(workspace):
    published = workspace.other("r", "main")
    publish(workspace)

    workspace.detach()
    publish(workspace)

    assert published.data["attachment"] is None
    assert workspace.files() == []
