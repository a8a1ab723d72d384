"""The server itself, and Google's own library in front of it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud.exceptions import NotFound, PreconditionFailed

from tests.support.servers.gcs import GcsServer, operation_of

MIB = 1024 * 1024


@pytest.fixture
def library(server, monkeypatch):
    # Else a thread asks for the bucket.
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    from google.cloud import storage

    client = storage.Client(
        project=server.project,
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": server.endpoint_url},
    )
    yield client
    client.close()


class TestGooglesLibrary:
    def test_a_string(self, library, server):
        blob = library.bucket("tests").blob("a/é")
        blob.cache_control = "no-store"
        blob.metadata = {"a": "b"}

        blob.upload_from_string(
            b"hello", "text/x", predefined_acl="publicRead", if_generation_match=0
        )

        assert blob.generation == server.objects()["a/é"].generation
        assert blob.download_as_bytes(start=1, end=2) == b"el"
        blob.reload()
        assert (blob.size, blob.content_type, blob.metadata) == (5, "text/x", {"a": "b"})
        with pytest.raises(PreconditionFailed):
            blob.upload_from_string(b"other", if_generation_match=0)

    @pytest.mark.parametrize("chunk_size", [None, MIB])
    def test_20_mib(self, library, server, chunk_size):
        content = os.urandom(20 * MIB)
        blob = library.bucket("tests").blob("a", chunk_size=chunk_size)

        blob.upload_from_file(io.BytesIO(content), checksum="crc32c")

        assert server.objects()["a"].content == content
        assert blob.download_as_bytes() == content
        if chunk_size:
            operations = [request.operation for request in server.requests]
            assert operations.count("chunk") == 20

    def test_compose_copy_list_and_delete(self, library):
        bucket = library.bucket("tests")
        for name in "abc":
            bucket.blob(name).upload_from_string(name)

        whole = bucket.blob("d")
        whole.compose([bucket.blob(name) for name in "abc"])
        bucket.copy_blob(whole, bucket, "e")
        bucket.blob("f").rewrite(whole)
        bucket.delete_blob("a")

        assert bucket.blob("f").download_as_bytes() == b"abc"
        assert [blob.name for blob in library.list_blobs("tests", page_size=2)] == list("bcdef")
        with pytest.raises(NotFound):
            bucket.delete_blob("a")
        assert bucket.test_iam_permissions(["storage.objects.get"]) == ["storage.objects.get"]

    def test_a_bucket(self, library, server):
        bucket = library.create_bucket("another", predefined_acl="projectPrivate")

        assert bucket.name == "another"
        assert "another" in server.buckets


class TestServer:
    def test_objects_survive_a_restart_on_the_same_port(self, server, client):
        client.put("a")
        url = server.endpoint_url

        with server.down(), pytest.raises(requests.ConnectionError):
            client.list()

        assert server.endpoint_url == url
        assert client.at("a").status_code == 200

    def test_nothing_is_left_of_it(self):
        threads = threading.active_count()
        with GcsServer() as server:
            with requests.Session() as session:
                session.get(f"{server.endpoint_url}/storage/v1/b/tests/o")
                assert threading.active_count() > threads + 1
            folder = server.directory

        assert threading.active_count() == threads
        assert not folder.exists()

    def test_connections_can_be_closed(self, server, client):
        client.list()

        server.disconnect()

        assert client.list().status_code == 200

    def test_it_forgets_what_was(self, server, client):
        client.put("a")
        client.start("b")
        server.empty()
        assert (server.keys(), server.sessions(), len(server.requests)) == ([], [], 2)

        server.versioning = True
        server.create_bucket("other")
        server.reset()

        assert not server.versioning
        assert (server.requests, list(server.buckets)) == ([], ["tests"])

    def test_one_of_many_writers_of_a_name_is_the_first(self, server, client):
        answers = []

        def write():
            url = f"{server.endpoint_url}/upload/storage/v1/b/tests/o"
            query = {"uploadType": "media", "name": "a", "ifGenerationMatch": "0"}
            answers.append(requests.post(url, params=query, data=b"x", timeout=10).status_code)

        threads = [threading.Thread(target=write) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(answers) == [200, *[412] * 7]

    def test_requests_say_what_arrived(self, server, client):
        client.put("a", b"hello", "predefinedAcl=publicRead")

        request = server.requests[0]
        assert (request.method, request.operation) == ("POST", "insert")
        assert request.query["predefinedAcl"] == "publicRead"
        assert request.headers["content-type"] == "text/plain"
        assert request.received == 5

    def test_it_runs_alone(self):
        command = [sys.executable, "-m", "tests.support.servers.gcs", "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url, bucket, _ = process.stdout.readline().split()
            try:
                answer = requests.get(f"{url}/storage/v1/b/{bucket}/o", timeout=10)
            finally:
                process.terminate()

        assert answer.status_code == 200
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/upload/storage/v1/b/tests/o?uploadType=multipart", "insert"),
        ("POST", "/upload/storage/v1/b/tests/o?uploadType=resumable", "start"),
        ("PUT", "/upload/storage/v1/b/tests/o?upload_id=x", "chunk"),
        ("DELETE", "/upload/storage/v1/b/tests/o?upload_id=x", "cancel"),
        ("GET", "/storage/v1/b/tests/o/a%2Fb", "get"),
        ("GET", "/storage/v1/b/tests/o/a%2Fb?alt=media", "media"),
        ("GET", "/download/storage/v1/b/tests/o/a?alt=media", "media"),
        ("PATCH", "/storage/v1/b/tests/o/a", "patch"),
        ("DELETE", "/storage/v1/b/tests/o/a", "delete"),
        ("GET", "/storage/v1/b/tests/o", "list"),
        ("POST", "/storage/v1/b/tests/o/a/compose", "compose"),
        ("POST", "/storage/v1/b/tests/o/a/rewriteTo/b/tests/o/b", "rewrite"),
        ("GET", "/storage/v1/b/tests/iam/testPermissions?permissions=x", "permissions"),
        ("POST", "/storage/v1/b?project=x", "create_bucket"),
        ("GET", "/storage/v1/b/tests", "get_bucket"),
        ("POST", "/token", "token"),
        ("GET", "/tests/a/b", "public"),
        ("PUT", "/upload/storage/v1/b/tests/o", "unknown"),
        ("GET", "/storage/v2", "unknown"),
    ],
)
def test_operation_of(method, path, operation):
    assert operation_of(method, path) == operation
    target, _, query = path.partition("?")
    assert operation_of(method, target, query) == operation
    assert operation_of(method, target, dict(p.split("=") for p in query.split("&") if p)) == (
        operation
    )


def test_a_header_tells_a_status_query():
    headers = {"Content-Range": "bytes */*"}

    assert operation_of("PUT", "/upload/storage/v1/b/b/o?upload_id=x", "", headers) == "status"
