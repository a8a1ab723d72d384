"""Kinto's other plugins, in the same server as this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import KintoApp
from tests.support.inventory import Folder

pytestmark = pytest.mark.clients

CHECKOUT = Path(__file__).parents[2]
COLLECTION = "/v1/buckets/b/collections/c"
RECORD = f"{COLLECTION}/records/r"


@pytest.fixture
def beside(make_app: Callable[..., KintoApp]) -> Callable[..., KintoApp]:
    """``beside("history", **settings)``: a Kinto with that plugin too, and a collection."""

    def start(plugin: str, **settings: Any) -> KintoApp:
        includes = f"kinto.plugins.{plugin} kinto.plugins.default_bucket kinto_attachment"
        app = make_app(**{"kinto.includes": includes, **settings})
        app.put_json("/v1/buckets/b", {})
        app.put_json(COLLECTION, {})
        return app

    return start


def attach(app: Any, content: bytes = b"content", record: str = RECORD, **fields: str) -> Any:
    return app.post(
        f"{record}/attachment", fields, upload_files=[("attachment", "a.txt", content)]
    )


def history(app: KintoApp) -> list[dict[str, Any]]:
    """What history tells of the records, the oldest first."""
    entries: list[dict[str, Any]] = app.get("/v1/buckets/b/history?resource_name=record").json[
        "data"
    ]
    return entries[::-1]


class TestHistory:
    def test_it_tells_who_attached_what_and_when(self, beside):
        app = beside("history")
        before = datetime.now(timezone.utc)

        attachment = attach(app, data='{"title": "new"}').json

        (entry,) = history(app)
        assert entry["action"] == "create"
        assert entry["user_id"] == app.userid
        assert entry["uri"] == RECORD.removeprefix("/v1")
        assert entry["record_id"] == "r"
        assert entry["target"]["data"]["attachment"] == attachment
        assert entry["target"]["data"]["title"] == "new"
        assert before <= datetime.fromisoformat(entry["date"]) <= datetime.now(timezone.utc)

    def test_it_tells_of_each_file_and_of_the_removal(self, beside):
        app = beside("history")
        first = attach(app, b"first").json
        second = attach(app, b"second").json
        app.delete(f"{RECORD}/attachment")
        app.delete(RECORD)

        entries = history(app)

        assert [entry["action"] for entry in entries] == ["create", "update", "update", "delete"]
        shown = [entry["target"]["data"].get("attachment") for entry in entries]
        assert shown == [first, second, None, None]

    def test_it_tells_of_another_user(self, beside):
        app = beside("history")
        bob = app.as_user("bob")
        app.patch_json(COLLECTION, {"permissions": {"record:create": [bob.userid]}})

        attach(bob)

        assert [entry["user_id"] for entry in history(app)] == [bob.userid]

    def test_a_refused_upload_leaves_no_trace(self, beside):
        app = beside("history")

        app.post(f"{RECORD}/attachment", upload_files=[("other", "a.txt", b"x")], status=400)

        assert history(app) == []

    def test_it_does_not_keep_the_file(self, beside, files):
        app = beside("history")
        attach(app)

        app.delete(RECORD)

        assert Folder(files).names() == []


def test_the_default_bucket_has_a_history(beside):
    app = beside("history")

    attach(app, record="/v1/buckets/default/collections/mine/records/r")

    bucket_id = app.get("/v1/").json["user"]["bucket"]
    entries = app.get(f"/v1/buckets/{bucket_id}/history").json["data"]
    assert [entry["resource_name"] for entry in entries] == ["record", "collection", "bucket"]


def test_counters_count_each_file_once(beside):
    app = beside("counters")
    shared = attach(app, b"shared").json
    attach(app, b"another", record=f"{COLLECTION}/records/another")
    app.put_json(f"{COLLECTION}/records/copy", {"data": {"attachment": shared}})

    counted = app.get("/v1/__counters__").json["objects"]

    assert counted["attachments"] == 2
    assert counted["record"] == 3


class Provider(ThreadingHTTPServer):
    """An OpenID provider, as far as Kinto asks it: where what is, and whose a token is."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ProviderAnswers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _ProviderAnswers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = self.server.url
        if self.path == "/.well-known/openid-configuration":
            self.answer(
                {
                    "issuer": url,
                    "authorization_endpoint": f"{url}/authorize",
                    "token_endpoint": f"{url}/token",
                    "userinfo_endpoint": f"{url}/userinfo",
                    "jwks_uri": f"{url}/keys",
                }
            )
        elif self.headers["Authorization"] == "Bearer token-of-carol":
            self.answer({"sub": "carol"})
        else:
            self.send_error(401)

    def answer(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        threading.Thread(target=provider.serve_forever, args=(0.01,)).start()
        yield provider
        provider.shutdown()


def test_a_user_whom_openid_knows_attaches_a_file(beside, provider):
    policy = "kinto.multiauth.policy.who"
    app = beside(
        "openid",
        **{
            "kinto.multiauth.policies": "basicauth who",
            f"{policy}.use": "kinto.plugins.openid.OpenIDConnectPolicy",
            f"{policy}.issuer": provider.url,
            f"{policy}.client_id": "kinto",
        },
    )
    app.patch_json(COLLECTION, {"permissions": {"record:create": ["who:carol"]}})
    carol, nobody = app.as_user(None), app.as_user(None)
    carol.authorization = ("Bearer", "token-of-carol")
    nobody.authorization = ("Bearer", "another-token")

    attach(carol)

    assert carol.get(RECORD).json["permissions"]["write"] == ["who:carol"]
    refused = nobody.post(
        f"{RECORD}/attachment", upload_files=[("attachment", "a.txt", b"x")], status=401
    )
    assert refused.json["errno"] == 104


def test_what_kinto_itself_tests_of_the_two_holds(downloads, tmp_path):
    sources = downloads.sdist("kinto", version("kinto"))
    # Not with the package beside them: the tests would take it for the installed one.
    shutil.copytree(sources / "tests", tmp_path / "tests")

    finished = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", tmp_path),
            *("-p", "no:cacheprovider", "-q", "-rA"),
            "tests/plugins/test_history.py::AttachmentHistoryURITest",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "2 passed" in finished.stdout
    assert "skipped" not in finished.stdout
