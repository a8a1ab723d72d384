"""What Kinto's plugins for Prometheus and StatsD report of the plugin."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pyramid.httpexceptions import HTTPClientError

from kinto_attachment.attachments.attach import RecordAttachment
from kinto_attachment.database import commit
from kinto_attachment.errors import Refusal, answered, reasons
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.storage.observed import OPERATIONS
from tests.conftest import KintoApp
from tests.support.records import Record
from tests.support.tus import begin

on_memory = pytest.mark.parametrize("backend", ["memory"], indirect=True)
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

PROMETHEUS = {"kinto.includes": "kinto.plugins.prometheus kinto_attachment"}


def scrape(app: KintoApp) -> Counter[str]:
    """What Prometheus reads, without the prefix: ``uploads_ended_total{outcome=attached}``."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(app.get("/v1/__metrics__").text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            if key.startswith("kinto_attachments_") and "_created" not in key:
                found[key.removeprefix("kinto_attachments_")] = sample.value
    return found


@pytest.fixture
def record(make_record: Callable[..., Record]) -> Record:
    return make_record(attachment={"extensions": "txt"}, **PROMETHEUS)


@pytest.fixture
def counted(record: Record) -> Callable[[], dict[str, float]]:
    """``counted()`` is what was added since the last call, but for how long it took."""
    last = scrape(record.app)

    def counted() -> dict[str, float]:
        nonlocal last
        before, last = last, scrape(record.app)
        return {
            key: last[key] - before[key]
            for key in last
            if last[key] != before[key] and not key.startswith("storage_seconds")
        }

    return counted


@on_memory
def test_an_upload_is_counted_with_its_bytes(record, counted):
    record.attach(b"first one")
    # The first upload marks the storage.
    counted()

    record.attach(b"content", data={"title": "whatever"})

    assert counted() == {
        "uploads_started_total": 1,
        "uploads_ended_total{outcome=attached}": 1,
        "received_bytes_total": len(b"content"),
        # The one before.
        "files_deleted_total": 1,
    }


@on_memory
def test_an_upload_that_is_refused_is_counted_by_its_reason(record, counted):
    record.attach(filename="picture.png", status=400)

    assert counted() == {
        "uploads_started_total": 1,
        "uploads_ended_total{outcome=refused}": 1,
        "refusals_total{reason=extension_not_allowed}": 1,
    }


@on_memory
def test_a_deletion_is_counted(record, counted):
    record.attach()
    counted()

    record.detach()

    assert counted() == {"files_deleted_total": 1}


@on_memory
@pytest.mark.leaves("a file that could not be deleted")
def test_a_file_that_cannot_be_deleted_is_counted(record, counted, monkeypatch):
    record.attach()
    counted()

    def fail(*arguments: object) -> None:
        raise StorageUnavailable("the disk is read-only")

    monkeypatch.setattr(record.app.registry.attachment_files.public, "delete", fail)
    record.detach()

    assert counted() == {"deletions_failed_total": 1}


@on_memory
def test_a_storage_that_fails_is_counted(record, counted, monkeypatch):
    record.attach()
    counted()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    record.attach(b"another", status=503)

    assert counted() == {
        "uploads_started_total": 1,
        "uploads_ended_total{outcome=failed}": 1,
        "received_bytes_total": len(b"another"),
        "refusals_total{reason=storage_failed}": 1,
    }


@on_memory
def test_a_resumable_upload_is_counted_request_by_request(record, counted):
    record.attach()
    counted()

    upload = begin(record, length=10)
    assert counted() == {"uploads_started_total": 1, "uploads_ended_total{outcome=partial}": 1}

    upload.patch(0, b"0123")
    assert counted() == {
        "uploads_started_total": 1,
        "uploads_ended_total{outcome=partial}": 1,
        "received_bytes_total": 4,
    }

    upload.patch(4, b"456789")
    assert counted() == {
        "uploads_started_total": 1,
        "uploads_ended_total{outcome=attached}": 1,
        "received_bytes_total": 6,
        "files_deleted_total": 1,
    }


@on_memory
def test_a_download_is_counted_by_its_bytes(record, counted):
    # What the server sends by itself could not be counted.
    record.app.extra_environ["wsgi.file_wrapper"] = FileWrapper
    record.attach(b"0123456789")
    counted()

    record.app.get(record.endpoint)
    record.app.get(record.endpoint, headers={"Range": "bytes=2-4"})
    record.app.head(record.endpoint)

    assert counted() == {"sent_bytes_total": 10 + 3}


@on_memory
def test_a_download_that_breaks_off_at_its_start_closes_the_file(record, counted):
    record.attach(b"0123456789")
    counted()

    request = record.app.RequestClass.blank(record.endpoint, environ=record.app.extra_environ)
    body = request.call_application(record.app.app)[2]
    body.close()

    assert list(body) == []
    assert counted() == {}


