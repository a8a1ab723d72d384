"""Answers that Google never gives, but a proxy or another server may. None of them gets past the
storage's door as anything but ``StorageUnavailable``."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from kinto_attachment.storage import GCloudOptions, NewFile, StorageUnavailable, open_storage
from kinto_attachment.storage.base import FileStorage
from tests.support.servers.gcs import GcsServer
from tests.support.servers.http import answers

MIB = 1024 * 1024
HTML = b"<html><title>Sign in</title></html>"
OBJECT = {
    "name": "a.txt",
    "generation": "1",
    "size": "7",
    "crc32c": "AAAAAA==",
    "timeCreated": "2026-01-02T03:04:05.678Z",
}
BODIES = [
    b"",
    b"\xff",
    b"null",
    b"[]",
    b'"x"',
    b"{}",
    HTML,
    b"[" * 100_000,
    b'{"items": null}',
    b'{"items": [null]}',
    b'{"items": [{}]}',
    b'{"permissions": null}',
    b'{"error": null}',
    *(
        json.dumps(changed).encode()
        for field in (*OBJECT, "metadata")
        for value in (None, 5, "x")
        for changed in (
            {**OBJECT, field: value},
            {"items": [{**OBJECT, field: value}]},
        )
    ),
]
ANSWERS = [
    *(answers(200, {"Location": "nowhere"}, body) for body in BODIES),
    *(
        answers(status, {"Location": "https://example.org/"}, body)
        for status in (302, 401, 404, 412, 416, 500)
        for body in (HTML, b"[]", b'{"error": {"message": {}}}')
    ),
    *(answers(308, {"Range": kept}) for kept in ("x", "bytes=0-99999999")),
    answers(204),
]


def write(storage: FileStorage, size: int, **options: Any) -> None:
    staged = storage.stage(NewFile("b.txt", **options))
    try:
        staged.write(bytes(size))
        staged.finish()
    finally:
        staged.discard()


def resume(storage: FileStorage, state: Any, size: int) -> None:
    file = storage.resume(state)
    try:
        file.write(bytes(size))
        file.checkpoint()
        file.finish()
    finally:
        file.close()


ACTIONS: dict[str, Callable[[FileStorage, Any], object]] = {
    "check": lambda storage, _: storage.check(),
    "stat": lambda storage, _: storage.stat("a.txt"),
    "list": lambda storage, _: list(storage.list()),
    "read": lambda storage, _: b"".join(storage.read("a.txt")),
    "delete": lambda storage, _: storage.delete("a.txt"),
    "write": lambda storage, _: write(storage, 5),
    "write a kept name": lambda storage, _: write(storage, 5, randomize=False),
    "write more": lambda storage, _: write(storage, 5 * MIB, randomize=False),
    "create": lambda storage, _: storage.create(NewFile("b.txt")),
    "resume": lambda storage, state: resume(storage, state, 5),
    "resume with more": lambda storage, state: resume(storage, state, 5 * MIB),
    "cancel": lambda storage, state: storage.cancel(state),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_no_other_error_comes_of_an_answer(gcs: GcsServer, action: str) -> None:
    storage = open_storage(GCloudOptions(gcs.bucket, endpoint_url=gcs.endpoint_url, num_retries=0))
    staged = storage.stage(NewFile("a.txt", randomize=False))
    staged.write(b"content")
    staged.finish()
    state = storage.create(NewFile("c.txt", randomize=False))

    for answer in ANSWERS:
        for after in range(2):
            gcs.fail("*", answer, after=after)
            with suppress(StorageUnavailable, FileNotFoundError):
                ACTIONS[action](storage, state)
            gcs.heal()
    if action != "delete":
        assert b"".join(storage.read("a.txt")) == b"content"


def test_another_part_than_was_asked_for(gcs: GcsServer) -> None:
    """A cache may send all of a file in place of a range."""
    storage = open_storage(GCloudOptions(gcs.bucket, endpoint_url=gcs.endpoint_url, num_retries=0))
    write(storage, 10, randomize=False)

    gcs.fail("media", answers(200, {}, bytes(10)))

    assert b"".join(storage.read("b.txt")) == bytes(10)
    for start, stop in ((5, None), (5, 7), (0, 3)):
        with pytest.raises(StorageUnavailable, match="not the range"):
            b"".join(storage.read("b.txt", start, stop))
