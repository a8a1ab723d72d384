"""What a worker keeps of documents that are made to cost much."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.support.forms import CONTENT_TYPE, field_part, file_part, form

MIB = 1024 * 1024
RECORD = "buckets/b/collections/c/records/r"
USER = ("alice", "secret")


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
def test_cleverly_nested_documents_leave_no_memory_behind(live_kinto):
    kinto = live_kinto("gunicorn")
    for path in ("buckets/b", "buckets/b/collections/c"):
        requests.put(kinto.url + path, json={}, auth=USER, timeout=30)
    # As large, and honest.
    assert _send(kinto, '{"a": "' + "x" * (MIB * 9 // 10) + '"}').status_code == 201
    kinto.reset_rss()
    idle = kinto.rss()

    for unit in ("[]", "[" * 150 + "]" * 150, '{"a":{}}'):
        nested = '{"a": [' + ",".join([unit] * (MIB * 9 // 10 // (len(unit) + 1))) + "]}"
        answer = _send(kinto, nested)
        assert answer.status_code == 400
        assert "more than 20000 values" in answer.json()["message"]
        assert answer.elapsed.total_seconds() < 1

    assert kinto.rss() - idle < 16 * MIB


def _send(kinto: Any, data: str) -> requests.Response:
    return requests.post(
        f"{kinto.url}{RECORD}/attachment",
        data=form([field_part("data", data), file_part(b"x")]),
        headers={"Content-Type": CONTENT_TYPE},
        auth=USER,
        timeout=60,
    )
