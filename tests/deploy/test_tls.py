"""The site with TLS, changed as README.rst says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.deploy.conftest import attachment
from tests.support.servers.ports import free_port

pytestmark = pytest.mark.parametrize("site", ["disk"], indirect=True)


@dataclass
class Secured:
    """Where nginx listens, and the certificate to trust."""

    http: str
    https: str
    certificate: Path


@pytest.fixture
def secured(site, tmp_path) -> Iterator[Secured]:
    http, https = free_port(), free_port()
    certificate, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    old = site.installation.root / "etc/nginx"
    changes = {
        # What README.rst says.
        f"# include {old}/kinto/redirect.conf;": f"include {old}/kinto/redirect.conf;",
        f"    include {old}/kinto/listen-http.conf;\n": "",
        f"# include {old}/kinto/listen-https.conf;": f"include {old}/kinto/listen-https.conf;",
        "/etc/letsencrypt/live/kinto.example.org": str(tmp_path),
        # What is another here.
        "kinto.example.org": "127.0.0.1",
        f"listen 127.0.0.1:{site.installation.port};": f"listen 127.0.0.1:{http};",
        "listen 443 ssl;": f"listen 127.0.0.1:{https} ssl;",
        "listen [::]:443 ssl;\n": "",
        "https://$host$request_uri": f"https://$host:{https}$request_uri",
    }
    with site.installation.other_nginx(tmp_path, changes, https):
        yield Secured(f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}", certificate)


def test_port_80_takes_no_password(site, secured):
    answers = [
        requests.request(method, f"{secured.http}/v1/{path}", auth=site.auth, timeout=30)
        for method, path in (("GET", ""), ("PUT", "buckets/plain"), ("POST", attachment("plain")))
    ]

    assert [answer.status_code for answer in answers] == [403] * 3
    assert {answer.text for answer in answers} == {"Use https.\n"}


@pytest.mark.parametrize("path", ["/v1/?a=b", "/files/b/c/none.txt"])
def test_port_80_sends_to_the_other(secured, path):
    answer = requests.get(f"{secured.http}{path}", timeout=30, allow_redirects=False)

    assert (answer.status_code, answer.headers["Location"]) == (308, f"{secured.https}{path}")


def test_kinto_knows_that_its_clients_come_by_https(site, secured):
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Upload-Metadata": "filename YS50eHQ="}
    answer = requests.post(
        f"{secured.https}/v1/{attachment('secured')}",
        auth=site.auth,
        headers=tus,
        verify=str(secured.certificate),
        timeout=30,
    )

    assert answer.status_code == 201
    assert answer.headers["Location"].startswith(f"{secured.https}/v1/")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
