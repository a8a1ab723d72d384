"""Files follow the transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import pytest
import sqlalchemy
import transaction
from kinto.core.storage.exceptions import BackendError

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.database.transactions import _own_transaction, release
from kinto_attachment.storage import StorageUnavailable


class Storage:
    """Remembers what is deleted."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.works = True

    def delete_many(self, names: Iterable[str]) -> Iterator[tuple[str, StorageUnavailable | None]]:
        for name in names:
            if self.works:
                self.deleted.append(name)
            yield name, None if self.works else StorageUnavailable("it is down")


class Database:
    """Takes part in transactions, and fails where it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def tpc_begin(self, transaction):
        pass

    def commit(self, transaction):
        pass

    def tpc_vote(self, transaction):
        if self._error:
            raise self._error

    def tpc_finish(self, transaction):
        pass

    def tpc_abort(self, transaction):
        pass

    def abort(self, transaction):
        pass

    def sortKey(self):
        return "database"


@pytest.fixture
def storage():
    transaction.begin()
    yield Storage()
    transaction.abort()


@pytest.fixture
def changes(storage):
    changes = FileChanges.current(storage)
    changes.discard_if_aborted("new")
    changes.delete_if_committed("old")
    return changes


def test_a_commit_deletes_the_old_file(storage, changes):
    transaction.commit()

    assert storage.deleted == ["old"]


def test_an_abort_discards_the_new_file(storage, changes):
    transaction.abort()

    assert storage.deleted == ["new"]


def test_a_failed_commit_discards_the_new_file_once(storage, changes):
    transaction.get().join(Database(RuntimeError("deadlock")))

    with pytest.raises(RuntimeError):
        transaction.commit()
    transaction.abort()

    assert storage.deleted == ["new"]


class ConnectionLost(Exception):
    """As SQLAlchemy tells of it."""

    connection_invalidated = True


def test_no_file_goes_if_the_database_may_have_committed(storage, changes, caplog):
    transaction.get().join(Database(ConnectionLost()))

    with pytest.raises(ConnectionLost):
        transaction.commit()
    transaction.abort()

    assert storage.deleted == []
    assert "new" in caplog.text


def test_no_new_file_goes_once_nothing_can_be_rolled_back(storage, changes):
    changes.keep_new()

    transaction.abort()

    assert storage.deleted == []


def test_a_file_whose_deletion_is_revoked_stays(storage, changes):
    assert changes.revoke_deletion("old") is True
    assert changes.revoke_deletion("old") is False

    transaction.commit()

    assert storage.deleted == []


def test_a_transaction_has_its_own_changes(storage, changes):
    assert FileChanges.current(storage) is changes

    transaction.commit()
    transaction.begin()

    assert FileChanges.current(storage) is not changes


@pytest.mark.parametrize("end", [transaction.commit, transaction.abort])
def test_a_storage_that_fails_is_logged_and_nothing_is_raised(storage, changes, end, caplog):
    storage.works = False

    with caplog.at_level(logging.ERROR):
        end()

    assert "left for gc" in caplog.text


class Request:
    """What ``release()`` asks of a request."""

    tm = transaction.manager
    environ = {"tm.active": True}


def test_the_hooks_of_a_transaction_that_is_released_are_carried_over(storage):
    called = []
    before = transaction.get()
    before.user, before.description = "alice", "/v1/"
    before.addBeforeCommitHook(called.append, args=("before commit",))
    before.addAfterCommitHook(lambda success, name: called.append(name), args=("after commit",))

    release(Request())

    after = transaction.get()
    assert after is not before
    assert (after.user, after.description) == (before.user, before.description)
    assert called == []
    transaction.commit()
    assert called == ["before commit", "after commit"]


def test_a_transaction_that_is_released_holds_nothing(storage):
    held = []

    class Connection(Database):
        def abort(self, transaction):
            held.remove(self)

    connection = Connection()
    held.append(connection)
    transaction.get().join(connection)

    release(Request())

    assert held == []


def test_a_transaction_is_released_although_its_connection_was_lost(storage):
    class Connection(Database):
        def abort(self, transaction):
            raise sqlalchemy.exc.OperationalError("ROLLBACK", {}, Exception("connection lost"))

    before = transaction.get()
    before.join(Connection())

    release(Request())

    assert transaction.get() is not before
    transaction.commit()


def test_a_short_transaction_that_does_not_commit(storage):
    lost = sqlalchemy.exc.OperationalError("COMMIT", {}, Exception("connection lost"))

    with pytest.raises(BackendError), _own_transaction(transaction.manager):
        transaction.get().join(Database(lost))
