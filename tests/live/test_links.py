"""Links, on their way through a live server."""

from __future__ import annotations

import pytest
import requests

from tests.support.forms import CONTENT_TYPE, file_part, form
from tests.support.live.waiting import wait_for

ALICE = ("alice", "secret")


@pytest.mark.parametrize("backend", ["memory"])
@pytest.mark.parametrize("server", ["gunicorn", "waitress"])
def test_no_log_of_a_server_has_a_link(live_kinto, tmp_path, server):
    access_log = tmp_path / "access.log"
    kinto = live_kinto(
        server,
        attachment={"private": "true", "private.base_path": str(tmp_path / "private")},
        environ={"GUNICORN_CMD_ARGS": f"--access-logfile {access_log}"},
    )
    record = f"{kinto.url}buckets/b/collections/c/records/r"
    for url in (kinto.url + "buckets/b", record.partition("/records")[0]):
        requests.put(url, auth=ALICE, timeout=30).raise_for_status()
    body = form([file_part(b"content", "a.txt")])
    headers = {"Content-Type": CONTENT_TYPE}
    requests.post(
        f"{record}/attachment", body, headers=headers, auth=ALICE, timeout=30
    ).raise_for_status()
    made = requests.post(f"{record}/attachment/link", json={}, auth=ALICE, timeout=30)
    assert made.status_code == 201
    link = made.json()["url"]

    statuses = [
        requests.get(url, timeout=30).status_code
        for url in (
            link,
            f"{link}?download",
            f"{link}?x=%FF",
            link.replace("/~", "/%7E"),
            f"{link}x",
            link.rpartition("/")[0],
        )
    ]

    assert statuses == [200, 200, 400, 200, 403, 403]
    logged = ""
    if server == "gunicorn":
        # The last line comes after the answer.
        wait_for(lambda: access_log.read_text().count("/v1/attachments/_private") == 6)
        logged = access_log.read_text()
    logged += kinto.log.read_text()
    assert "attachments" in logged
    token = link.partition("/~")[2].partition("/")[0]
    assert token not in logged
    assert token.rpartition(".")[2] not in logged
