"""kinto-http.js, the client for JavaScript, in Node.js."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.conftest import USER
from tests.support.clients.downloads import NODE

pytestmark = pytest.mark.clients

VERSION = "5.3.0"

# The bundle for browsers: what the package has for Node.js does not start.
SCRIPT = """
const { bundle, url, authorization, bucket } = JSON.parse(process.argv[1]);
const KintoClient = require(bundle).default || require(bundle);
const client = new KintoClient(url, { headers: { Authorization: authorization } });
const collection = client.bucket(bucket).collection("c");
const dataURL = (text, name, type = "text/plain") =>
  `data:${type};name=${name};base64,${Buffer.from(text).toString("base64")}`;
async function main() { %s }
main()
  .catch((error) => ({ status: error.response.status, message: error.message }))
  .then((result) => console.log(JSON.stringify(result ?? null)));
"""


@pytest.fixture
def javascript(downloads, client) -> Callable[[str], Any]:
    """``javascript(body)``: what the function with this body returns, given ``collection``; the
    status and the message of the error if Kinto refuses."""
    bundle = downloads.npm("kinto-http", VERSION) / "dist" / "kinto-http.js"
    context = {
        "bundle": str(bundle),
        "url": client.session.server_url,
        "authorization": "Basic " + base64.b64encode(":".join(USER).encode()).decode(),
        "bucket": client.bucket_name,
    }

    def run(body: str) -> Any:
        finished = subprocess.run(
            [NODE, "-e", SCRIPT % body, json.dumps(context)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    return run


@pytest.fixture
def attached(client, tmp_path):
    """A record with a file, as it is before the script runs."""
    path = tmp_path / "first.txt"
    path.write_text("first")
    client.add_attachment(id="r", filepath=str(path), data={"title": "kept"})
    return client.get_record(id="r")["data"]


def test_a_file_is_attached_to_a_new_record(javascript, client, stored):
    answer = javascript("""
        return await collection.addAttachment(
            dataURL("content", "a.txt"), { id: "r", title: "new" },
            { permissions: { read: ["system.Everyone"] } });
    """)

    record = client.get_record(id="r")
    assert answer["data"] == record["data"]
    assert record["data"]["title"] == "new"
    assert record["data"]["attachment"]["filename"] == "a.txt"
    assert record["data"]["attachment"]["mimetype"] == "text/plain"
    assert record["permissions"]["read"] == ["system.Everyone"]
    assert stored() == [b"content"]


def test_a_record_without_an_id_gets_one(javascript, client):
    answer = javascript("""return await collection.addAttachment(dataURL("content", "a.txt"));""")

    (record,) = client.get_records()
    assert record == answer["data"]


def test_the_name_is_one_that_the_script_gives(javascript, client):
    javascript("""
        return await collection.addAttachment(
            "data:text/plain;base64,YQ==", { id: "r" }, { filename: "given.txt" });
    """)

    assert client.get_record(id="r")["data"]["attachment"]["filename"] == "given.txt"


@pytest.mark.parametrize("name", ["first é paper.txt", "100% (done)!.txt", "日本.txt"])
@pytest.mark.parametrize(
    "call",
    [
        'dataURL("content", encodeURIComponent(name)), { id: "r" }',
        '"data:text/plain;base64,YQ==", { id: "r" }, { filename: name }',
    ],
)
def test_the_name_is_not_stored_as_the_script_encodes_it(javascript, client, call, name):
    javascript(f"""
        const name = {json.dumps(name)};
        return await collection.addAttachment({call});
    """)

    assert client.get_record(id="r")["data"]["attachment"]["filename"] == name


@pytest.mark.parametrize("safe", ["true", "false"])
def test_the_file_is_replaced(javascript, client, attached, stored, safe):
    javascript(f"""
        const record = (await collection.getRecord("r")).data;
        return await collection.addAttachment(
            dataURL("second", "a.txt"), record, {{ safe: {safe} }});
    """)

    record = client.get_record(id="r")["data"]
    assert record["title"] == "kept"
    assert record["attachment"]["location"] != attached["attachment"]["location"]
    assert stored() == [b"second"]


def test_a_safe_upload_creates_a_record_only_where_there_is_none(javascript, attached, stored):
    answer = javascript("""
        return await collection.addAttachment(
            dataURL("second", "a.txt"), { id: "r" }, { safe: true });
    """)

    assert answer["status"] == 412
    assert stored() == [b"first"]


def test_a_safe_upload_to_a_record_that_has_changed(javascript, client, attached, stored):
    answer = javascript("""
        const record = (await collection.getRecord("r")).data;
        await collection.updateRecord({ id: "r", title: "meanwhile" }, { patch: true });
        return await collection.addAttachment(
            dataURL("second", "a.txt"), record, { safe: true });
    """)

    assert answer["status"] == 412
    assert client.get_record(id="r")["data"]["title"] == "meanwhile"
    assert stored() == [b"first"]


def test_an_upload_that_is_not_safe_asks_for_nothing(javascript, client, attached, stored):
    javascript("""
        const record = (await collection.getRecord("r")).data;
        await collection.updateRecord({ id: "r", other: "kept" }, { patch: true });
        return await collection.addAttachment(
            dataURL("second", "a.txt"), record, { safe: false });
    """)

    assert client.get_record(id="r")["data"]["other"] == "kept"
    assert stored() == [b"second"]


@pytest.mark.parametrize("safe", ["true", "false"])
def test_the_attachment_is_removed(javascript, client, attached, stored, safe):
    javascript(f"""
        const {{ last_modified }} = (await collection.getRecord("r")).data;
        return await collection.removeAttachment("r", {{ safe: {safe}, last_modified }});
    """)

    record = client.get_record(id="r")["data"]
    assert record["attachment"] is None
    assert record["title"] == "kept"
    assert stored() == []


def test_a_stale_version_removes_nothing(javascript, client, attached, stored):
    answer = javascript("""
        const { last_modified } = (await collection.getRecord("r")).data;
        await collection.updateRecord({ id: "r", title: "meanwhile" }, { patch: true });
        return await collection.removeAttachment("r", { safe: true, last_modified });
    """)

    assert answer["status"] == 412
    assert client.get_record(id="r")["data"]["attachment"] == attached["attachment"]
    assert stored() == [b"first"]


def test_a_refusal_is_told(javascript, stored):
    answer = javascript("""
        return await collection.addAttachment(
            dataURL("second", "a.txt"), { id: "not@valid" });
    """)

    assert answer["status"] == 400
    assert "Invalid object id" in answer["message"]
    assert stored() == []