@on_memory
def test_the_storage_is_timed_by_operation(record):
    before = scrape(record.app)

    record.attach(b"content")
    upload = begin(record, length=1)
    upload.patch(0, b"0")
    begin(record, length=1).delete()
    record.app.get(record.endpoint)
    record.detach()

    after = scrape(record.app)
    timed = {
        key
        for key in after
        if key.startswith("storage_seconds_count") and after[key] > before[key]
    }
    assert timed == {f"storage_seconds_count{{operation={name}}}" for name in OPERATIONS}


@on_postgresql
def test_the_heartbeat_counts_the_resumable_uploads_that_are_open(record, counted):
    begin(record, length=10)
    begin(record, length=1).patch(0, b"0")
    counted()

    assert record.app.get("/v1/__heartbeat__").json["attachments"] is True

    assert counted() == {"resumable_uploads_count": 1, "resumable_uploads_sum": 1}


@on_postgresql
def test_a_storage_that_hangs_holds_no_connection(record, monkeypatch):
    """Else one heartbeat after the other would take one."""
    open_session, has_transaction = record.app.registry.storage.client.session_factory, []
    monkeypatch.setattr(
        record.app.registry.attachment_files,
        "check",
        lambda: has_transaction.append(open_session().in_transaction()),
    )

    record.app.get("/v1/__heartbeat__")

    assert has_transaction == [False]


@on_memory
def test_the_heartbeat_counts_none_in_memory(record, counted):
    record.app.get("/v1/__heartbeat__")

    assert counted() == {}


@on_postgresql
def test_the_heartbeat_of_the_storage_does_not_depend_on_the_database(record, monkeypatch):
    def down(**_: object) -> None:
        raise commit.BackendError(original=ConnectionError())

    monkeypatch.setattr(record.app.registry.storage, "count_all", down)

    assert record.app.get("/v1/__heartbeat__").json["attachments"] is True


@on_postgresql
def test_another_try_at_the_database_is_counted(record, counted, monkeypatch):
    record.attach()
    counted()
    attach, failed = RecordAttachment.attach, []

    def fail_once(*arguments: Any) -> Any:
        if not failed:
            failed.append(True)
            raise commit.IntegrityError(original=Exception("two writes in one millisecond"))
        return attach(*arguments)

    monkeypatch.setattr(RecordAttachment, "attach", fail_once)
    record.attach(b"another")

    assert counted()["retries_total{of=database}"] == 1


@on_memory
def test_a_metrics_service_that_fails_fails_nothing_else(make_record, caplog):
    includes = {"kinto.includes": "tests.plugins.failing_metrics kinto_attachment"}
    record = make_record(**includes)

    record.attach(b"content")
    record.attach(b"another")

    assert record.content == b"another"
    logged = [each.getMessage() for each in caplog.records if "metrics" in each.getMessage()]
    assert len(logged) == len(set(logged)) > 0


@on_memory
def test_without_a_metrics_plugin_the_storage_is_left_alone(start_app):
    files = start_app().registry.attachment_files

    assert not {*vars(files), *vars(files.public)} & {*OPERATIONS, "delete_many"}
    assert isinstance(files.public, LocalStorage)


@on_memory
def test_statsd_gets_the_same(start_app, stored):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        url = f"udp://127.0.0.1:{server.getsockname()[1]}"
        plugins = "kinto.plugins.statsd kinto_attachment"
        app = start_app(**{"kinto.includes": plugins, "kinto.statsd_url": url})
        for path in ("/v1/buckets/b", "/v1/buckets/b/collections/c"):
            app.put_json(path, {})

        Record(app, stored, "/buckets/b/collections/c/records/r").attach(b"content")

        found = set()
        # The last one that is sent.
        while "kinto.attachments.uploads_ended.outcome.attached:1|c" not in found:
            found.add(server.recv(1000).decode())
        app.registry.metrics._client.close()
    assert "kinto.attachments.received_bytes:7|c" in found
    assert "kinto.attachments.uploads_started:1|c" in found
    timed = "|".join(sorted(found))
    assert re.search(r"kinto\.attachments\.storage_seconds\.operation\.finish:[0-9.]+\|ms", timed)


@on_memory
def test_counters_begin_at_zero(record):
    """Where the first event was the begin of a series, no alert would see it."""
    found = scrape(record.app)

    assert set(found) >= {f"refusals_total{{reason={reason}}}" for reason in reasons()}
    assert "uploads_ended_total{outcome=failed}" in found
    assert "received_bytes_total" in found
    assert "storage_seconds_count{operation=checkpoint}" in found


def test_a_refusal_outside_of_requests_is_counted_nowhere():
    with pytest.raises(HTTPClientError), answered():
        raise Refusal("whatever")
