"""What can pass is tried again by the server, and not by the client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy
import transaction
from kinto.core.storage.exceptions import BackendError, IntegrityError

from kinto_attachment.attachments import attach
from kinto_attachment.attachments.attach import RecordAttachment
from kinto_attachment.attachments.last_look import last_look
from kinto_attachment.database import commit
from tests.support.tus import OFFSET_TYPE, begin, creation

CONTENT = b"0123456789"
COLLECTION = "/v1/buckets/b/collections/c"

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


class _Postgres(Exception):
    """An error of the driver, with PostgreSQL's code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.pgcode = code


def _database_error(code: str, *, lost: bool = False) -> Exception:
    return sqlalchemy.exc.OperationalError(
        "statement", {}, _Postgres(code), connection_invalidated=lost
    )


PASSING = {
    "a conflict": IntegrityError(original=Exception("two writes in one millisecond")),
    "a deadlock": BackendError(original=_database_error("40P01")),
    "a serialization failure": _database_error("40001"),
    "a connection that was closed": BackendError(original=_database_error("57P01", lost=True)),
}


@pytest.fixture
def fail(monkeypatch):
    """``fail(error, times)``: attaching raises the error so many times, after it has written."""

    def fail(error, times):
        real, failed = RecordAttachment.attach, []

        def attach_and_fail(*arguments):
            result = real(*arguments)
            if len(failed) < times:
                failed.append(error)
                raise error
            return result

        monkeypatch.setattr(RecordAttachment, "attach", attach_and_fail)
        monkeypatch.setattr(commit, "_PAUSE_SECONDS", 0)
        return failed

    return fail


@on_postgresql
@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING.keys())
@pytest.mark.parametrize("times", [1, commit.TRIES - 1])
def test_an_upload_is_tried_again(spied_record, fail, error, times):
    failed = fail(error, times)

    answer = spied_record.attach(CONTENT, data={"title": "new"})

    assert answer.status_code == 201
    assert len(failed) == times
    assert spied_record.content == CONTENT
    assert len(spied_record.files()) == 1
    assert answer.headers["ETag"] == spied_record.etag
    assert len(of_record(spied_record.app.registry.spied_after)) == 1


@on_postgresql
def test_a_conflict_in_a_table_of_another_plugin_is_tried_again(record, subscribe, monkeypatch):
    monkeypatch.setattr(commit, "_PAUSE_SECONDS", 0)
    heard = []

    def conflict_at_first(event):
        heard.append(event)
        if len(heard) == 1:
            raise PASSING["a conflict"]

    subscribe(record.app, conflict_at_first)

    record.attach(CONTENT)
    record.detach()

    assert len(heard) == 3
    assert record.files() == []


@on_postgresql
@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING.keys())
def test_a_resumable_upload_is_tried_again(record, fail, error):
    upload = begin(record)
    fail(error, 2)

    upload.patch(0, CONTENT)

    assert record.content == CONTENT
    assert len(record.files()) == 1


@on_postgresql
@pytest.mark.parametrize(
    ("error", "status"),
    list(zip(PASSING.values(), (409, 503, 503, 503), strict=True)),
    ids=PASSING.keys(),
)
def test_what_stays_a_conflict_is_answered_with_retry_after(record, fail, error, status):
    fail(error, 100)

    answer = record.attach(CONTENT, status=status)

    assert "Retry-After" in answer.headers
    assert not record.exists
    assert record.files() == []


@on_postgresql
@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING.keys())
def test_a_resumable_upload_keeps_its_bytes_when_it_stays_a_conflict(
    record, fail, error, monkeypatch
):
    upload = begin(record)
    with monkeypatch.context():
        fail(error, commit.TRIES)
        upload.patch(0, CONTENT, status="*")
    assert upload.offset == 9

    upload.patch(9, b"9")

    assert record.content == CONTENT


