"""What the server says of itself."""

from __future__ import annotations

import errno
import os

import pytest
from pyramid_storage.interfaces import IFileStorage

import kinto_attachment


def test_the_capability_is_listed(app):
    capability = app.get("/v1/").json["capabilities"]["attachments"]

    assert capability == {
        "version": kinto_attachment.__version__,
        "description": "Add file attachments to records",
        "url": "https://github.com/Kinto/kinto-attachment/",
        "base_url": "https://files.example.org/",
        "resumable": {
            "protocol": "tus",
            "version": "1.0.0",
            "extensions": [
                "creation",
                "creation-with-upload",
                "creation-defer-length",
                "termination",
                "expiration",
                "checksum",
            ],
            "max_size": None,
        },
    }


def test_the_capability_has_the_quota_of_the_site(make_app):
    attachment = {"quota_bytes": "10", "resources.b.quota_files": "1"}
    capability = make_app(attachment=attachment).get("/v1/").json["capabilities"]["attachments"]

    assert capability["quota"] == {"bytes": 10}


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("attachment", "expected"),
    [
        ({"base_url": "https://a.org/f"}, "https://a.org/f/"),
        ({"base_url": None, "extra.base_url": "https://b.org"}, "https://b.org/"),
        ({"base_url": "https://a.org/", "extra.base_url": "https://b.org/"}, "https://b.org/"),
        ({"base_url": None}, ""),
    ],
)
def test_the_base_url_of_the_capability_ends_with_a_slash(make_app, attachment, expected):
    root = make_app(attachment=attachment).get("/v1/").json

    assert root["capabilities"]["attachments"]["base_url"] == expected


def test_the_base_url_is_a_public_setting(make_app):
    root = make_app(attachment={"base_url": "https://a.org/f"}).get("/v1/").json

    assert root["settings"]["attachment.base_url"] == "https://a.org/f/"


def test_the_heartbeat_writes_a_file_and_leaves_none(app, files):
    assert app.get("/v1/__heartbeat__").json["attachments"] is True
    assert [path for path in files.rglob("*") if path.is_file()] == []


def test_the_heartbeat_tells_that_files_cannot_be_stored(app, files, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    response = app.get("/v1/__heartbeat__", status=503)

    assert response.json["attachments"] is False


def test_the_heartbeat_tells_that_files_cannot_be_read_back(app, monkeypatch):
    def none(name: str, start: int = 0, stop: int | None = None) -> None:
        raise FileNotFoundError(name)

    monkeypatch.setattr(app.registry.getUtility(IFileStorage), "read", none)

    assert app.get("/v1/__heartbeat__", status=503).json["attachments"] is False


@pytest.mark.parametrize(
    "path", ["/__heartbeat__", "/v1/__heartbeat__", "/__heart%62eat__", "/__heartbeat__/"]
)
def test_a_batch_does_not_reach_the_heartbeat(app, files, path):
    batch = {"requests": [{"path": path}, {"path": "/__lbheartbeat__"}, {"path": "/"}]}
    refused, *others = app.post_json("/v1/batch", batch).json["responses"]

    assert (refused["status"], refused["body"]["errno"]) == (400, 107)
    assert refused["body"]["message"] == "The heartbeat and metrics cannot be part of a batch."
    assert [each["status"] for each in others] == [200, 200]


def test_the_heartbeat_of_a_read_only_server_does_not_try(make_app, files):
    app = make_app(**{"kinto.readonly": "true"})

    assert app.get("/v1/__heartbeat__").json["attachments"] is True
    assert not files.exists()


def test_the_storage_is_where_plugins_of_pyramid_storage_look_for_it(app):
    storage = app.registry.getUtility(IFileStorage)

    assert storage.url("a.txt") == "https://files.example.org/a.txt"


def test_a_full_disk_is_told_and_nothing_is_lost(record, monkeypatch):
    record.attach(b"first")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        response = record.attach(b"second", status=503)

    assert response.json["errno"] == 201
    assert "Retry-After" in response.headers
    assert record.content == b"first"
    assert len(record.files()) == 1


def test_the_endpoint_is_in_the_description_of_the_api(app):
    paths = app.get("/v1/__api__").json["paths"]

    endpoint = paths["/buckets/{bucket_id}/collections/{collection_id}/records/{id}/attachment"]
    assert {"post", "delete"} <= set(endpoint)
