"""Uploads through nginx to two nodes."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack

import pytest
import requests

from tests.deploy.conftest import MIB, Body, answer_on, attachment


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
        for number in range(8):
            stack.enter_context(site.start_upload(2 * MIB, f"parallel-{number}"))
        refused = site.upload(Body(1), "parallel")
        answer = site.request("GET", "buckets/b/collections/c")

    assert (refused.status_code, refused.json()["errno"]) == (503, 201)
    assert refused.headers["Retry-After"] == "10"
    assert answer.status_code == 200