@on_postgresql
def test_the_default_bucket_is_created_again_with_each_try(app, stored, fail, make_record):
    record = make_record()
    of_default = type(record)(record.app, stored, "/buckets/default/collections/c/records/r")
    fail(PASSING["a conflict"], 3)

    assert of_default.attach(CONTENT).status_code == 201

    assert of_default.content == CONTENT


@on_postgresql
def test_an_error_that_cannot_pass_is_raised_at_once(record, fail):
    failed = fail(RuntimeError("a bug"), 100)

    record.attach(CONTENT, status=500)

    assert len(failed) == 1
    assert record.files() == []


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
@pytest.mark.leaves("a file that the record shows", backend="memory")
def test_where_nothing_rolls_back_there_is_one_try(record, fail):
    failed = fail(PASSING["a conflict"], 100)

    record.attach(CONTENT, status=409)

    assert len(failed) == 1
    assert record.content == CONTENT


@on_postgresql
@pytest.mark.parametrize("method", ["plain", "tus"])
def test_parallel_uploads_into_one_collection_all_succeed(record, method):
    """Two of them may fall into one millisecond."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: _upload(record, method, number), range(80)))

    assert set(answers) <= {201, 204}


@on_postgresql
def test_so_do_uploads_into_one_whose_timestamp_lies_in_the_future(record):
    tomorrow = record.app.get(COLLECTION).json["data"]["last_modified"] + 24 * 3600 * 1000
    record.app.put_json(f"{COLLECTION}/records/x", {"data": {"last_modified": tomorrow}})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: _upload(record, "plain", number), range(80)))

    assert set(answers) == {201}


@pytest.fixture
def lose_the_commit(monkeypatch):
    """``lose_the_commit(is_there=True)``: the answer to the next commit is lost, after the
    database has it, or before; ``error`` is what the server raises instead."""
    monkeypatch.setattr(commit, "_PAUSE_SECONDS", 0)

    def lose(*, is_there, error=None):
        lost = []

        class Loses:
            def tpc_vote(self, current):
                if not lost:
                    lost.append(1)
                    raise error or _database_error("08006", lost=True)

            def ignore(self, current):
                pass

            abort = commit = tpc_begin = tpc_abort = tpc_finish = ignore

            def sortKey(self):
                # Before or after the database.
                return "~~~" if is_there else " "

        def look_and_join(request):
            last_look(request)
            if not lost:
                transaction.get().join(Loses())

        monkeypatch.setattr(attach, "last_look", look_and_join)
        return lost

    return lose


@pytest.fixture
def ask_after(monkeypatch):
    """``ask_after(other)``: ``other()`` happens before the database is asked what it has."""

    def ask_after(other):
        ask = commit._ask

        def ask_late(*arguments):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(other).result()
            return ask(*arguments)

        monkeypatch.setattr(commit, "_ask", ask_late)

    return ask_after


@on_postgresql
@pytest.mark.parametrize("is_there", [True, False])
def test_a_lost_answer_to_a_commit_is_no_loss(record, lose_the_commit, is_there):
    """The database is asked: it knows the file, or the write is done again."""
    lost = lose_the_commit(is_there=is_there)

    answer = record.attach(CONTENT)

    assert lost
    assert answer.status_code == 201
    assert record.content == CONTENT
    assert len(record.files()) == 1


@on_postgresql
@pytest.mark.parametrize("error", [SystemExit(1), RuntimeError("of another plugin")])
def test_a_commit_that_something_else_ends_is_no_loss(record, lose_the_commit, error):
    """A worker has to end, say, just when the database has answered."""
    lost = lose_the_commit(is_there=True, error=error)

    record.attach(CONTENT)

    assert lost
    assert record.content == CONTENT


@on_postgresql
@pytest.mark.parametrize("method", ["plain", "creation", "append"])
@pytest.mark.parametrize("then", ["replaced", "deleted"])
def test_what_was_committed_is_not_written_again_after_another_write(
    record, lose_the_commit, ask_after, method, then
):
    """The record does not reference the file any more, and the file is gone."""
    upload = begin(record) if method == "append" else None
    others = {
        "replaced": lambda: record.attach(b"newer"),
        "deleted": lambda: record.app.delete(record.path),
    }
    ask_after(others[then])
    lost = lose_the_commit(is_there=True)

    if upload is not None:
        upload.patch(0, CONTENT)
    elif method == "creation":
        creation(record, CONTENT, 201, OFFSET_TYPE, Upload_Length="10")
    else:
        record.attach(CONTENT, status=201)

    assert lost
    assert record.exists == (then == "replaced")
    assert then == "deleted" or record.content == b"newer"
    assert len(record.files()) == (then == "replaced")


@on_postgresql
@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.leaves("an old file whose row says that it is gone: gc deletes it")
def test_a_lost_answer_to_a_commit_detaches_once(record, lose_the_commit, is_there):
    """Done already, it is not done again: If-Match would not hold any more."""
    record.attach(CONTENT)
    etag = record.etag
    lost = lose_the_commit(is_there=is_there)

    answer = record.detach(headers={"If-Match": etag})

    assert lost
    assert answer.headers["ETag"] == record.etag != etag
    assert record.data["attachment"] is None


@on_postgresql
@pytest.mark.parametrize("is_there", [True, False])
def test_a_lost_answer_to_a_commit_creates_one_upload(record, lose_the_commit, is_there):
    lost = lose_the_commit(is_there=is_there)

    upload = begin(record)

    assert lost
    upload.patch(0, CONTENT)
    assert record.content == CONTENT
    assert len(record.files()) == 1


@on_postgresql
@pytest.mark.leaves("an old file whose row says that it is gone: gc deletes it")
@pytest.mark.parametrize("method", ["plain", "append"])
def test_a_commit_that_is_seen_late_is_no_loss(record, lose_the_commit, monkeypatch, method):
    """It waits for another server, say, while its connection is lost already."""
    record.attach(b"first")
    upload = begin(record, If_Match=record.etag) if method == "append" else None
    ask, asked = commit._ask, []

    def not_at_first(*arguments):
        asked.append(arguments)
        return len(asked) > 1 and ask(*arguments)

    monkeypatch.setattr(commit, "_ask", not_at_first)
    lose_the_commit(is_there=True)

    if upload is not None:
        upload.patch(0, CONTENT)
    else:
        answer = record.attach(CONTENT, headers={"If-Match": record.etag})
        assert answer.headers["ETag"] == record.etag

    assert len(asked) == 2
    assert record.content == CONTENT


@on_postgresql
@pytest.mark.leaves("an old file whose row says that it is gone: gc deletes it")
def test_what_was_detached_is_not_detached_again_after_an_upload(
    record, lose_the_commit, ask_after
):
    record.attach(CONTENT)
    ask_after(lambda: record.attach(b"newer"))
    lost = lose_the_commit(is_there=True)

    record.detach()

    assert lost
    assert record.content == b"newer"


@on_postgresql
@pytest.mark.leaves("files whose fate is not known")
@pytest.mark.parametrize("method", ["plain", "tus"])
def test_a_file_stays_while_the_database_cannot_be_asked(
    record, lose_the_commit, monkeypatch, method
):
    lost = lose_the_commit(is_there=True)

    def unavailable(*args):
        raise BackendError(original=Exception("the database is down"))

    with monkeypatch.context() as patch:
        patch.setattr(RecordAttachment, "is_used", unavailable)
        if method == "plain":
            record.attach(CONTENT, status=503)
        else:
            creation(record, CONTENT, 503, OFFSET_TYPE, Upload_Length="10")

    assert lost
    assert len(record.files()) == 1


def of_record(events):
    return [event for event in events if event.payload["resource_name"] == "record"]


def _upload(record, method, number):
    other = record.other(f"{method}{number}")
    try:
        if method == "plain":
            return other.attach(CONTENT, status="*").status_code
        return begin(other).patch(0, CONTENT, status="*").status_code
    finally:
        transaction.abort()
