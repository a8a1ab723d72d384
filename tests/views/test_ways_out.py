"""Every way in which a record can lose its file: that file goes, and no other."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from tests.support.batch import batch

R = "/collections/c/records/r"
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
ALL = ("r", "other", "far")
NULL = {"data": {"attachment": None}}


class Way(NamedTuple):
    """A request, its path without the bucket's, and the records that lose their file by it."""

    method: str
    path: str
    lose: tuple[str, ...]
    body: Any = None
    content_type: str = JSON


WAYS = {
    "DELETE of the attachment": Way("DELETE", f"{R}/attachment", ("r",)),
    "PUT without it": Way("PUT", R, ("r",), {"data": {"title": "second"}}),
    "PUT of null": Way("PUT", R, ("r",), NULL),
    "PATCH to null": Way("PATCH", R, ("r",), NULL),
    "merge patch to null": Way("PATCH", R, ("r",), NULL, MERGE_PATCH),
    "DELETE of the record": Way("DELETE", R, ("r",)),
    "DELETE of all records": Way("DELETE", "/collections/c/records", ("r", "other")),
    "DELETE of records by title": Way("DELETE", "/collections/c/records?title=r", ("r",)),
    "DELETE of records by id": Way("DELETE", "/collections/c/records?in_id=r,plain", ("r",)),
    "DELETE of no records": Way("DELETE", "/collections/c/records?title=none", ()),
    "DELETE of the collection": Way("DELETE", "/collections/c", ("r", "other")),
    "DELETE of all collections": Way("DELETE", "/collections", ALL),
    "DELETE of collections by id": Way("DELETE", "/collections?id=c", ("r", "other")),
    "DELETE of the bucket": Way("DELETE", "", ALL),
}
# Kinto's batch takes no other body than an object.
NOT_IN_A_BATCH = {
    "JSON patch that removes it": Way(
        "PATCH", R, ("r",), [{"op": "remove", "path": "/data/attachment"}], JSON_PATCH
    ),
    "JSON patch to null": Way(
        "PATCH",
        R,
        ("r",),
        [{"op": "replace", "path": "/data/attachment", "value": None}],
        JSON_PATCH,
    ),
}


@pytest.fixture
def record(record, bucket):
    """The record ``r``; beside it are ``other`` and, in another collection, ``far``. Each has a
    file, and ``plain`` has none."""
    record.app.put_json(f"/v1/buckets/{bucket}/collections/d", {})
    record.attach(b"r", data={"title": "r"})
    record.other().attach(b"other", data={"title": "other"})
    record.other("far", "d").attach(b"far", data={"title": "far"})
    record.other("plain").create(title="plain")
    return record


def check(record, lost):
    """These have lost their files, and the others have not."""
    shown = {uri.rpartition("/")[2] for uri in record.inventory.check_records()}
    assert shown == set(ALL) - set(lost)
    assert len(record.files()) == len(shown)


@pytest.mark.parametrize(("bucket", "where"), [("b", "local"), ("default", "s3")])
@pytest.mark.parametrize(
    "way", [*WAYS.values(), *NOT_IN_A_BATCH.values()], ids=[*WAYS, *NOT_IN_A_BATCH]
)
def test_its_file_goes_and_no_other(record, bucket, way):
    record.app.request(
        f"/v1/buckets/{bucket}{way.path}",
        method=way.method,
        body=json.dumps(way.body or {}).encode(),
        content_type=way.content_type,
    )

    check(record, way.lose)


@pytest.mark.sampled
@pytest.mark.parametrize(("bucket", "where"), [("b", "s3"), ("default", "local")])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_it_is_the_same_in_a_batch_among_other_writes(record, bucket, way):
    path = f"/v1/buckets/{bucket}"
    changed = {"data": {"title": "changed"}}

    statuses = batch(
        record.app,
        ("PATCH", f"{path}/collections/c/records/plain", changed),
        (way.method, f"{path}{way.path}", way.body or {}, way.content_type),
        ("PUT", "/v1/buckets/another", {}),
        ("PATCH", f"{path}/collections/d/records/far", changed),
    )

    assert statuses[1] in (200, 204)
    check(record, way.lose)


@pytest.mark.parametrize(("bucket", "where"), [("b", "local"), ("b", "s3")])
@pytest.mark.parametrize(("query", "lost"), [("", ALL), ("?id=b", ALL), ("?id=another", ())])
def test_buckets_that_are_deleted_take_their_files_along(record, query, lost):
    record.app.put_json("/v1/buckets/another", {})

    record.app.delete(f"/v1/buckets{query}")

    check(record, lost)
