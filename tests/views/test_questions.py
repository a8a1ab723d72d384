"""What uploads and downloads ask PostgreSQL, and what others write between two questions."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from kinto_attachment.attachments.attach import RecordAttachment
from kinto_attachment.database import location_index

pytestmark = pytest.mark.parametrize("backend", ["postgresql"])


@pytest.fixture
def questions(monkeypatch):
    """``questions(action)``: how many statements ``action()`` sends, without the one that is sent
    once a minute: whether the index is there."""
    monkeypatch.setattr(location_index, "_CHECK_SECONDS", float("inf"))

    def count(action: Callable[[], object]) -> int:
        statements = []

        def remember(connection, cursor, statement, *rest) -> None:
            statements.append(statement)

        event.listen(Engine, "before_cursor_execute", remember)
        try:
            action()
        finally:
            event.remove(Engine, "before_cursor_execute", remember)
        return len(statements)

    return count


def test_an_upload_asks_less_than_a_plain_write(record, questions):
    plain = record.other()
    # The first of all, and the first that replaces a file, ask for more.
    record.other("first").attach()
    record.other("first").attach()

    put = questions(lambda: plain.create(title="new"))
    replaced = questions(lambda: plain.create(title="replaced"))

    # Not the collection's timestamp, and not the permissions, three times and once.
    assert questions(lambda: record.attach(b"new")) <= put - 5
    # One to the records: whether any shows the previous file still.
    assert questions(lambda: record.attach(b"replaced")) <= replaced - 4


def test_the_plugin_asks_once_of_a_plain_write(record, questions, make_app):
    record.create(title="old")
    without = make_app(**{"kinto.includes": "kinto.plugins.default_bucket"})

    asked = questions(lambda: without.put_json(record.path, {"data": {"title": "new"}}))

    assert questions(lambda: record.create(title="newer")) == asked + 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_download_asks_no_more_than_a_read_of_the_record(record, questions, method):
    record.attach()
    # The first of all asks for more.
    record.app.get(record.endpoint)

    asked = questions(lambda: record.app.get(record.path))

    assert questions(lambda: record.app.request(record.endpoint, method=method)) <= asked


@pytest.mark.parametrize(
    "path",
    ["/v1/buckets/b/collections/c/records", "/v1/buckets/b/collections/c", "/v1/buckets/b"],
)
def test_a_delete_of_many_asks_as_much_as_one_of_two(record, questions, path):
    def asked(count: int) -> int:
        for number in range(count):
            record.other(f"r{number}").attach()
        return questions(lambda: record.app.delete(path))

    asked(2)
    record.app.put_json("/v1/buckets/b", {})
    record.app.put_json("/v1/buckets/b/collections/c", {})
    of_two = asked(2)
    record.app.put_json("/v1/buckets/b", {})
    record.app.put_json("/v1/buckets/b/collections/c", {})

    assert asked(7) == of_two


def test_a_record_that_comes_just_before_the_write_is_not_overwritten(record, monkeypatch):
    authorize = RecordAttachment.authorize
    tries = []

    def authorize_and_be_too_late(use_case):
        context = authorize(use_case)
        tries.append(context.current_object)
        if len(tries) == 1:
            other = threading.Thread(target=lambda: record.create(title="of another"))
            other.start()
            other.join()
        return context

    monkeypatch.setattr(RecordAttachment, "authorize", authorize_and_be_too_late)

    record.attach(b"content")

    assert len(tries) == 2
    assert record.data["title"] == "of another"
    assert record.content == b"content"
    assert len(record.files()) == 1


@pytest.mark.parametrize("path", ["/v1/buckets/b/collections/c", "/v1/buckets/b"])
def test_records_are_locked_before_the_rows_of_their_files(record, path):
    """As those do who write a record: or the two wait for each other."""
    record.attach()
    statements = []

    def remember(connection, cursor, statement, parameters, *rest) -> None:
        statements.append(f"{statement} {parameters}")

    event.listen(Engine, "before_cursor_execute", remember)
    try:
        record.app.delete(path)
    finally:
        event.remove(Engine, "before_cursor_execute", remember)

    (locked, *_) = [i for i, each in enumerate(statements) if "COLLATE" in each]
    (deleted, *_) = [
        i for i, each in enumerate(statements) if "'record'" in each and "DELETE" in each
    ]
    assert deleted < locked
