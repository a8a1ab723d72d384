"""Answers that Kinto's clients know."""

from __future__ import annotations

from tests.support.live.client import Answer

MESSAGE = "The file storage is not available, please retry later."


def check_that_storage_is_unavailable(answer: Answer) -> None:
    """A 503 in Kinto's words, which says when to try again."""
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    body = answer.json()
    assert (body["code"], body["errno"], body["error"]) == (503, 201, "Service Unavailable")
    assert body["message"] == MESSAGE
