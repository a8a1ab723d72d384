"""The plugin as ``pip install .`` brings it, in a virtualenv of its own: without SQLAlchemy, a
driver for PostgreSQL, Google's library, or anything else that only the tests need."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.servers.kinto import LiveKinto, ini

pytestmark = pytest.mark.apart

CHECKOUT = Path(__file__).parents[2]
# What pip reads to build the package.
SOURCES = (
    *("setup.py", "pyproject.toml", "MANIFEST.in"),
    *("README.rst", "CHANGELOG.rst", "LICENSE"),
)
USER = ("alice", "secret")
RECORD = "buckets/b/collections/c/records/r"
CONTENT = b"0123456789"
OFFSET_TYPE = "application/offset+octet-stream"
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"

# Each module in a process of its own would take half a minute.
IMPORT_ALL = """
import importlib, pkgutil, traceback
import kinto_attachment
for module in pkgutil.walk_packages(kinto_attachment.__path__, "kinto_attachment."):
    # One runs the command, the others are for an extra.
    if not module.name.endswith(".__main__") and ".gcloud" not in module.name:
        try:
            importlib.import_module(module.name)
        except Exception:
            print(module.name, traceback.format_exc())
"""

FIND_EXTRAS = """
import importlib
for name in ("sqlalchemy", "psycopg2", "psycopg", "zope.sqlalchemy", "google", "google_crc32c"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    print(name)
print("none")
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the virtualenv's programs. Built from a copy of the checkout, for pip to
    write into."""
    folder = tmp_path_factory.mktemp("bare")
    sources, environment = folder / "sources", folder / "environment"
    shutil.copytree(
        CHECKOUT / "kinto_attachment",
        sources / "kinto_attachment",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in SOURCES:
        shutil.copy(CHECKOUT / name, sources)
    # Without a pip of its own: it would take longer than the rest.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    installed = subprocess.run(
        [*pip, "install", "--quiet", "--no-compile", str(sources)], capture_output=True, text=True
    )
    assert installed.returncode == 0, installed.stderr
    return environment / "bin"


@pytest.fixture(scope="module")
def python(programs: Path) -> tuple[str, ...]:
    """The interpreter, with its options: isolated from the checkout and from ``PYTHONPATH``."""
    return (str(programs / "python"), "-I")


def settings(files: Path, **attachment: str) -> dict[str, str]:
    """Those of a Kinto with its objects in memory."""
    return {
        "kinto.includes": "kinto.plugins.default_bucket kinto_attachment",
        "kinto.multiauth.policies": "basicauth",
        "kinto.userid_hmac_secret": "of the tests",
        "kinto.storage_backend": "kinto.core.storage.memory",
        "kinto.permission_backend": "kinto.core.permission.memory",
        "kinto.bucket_create_principals": "system.Authenticated",
        "kinto.attachment.base_path": str(files),
        **{f"kinto.attachment.{name}": value for name, value in attachment.items()},
    }


class Client:
    """A user of a live Kinto; paths are below ``/v1/``."""

    def __init__(self, kinto: LiveKinto, files: Path) -> None:
        self.url = kinto.url
        self.files = files
        self.request("PUT", "buckets/b").raise_for_status()
        self.request("PUT", "buckets/b/collections/c").raise_for_status()

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        arguments = {"auth": USER, **arguments}
        return requests.request(method, f"{self.url}{path}", timeout=30, **arguments)

    def attach(self, record: str, content: bytes = CONTENT) -> requests.Response:
        """Attach ``file.txt`` in one request."""
        files = {"attachment": ("file.txt", content, "text/plain")}
        return self.request("POST", f"{record}/attachment", files=files)

    def begin(self, record: str = RECORD) -> str:
        """Begin a resumable upload of ten bytes; return its path."""
        name = base64.b64encode(b"file.txt").decode()
        headers = {"Upload-Length": "10", "Upload-Metadata": f"filename {name}"}
        answer = self.tus("POST", f"{record}/attachment", **headers)
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"].removeprefix(self.url)

    def patch(self, upload: str, content: bytes, **headers: str) -> requests.Response:
        """The next bytes of an upload, its first unless the headers say otherwise."""
        sent = {"Content-Type": OFFSET_TYPE, "Upload-Offset": "0", **headers}
        return self.tus("PATCH", upload, content, **sent)

    def tus(self, method: str, path: str, content: bytes = b"", **headers: str) -> Any:
        sent = {"Tus-Resumable": "1.0.0", **headers}
        return self.request(method, path, data=content, headers=sent)

    def offset_of(self, upload: str) -> str:
        """How far an upload is, in bytes."""
        offset: str = self.tus("HEAD", upload).headers["Upload-Offset"]
        return offset

    def content_of(self, record: str) -> bytes:
        """The bytes of the file that the record shows."""
        data = self.request("GET", record).json()["data"]
        return (self.files / data["attachment"]["location"]).read_bytes()


@pytest.fixture(scope="module")
def client(python: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    files = tmp_path_factory.mktemp("files")
    with LiveKinto(settings(files), python=python) as kinto:
        yield Client(kinto, files)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> str:
    """The path of a record that no other test writes."""
    digest = hashlib.sha256(request.node.nodeid.encode()).hexdigest()
    return f"buckets/b/collections/c/records/{digest[:12]}"


def test_what_only_some_servers_need_is_not_there(python):
    looked = subprocess.run([*python, "-c", FIND_EXTRAS], capture_output=True, text=True)

    assert (looked.stdout, looked.returncode) == ("none\n", 0), looked.stderr


def test_every_module_can_be_imported(python):
    imported = subprocess.run([*python, "-c", IMPORT_ALL], capture_output=True, text=True)

    assert imported.stdout == ""
    assert imported.returncode == 0, imported.stderr


def test_google_cloud_storage_is_an_extra(python):
    opened = (
        "from kinto_attachment.storage import GCloudOptions, open_storage\n"
        "open_storage(GCloudOptions('files'))"
    )
    failed = subprocess.run([*python, "-c", opened], capture_output=True, text=True)

    assert "ModuleNotFoundError: No module named 'google'" in failed.stderr


@pytest.mark.parametrize("command", [[], ["check"], ["gc"], ["publish"], ["rebase"]])
def test_the_command_explains_itself(python, programs, command):
    script = str(programs / "kinto-attachment")
    explained = subprocess.run(
        [*python, script, *command, "--help"], capture_output=True, text=True
    )

    assert explained.returncode == 0, explained.stderr
    assert explained.stdout.startswith("usage: kinto-attachment")


def test_the_command_says_that_it_needs_postgresql(python, programs, tmp_path):
    (tmp_path / "kinto.ini").write_text(ini(settings(tmp_path), port=0))
    script = str(programs / "kinto-attachment")
    refused = subprocess.run(
        [*python, script, "--ini", str(tmp_path / "kinto.ini"), "check"],
        capture_output=True,
        text=True,
    )

    assert refused.returncode == 2
    assert "PostgreSQL" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_file_is_attached_and_detached(client, record):
    attached = client.attach(record)
    assert attached.status_code == 201
    assert client.content_of(record) == CONTENT

    detached = client.request("DELETE", f"{record}/attachment")

    assert detached.status_code == 204
    assert not (client.files / attached.json()["location"]).exists()


def test_a_file_is_attached_through_the_default_bucket(client, record):
    record = record.replace("/b/", "/default/")

    assert client.attach(record).status_code == 201
    assert client.content_of(record) == CONTENT


def test_a_resumable_upload_goes_on_where_it_was_interrupted(client, record):
    upload = client.begin(record)

    assert client.patch(upload, CONTENT[:5]).status_code == 204
    assert client.offset_of(upload) == "5"
    assert client.patch(upload, CONTENT[5:], **{"Upload-Offset": "5"}).status_code == 204
    assert client.content_of(record) == CONTENT


def test_a_resumable_upload_is_ended(client, record):
    upload = client.begin(record)

    assert client.tus("DELETE", upload).status_code == 204
    assert client.tus("HEAD", upload).status_code == 404


# As tests/tus/test_protocol.py has them.
@pytest.mark.parametrize(
    ("status", "content", "headers"),
    [
        pytest.param(409, b"0", {"Upload-Offset": "5"}, id="another offset"),
        pytest.param(413, b"0" * 11, {}, id="longer than the upload"),
        pytest.param(400, b"0", {"Upload-Offset": "x"}, id="no offset"),
        pytest.param(400, b"0", {"Upload-Length": "9"}, id="another length"),
        pytest.param(412, b"0", {"Tus-Resumable": "0.2.2"}, id="another version"),
        pytest.param(415, b"0", {"Content-Type": "text/plain"}, id="another media type"),
        pytest.param(460, b"0", {"Upload-Checksum": "sha1 " + "A" * 27 + "="}, id="checksum"),
    ],
)
def test_a_refused_request_leaves_a_resumable_upload_as_it_was(
    client, record, status, content, headers
):
    upload = client.begin(record)

    refused = client.patch(upload, content, **headers)

    assert refused.status_code == refused.json()["code"] == status
    assert client.offset_of(upload) == "0"


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_an_unknown_upload_is_not_found(client, record, method):
    headers = {"Content-Type": OFFSET_TYPE, "Upload-Offset": "0"}
    path = f"{record}/attachment/uploads/{UNKNOWN_ID}"

    assert client.tus(method, path, **headers).status_code == 404


def test_a_file_that_is_not_what_was_announced_ends_the_upload(client, record):
    digest = base64.b64encode(hashlib.sha256(b"other").hexdigest().encode()).decode()
    headers = {"Upload-Length": "10", "Upload-Metadata": f"sha256 {digest}"}
    began = client.tus("POST", f"{record}/attachment", **headers)
    upload = began.headers["Location"].removeprefix(client.url)

    assert client.patch(upload, CONTENT).status_code == 460
    assert client.tus("HEAD", upload).status_code == 404


def test_a_forbidden_upload_is_refused(client, record):
    bob = {"auth": ("bob", "secret")}
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
    refused = client.request("POST", f"{record}/attachment", headers=headers, **bob)

    assert refused.status_code == 403


def test_an_expired_upload_is_gone(python, tmp_path):
    with LiveKinto(settings(tmp_path, **{"uploads.expires": "1s"}), python=python) as kinto:
        client = Client(kinto, tmp_path)
        upload = client.begin()
        time.sleep(1.1)

        assert client.patch(upload, CONTENT).status_code == 410
