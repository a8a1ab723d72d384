"""What fails after everything has been written: a subscriber, the database at commit."""

from __future__ import annotations

import pytest
import transaction

from tests.support.records import Record

pytestmark = [
    pytest.mark.both_storages,
    pytest.mark.leaves("files that gc finds", backend="memory"),
]

REFUSE_AT_COMMIT = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'refused at commit'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE OR DELETE ON objects
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
"""
STOP_REFUSING = "DROP TRIGGER refuse ON objects; DROP FUNCTION refuse();"


class FailsAtCommit:
    """Takes part in a transaction where no database does, and makes it fail."""

    def tpc_vote(self, transaction):
        raise RuntimeError("refused at commit")

    def ignore(self, transaction):
        pass

    abort = commit = tpc_begin = tpc_finish = tpc_abort = ignore

    def sortKey(self):
        return "tests"


def raise_an_error(event):
    raise RuntimeError("a bug of another plugin's")


def fail_at_commit(event):
    transaction.get().join(FailsAtCommit())


@pytest.fixture(params=["a subscriber that raises", "a commit that fails"])
def break_kinto(request, backend, subscribe):
    """``break_kinto(app)``: all that is written from now on fails."""
    database = None

    def break_kinto(app):
        nonlocal database
        if request.param == "a subscriber that raises":
            subscribe(app, raise_an_error)
        elif backend == "memory":
            subscribe(app, fail_at_commit)
        else:
            database = request.getfixturevalue("kinto_database")
            database.execute(REFUSE_AT_COMMIT)

    yield break_kinto
    # A transaction whose commit has failed stays until the thread begins another one.
    transaction.abort()
    if database is not None:
        database.execute(STOP_REFUSING)


def patch(record, data):
    return record.app.patch_json(record.path, {"data": data}, expect_errors=True)


def delete(path):
    return lambda record: record.app.delete(path, expect_errors=True)


CHANGES = {
    "replace": lambda record: record.attach(b"new", data={"title": "new"}, status="*"),
    "attach to a new record": lambda record: record.other().attach(b"new", status="*"),
    "detach": lambda record: record.detach(status="*"),
    "PATCH to null": lambda record: patch(record, {"attachment": None}),
    "PATCH": lambda record: patch(record, {"title": "new"}),
    "delete the record": delete("/v1/buckets/b/collections/c/records/r"),
    "delete the records": delete("/v1/buckets/b/collections/c/records"),
    "delete the collection": delete("/v1/buckets/b/collections/c"),
    "delete the bucket": delete("/v1/buckets/b"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_that_fails_in_the_end_changes_nothing(record, break_kinto, backend, change):
    record.attach(b"content", data={"title": "first"})
    before = record.data
    files = record.files()
    break_kinto(record.app)

    response = change(record)

    assert response.status_code == 500
    assert response.json["code"] == 500
    if backend == "postgresql":
        assert record.data == before
        assert record.content == b"content"
        assert record.files() == files


def test_nothing_is_created_by_an_upload_that_fails_in_the_end(
    make_app, take_stock, stored, break_kinto, backend
):
    record = Record(take_stock(make_app()), stored, "/buckets/default/collections/c/records/r")
    break_kinto(record.app)

    record.attach(b"content", status=500)

    if backend == "postgresql":
        assert record.app.get("/v1/buckets").json["data"] == []
        assert record.files() == []
