"""The database is lost at the end of a request: of any request, not of uploads alone."""

from __future__ import annotations

from typing import Any

import pytest
from kinto.core.events import ResourceRead
from pyramid.httpexceptions import HTTPGone
from sqlalchemy import text

RECORD = "/v1/buckets/b/collections/c/records/r"
TERMINATE = "SELECT pg_terminate_backend(%s)"


@pytest.fixture
def backend() -> str:
    return "postgresql"


@pytest.mark.parametrize("refuses", [False, True], ids=["committed", "rolled back"])
def test_a_lost_connection_is_answered_with_503(app, kinto_database, refuses):
    for path in ("/v1/buckets/b", "/v1/buckets/b/collections/c", RECORD):
        app.put_json(path, {})

    def lose_connection(event: Any) -> None:
        with event.request.registry.storage.client.connect() as connection:
            ((pid,),) = connection.execute(text("SELECT pg_backend_pid()"))
        kinto_database.execute(TERMINATE, pid)
        if refuses:
            raise HTTPGone()

    app.registry.registerHandler(lose_connection, (ResourceRead,))
    try:
        answer = app.get(RECORD, status=503)
    finally:
        app.registry.unregisterHandler(lose_connection, (ResourceRead,))

    assert answer.json["errno"] == 201
    assert answer.headers["Retry-After"] == "3"
    app.get(RECORD, status=200)
