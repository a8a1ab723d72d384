"""kinto-http.py, the client for Python."""

from __future__ import annotations

import asyncio
import io
import json
from concurrent.futures import ThreadPoolExecutor

import kinto_http
import pytest
import requests
from kinto_http.exceptions import KintoException

from tests.clients.conftest import USER, live_kinto
from tests.support.servers.ports import free_port

pytestmark = pytest.mark.clients


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a picture.png"
    path.write_bytes(b"the first picture")
    return path


def test_a_file_is_attached_to_a_new_record(client, picture, stored):
    attachment = client.add_attachment(id="r", filepath=str(picture))

    record = client.get_record(id="r")["data"]
    assert record["attachment"] == attachment
    assert attachment["filename"] == "a picture.png"
    assert attachment["mimetype"] == "image/png"
    assert stored() == [b"the first picture"]


def test_data_and_permissions_come_with_it(client, picture):
    client.add_attachment(
        id="r",
        filepath=str(picture),
        data={"title": "first"},
        permissions={"read": ["system.Everyone"]},
    )

    anyone = client.clone(auth=None)
    assert anyone.get_record(id="r")["data"]["title"] == "first"


def test_a_file_without_a_media_type(client, tmp_path):
    path = tmp_path / "data.of-no-known-kind"
    path.write_bytes(b"anything")

    attachment = client.add_attachment(id="r", filepath=str(path))

    assert attachment["mimetype"] == "application/octet-stream"


def test_another_name_and_media_type(client, picture):
    attachment = client.add_attachment(
        id="r", filepath=str(picture), filename="renamed.json", mimetype="application/x-mine"
    )

    assert attachment["filename"] == "renamed.json"
    assert attachment["mimetype"] == "application/x-mine"


def test_what_is_not_a_file_on_the_disk(client, stored):
    # add_attachment() takes a path only.
    attachment, _ = client.session.request(
        "post",
        f"/buckets/{client.bucket_name}/collections/c/records/r/attachment",
        data=json.dumps({"title": "first"}),
        files=[("attachment", ("made.txt", io.BytesIO(b"made on the way")))],
    )

    assert attachment == client.get_record(id="r")["data"]["attachment"]
    assert stored() == [b"made on the way"]


def test_the_file_is_downloaded(client, picture, tmp_path):
    client.add_attachment(id="r", filepath=str(picture))
    record = client.get_record(id="r")["data"]

    path = client.download_attachment(record, filepath=str(tmp_path / "downloaded"))

    assert (tmp_path / "downloaded").read_bytes() == b"the first picture"
    assert path == str(tmp_path / "downloaded")


def test_the_file_is_replaced(client, picture, stored):
    before = client.add_attachment(id="r", filepath=str(picture), data={"title": "kept"})
    picture.write_bytes(b"the second picture")

    after = client.add_attachment(id="r", filepath=str(picture))

    assert after["location"] != before["location"]
    assert client.get_record(id="r")["data"]["title"] == "kept"
    assert stored() == [b"the second picture"]


def test_a_record_is_updated_with_all_that_it_has(client, picture, stored):
    client.add_attachment(id="r", filepath=str(picture))
    record = client.get_record(id="r")["data"]

    client.update_record(data={**record, "title": "new"})

    assert client.get_record(id="r")["data"]["attachment"] == record["attachment"]
    assert stored() == [b"the first picture"]


def test_the_attachment_is_removed(client, picture, stored):
    client.add_attachment(id="r", filepath=str(picture), data={"title": "kept"})

    assert client.remove_attachment(id="r") is None

    record = client.get_record(id="r")["data"]
    assert record["attachment"] is None
    assert record["title"] == "kept"
    assert stored() == []


def test_the_file_goes_with_the_record(client, picture, stored):
    client.add_attachment(id="r", filepath=str(picture))

    client.delete_record(id="r")

    assert stored() == []


def test_records_are_deleted_and_copied_in_a_batch(client, picture, stored):
    client.add_attachment(id="r", filepath=str(picture))
    record = client.get_record(id="r")["data"]

    with client.batch() as batch:
        batch.create_record(id="copy", data={"attachment": record["attachment"]})
        batch.delete_record(id="r")

    assert client.get_record(id="copy")["data"]["attachment"] == record["attachment"]
    assert stored() == [b"the first picture"]


def test_a_stranger_is_told_so(client, picture, stored):
    stranger = client.clone(auth=("bob", "secret"))

    with pytest.raises(KintoException) as refused:
        stranger.add_attachment(id="r", filepath=str(picture))

    assert refused.value.response.status_code == 403
    assert stored() == []


def test_the_client_that_does_not_block(client, picture):
    asynchronous = kinto_http.AsyncClient(
        server_url=client.session.server_url,
        bucket=client.bucket_name,
        collection="c",
        auth=USER,
    )

    async def story():
        attachment = await asynchronous.add_attachment(id="r", filepath=str(picture))
        await asynchronous.remove_attachment(id="r")
        return attachment

    # In this thread, the browser's event loop may run.
    with ThreadPoolExecutor() as pool:
        attachment = pool.submit(asyncio.run, story()).result()
    assert attachment["filename"] == "a picture.png"
    assert client.get_record(id="r")["data"]["attachment"] is None


class TestPrivateFiles:
    """``download_attachment()`` joins the location to the server's base URL, and sends no
    credentials but those of ``.netrc``."""

    @pytest.fixture
    def draft(self, drafts, picture):
        drafts.add_attachment(id="r", filepath=str(picture))
        return drafts.get_record(id="r")["data"]

    @pytest.fixture
    def netrc(self, tmp_path, monkeypatch):
        path = tmp_path / "netrc"
        path.write_text("machine 127.0.0.1 login alice password secret\n")
        monkeypatch.setenv("NETRC", str(path))

    def test_they_are_downloaded_with_the_password_of_netrc(self, drafts, draft, netrc, tmp_path):
        drafts.download_attachment(draft, filepath=str(tmp_path / "downloaded"))

        assert "/_private/" in draft["attachment"]["location"]
        assert (tmp_path / "downloaded").read_bytes() == b"the first picture"

    def test_without_it_they_are_refused(self, drafts, draft, tmp_path):
        with pytest.raises(requests.HTTPError, match="401"):
            drafts.download_attachment(draft, filepath=str(tmp_path / "downloaded"))

    def test_relative_locations_are_below_the_announced_base_url(self, picture, netrc, tmp_path):
        port = free_port()
        relative = {
            "kinto.attachment.base_url": "",
            "kinto.attachment.serve_files": "false",
            "kinto.attachment.extra.base_url": f"http://127.0.0.1:{port}/v1/attachments/",
        }
        with live_kinto(tmp_path / "files", port=port, **relative) as server:
            drafts = kinto_http.Client(
                server_url=server.url, bucket="drafts", collection="c", auth=USER
            )
            drafts.create_bucket()
            drafts.create_collection()
            drafts.add_attachment(id="r", filepath=str(picture))
            record = drafts.get_record(id="r")["data"]

            drafts.download_attachment(record, filepath=str(tmp_path / "downloaded"))

        assert record["attachment"]["location"].startswith("_private/")
        assert (tmp_path / "downloaded").read_bytes() == b"the first picture"

    def test_a_link_needs_no_credentials(self, drafts, draft):
        endpoint = f"{drafts.get_endpoint('record', id='r')}/attachment/link"
        link, _ = drafts.session.request("post", endpoint)

        assert requests.get(link["url"], timeout=30).content == b"the first picture"
