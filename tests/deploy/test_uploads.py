"""Uploads through nginx to two nodes."""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from contextlib import ExitStack, suppress
from select import select

import pytest
import requests

from tests.deploy.conftest import MIB, Body, answer_on, attachment

on_the_disk = pytest.mark.parametrize("site", ["disk"], indirect=True)


def sha256(size: int) -> str:
    digest = hashlib.sha256()
    for number in range(size):
        digest.update(number.to_bytes(8, "big") * (MIB // 8))
    return digest.hexdigest()


def test_a_large_file_is_replaced_by_the_other_node(site):
    first = site.upload(Body(100), "large")
    second = site.upload(Body(99), "large")

    assert (first.status_code, second.status_code) == (201, 200)
    lines = site.installation.served(attachment("large"), 2)
    nodes = {f"127.0.0.1:{port}" for port in site.installation.nodes}
    assert {line["node"] for line in lines} == nodes
    assert first.json()["hash"] == sha256(100)
    assert requests.get(first.json()["location"], timeout=60).status_code == 404
    with requests.get(second.json()["location"], timeout=60, stream=True) as download:
        digest = hashlib.sha256()
        for chunk in download.iter_content(MIB):
            digest.update(chunk)
    assert digest.hexdigest() == second.json()["hash"] == sha256(99)
    assert "buffered to a temporary file" not in site.installation.nginx_log


def test_a_body_of_unknown_length_goes_through(site):
    answer = site.upload(iter(Body(3)), "unknown-length")

    assert (answer.status_code, answer.json()["size"]) == (201, 3 * MIB)


def test_a_resumable_upload_goes_on_at_the_other_node(site):
    tus = {"Tus-Resumable": "1.0.0"}
    filename = b64encode(b"resumed.txt").decode()
    created = site.request(
        "POST",
        attachment("resumed"),
        headers={
            **tus,
            "Upload-Length": str(2 * MIB),
            "Upload-Metadata": f"filename {filename}",
        },
    )
    path = created.headers["Location"].removeprefix(f"{site.url}/v1/")
    sent = [
        site.request(
            "PATCH",
            path,
            data=bytes([offset]) * MIB,
            headers={
                **tus,
                "Upload-Offset": str(offset * MIB),
                "Content-Type": "application/offset+octet-stream",
            },
        )
        for offset in (0, 1)
    ]
    record = site.request("GET", attachment("resumed").removesuffix("/attachment")).json()

    assert (created.status_code, [answer.status_code for answer in sent]) == (201, [204, 204])
    assert len({line["node"] for line in site.installation.served(path, 2)}) == 2
    content = requests.get(record["data"]["attachment"]["location"], timeout=60).content
    assert content == bytes(MIB) + b"\1" * MIB


def test_who_may_not_upload_is_told_so_while_the_body_is_on_its_way(site):
    answers = [site.upload(Body(30), auth=None) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [401] * 5
    assert {answer.json()["errno"] for answer in answers} == {104}


def test_who_may_not_upload_is_told_so_before_the_body_has_come(site):
    site.auth, admin = ("mallory", "secret"), site.auth
    try:
        with site.start_upload(100 * MIB) as connection:
            status, _, _ = answer_on(connection)
    finally:
        site.auth = admin

    assert status == 401


@pytest.mark.parametrize(
    ("size", "node"), [(2_000_100_000, "kinto"), (2200 * MIB, "nginx")], ids=["kinto", "nginx"]
)
def test_a_file_that_is_too_large_is_refused_at_once(site, size, node):
    with site.start_upload(size, f"large-for-{node}") as connection:
        status, headers, body = answer_on(connection)

    assert status == 413
    assert b'"errno":113' in body.replace(b" ", b"")
    assert headers["Content-Type"].startswith("application/json")
    assert headers["Access-Control-Allow-Origin"] == "*"
    (line,) = site.installation.served(attachment(f"large-for-{node}"))
    assert bool(line["node"]) == (node == "kinto")


def test_what_is_no_upload_may_not_be_as_large(site):
    answer = site.request("PUT", "buckets/b/collections/c", data=b"{}" + b" " * (11 * MIB))

    assert (answer.status_code, answer.json()["errno"]) == (413, 113)


def test_one_client_cannot_take_all_threads(site):
    with ExitStack() as stack:
        for number in range(6):
            stack.enter_context(site.start_upload(2 * MIB, f"parallel-{number}"))
        refused = site.upload(Body(1), "parallel")
        answer = site.request("GET", "buckets/b/collections/c")

    assert (refused.status_code, refused.json()["errno"]) == (503, 201)
    assert refused.headers["Retry-After"] == "10"
    assert answer.status_code == 200


def test_a_network_of_ipv6_is_one_client(site):
    with ExitStack() as stack:
        for number in range(6):
            client = f"2001:db8:0:1:{number}::{number:x}"
            stack.enter_context(site.start_upload(2 * MIB, f"v6-{number}", client))
        statuses = [
            site.upload(Body(1), "v6", client=client).status_code
            for client in ("2001:db8:0:1::ff", "2001:db8:0:2::1", "2001:db8::1", "192.0.2.1")
        ]

    assert [503, *statuses[1:]] == statuses
    assert {*statuses[1:]} <= {200, 201}


@on_the_disk
def test_strangers_do_not_stop_uploads(site):
    with ExitStack() as stack:
        site.auth, admin = ("mallory", "secret"), site.auth
        # As many as are let through, of several clients; all are refused, and go on sending.
        strangers = [
            stack.enter_context(
                site.start_upload(100 * MIB, "r", f"192.0.2.{number % 4}", first=1)
            )
            for number in range(24)
        ]
        site.auth = admin
        deadline = time.monotonic() + 8
        while (status := site.upload(Body(1), "after-strangers").status_code) == 503:
            assert time.monotonic() < deadline
            for connection in strangers:
                with suppress(OSError):
                    connection.sendall(b"x")
            time.sleep(0.3)

    assert status == 201


@on_the_disk
def test_a_client_that_sends_a_byte_now_and_then_loses_its_thread(site):
    with site.start_upload(MIB, "slow", first=1) as connection:
        started = time.monotonic()
        with suppress(OSError):
            while not select([connection], [], [], 0.5)[0]:
                connection.sendall(b"x")
                assert time.monotonic() < started + 20
        status, _, body = answer_on(connection)

    assert status == 400, body


@on_the_disk
@pytest.mark.parametrize("method", ["OPTIONS", "POST"])
def test_a_slash_at_the_end_of_the_endpoint_is_no_redirect(site, method):
    filename = b64encode(b"slash.txt").decode()
    answer = site.request(
        method,
        f"{attachment('slash')}/",
        headers={
            "Origin": "https://example.org",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,tus-resumable",
            "Tus-Resumable": "1.0.0",
            "Upload-Length": "3",
            "Upload-Metadata": f"filename {filename}",
        },
        allow_redirects=False,
    )

    assert answer.status_code == {"OPTIONS": 200, "POST": 201}[method], answer.text
    assert answer.headers["Access-Control-Allow-Origin"] in ("*", "https://example.org")
