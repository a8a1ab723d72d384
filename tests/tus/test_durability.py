"""Which of the writes of an upload PostgreSQL has on the disk before the client is answered."""

from __future__ import annotations

import pytest
from kinto.core.utils import sqlalchemy

from tests.support.tus import begin

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@pytest.fixture
def transactions(app):
    """``transactions()``: the statements of each transaction that was committed."""
    statements = []
    listeners = {
        "before_cursor_execute": lambda *args: statements.append(args[2]),
        "commit": lambda *args: statements.append("COMMIT"),
        "rollback": lambda *args: statements.append("ROLLBACK"),
    }
    engine = app.registry.storage.client.session_factory().get_bind()
    for name, listener in listeners.items():
        sqlalchemy.event.listen(engine, name, listener)

    def transactions():
        *ended, _ = "\n".join(statements).split("COMMIT")
        return [each.rpartition("ROLLBACK")[2] for each in ended]

    yield transactions
    for name, listener in listeners.items():
        sqlalchemy.event.remove(engine, name, listener)


def waits(transactions):
    """Whether each transaction that wrote something waited for the disk."""
    return [
        "synchronous_commit TO OFF" not in each for each in transactions if "INSERT INTO" in each
    ]


def test_what_has_arrived_is_on_the_disk_and_the_lease_need_not_be(record, transactions):
    upload = begin(record)
    assert waits(transactions()) == [True]

    upload.patch(0, b"01234")

    assert waits(transactions()) == [True, False, True]


def test_so_is_each_step_of_the_end(record, transactions):
    upload = begin(record)

    upload.patch(0, b"0123456789")

    # It has begun; the lease; what has arrived, and its name; and the record.
    assert waits(transactions()) == [True, False, True, True, True]
