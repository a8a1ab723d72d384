"""The site with TLS, changed as README.rst says."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.deploy.conftest import attachment
from tests.support.deploy.installation import DEPLOY
from tests.support.documents import blocks
from tests.support.servers.ports import free_port

on_the_disk = pytest.mark.parametrize("site", ["disk"], indirect=True)


@dataclass
class Secured:
    """Where nginx listens, and the certificate to trust."""

    http: str
    https: str
    certificate: Path
    webroot: Path


@pytest.fixture(scope="module")
def secured(site, tmp_path_factory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    http, https = free_port(), free_port()
    certificate, key = folder / "fullchain.pem", folder / "privkey.pem"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    site_conf = site.installation.root / "etc/nginx/conf.d/kinto.conf"
    changes = {
        site_conf.read_text(): with_tls(site_conf, folder).read_text(),
        "/etc/letsencrypt/live/kinto.example.org": str(folder),
        # What is another here.
        "kinto.example.org": "127.0.0.1",
        "/var/www/html": str(folder),
        f"listen 127.0.0.1:{site.installation.port};": f"listen 127.0.0.1:{http};",
        "listen 443 ssl;": f"listen 127.0.0.1:{https} ssl;",
        "listen [::]:443 ssl;\n": "",
        "https://$host$request_uri": f"https://$host:{https}$request_uri",
    }
    with site.installation.other_nginx(folder, changes, https):
        urls = (f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}")
        yield Secured(*urls, certificate, folder)


def with_tls(path: Path, folder: Path) -> Path:
    """A copy of a file of deploy/etc, changed by what README.rst says to type."""
    (block,) = (each.text for each in blocks(DEPLOY / "README.rst") if each.section == "TLS")
    (edit,) = re.findall(rf"^sed (?:.*\\\n)*.* (?:/\S+/{path.name})$", block, re.MULTILINE)
    copy = folder / path.name
    shutil.copy(path, copy)
    command = re.sub(rf"/\S+/{path.name}$", str(copy), edit)
    subprocess.run(["sh", "-ec", command], check=True)
    return copy


def test_files_get_their_new_location(tmp_path):
    changed = with_tls(DEPLOY / "etc/kinto/kinto.ini", tmp_path).read_text()

    assert "\nkinto.attachment.base_url = https://kinto.example.org/files/\n" in changed


@pytest.mark.parametrize("path", sorted((DEPLOY / "etc/nginx").rglob("*.conf")), ids=str)
def test_a_location_with_headers_of_its_own_has_that_of_tls_as_well(path):
    """nginx inherits none then."""
    text = re.sub(r"#.*", "", path.read_text())
    # From the innermost block outwards.
    found = []
    while block := re.search(r"\{([^{}]*)\}", text):
        found.append(block[1])
        text = text.replace(block[0], ";")
    for block in (*found, text):
        added = re.findall(r"add_header\s+(\S+)", block)
        assert not added or added.count("Strict-Transport-Security") == 1, block


@on_the_disk
def test_port_80_takes_no_password(site, secured):
    answers = [
        requests.request(method, f"{secured.http}/v1/{path}", auth=site.auth, timeout=30)
        for method, path in (("GET", ""), ("PUT", "buckets/plain"), ("POST", attachment("plain")))
    ]

    assert [answer.status_code for answer in answers] == [403] * 3
    assert {answer.text for answer in answers} == {"Use https.\n"}


@on_the_disk
def test_the_issuer_of_the_certificate_finds_what_it_asks_for(site, secured):
    path = ".well-known/acme-challenge/token"
    (secured.webroot / path).parent.mkdir(parents=True)
    (secured.webroot / path).write_text("a challenge")

    assert requests.get(f"{secured.http}/{path}", timeout=30).text == "a challenge"
    # Without TLS, it is nginx who answers, too, and not Kinto.
    assert "nginx" in requests.get(f"{site.url}/{path}", timeout=30).text


@on_the_disk
@pytest.mark.parametrize("path", ["/v1/?a=b", "/files/b/c/none.txt"])
def test_port_80_sends_to_the_other(secured, path):
    answer = requests.get(f"{secured.http}{path}", timeout=30, allow_redirects=False)

    assert (answer.status_code, answer.headers["Location"]) == (308, f"{secured.https}{path}")


@on_the_disk
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
    # Kinto's answer, and that of a location with headers of its own.
    missing = requests.get(
        f"{secured.https}/files/none", verify=str(secured.certificate), timeout=30
    )
    for each in (answer, missing):
        assert each.headers["Strict-Transport-Security"] == "max-age=31536000"
