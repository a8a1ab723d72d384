"""Private files through nginx, which sends them in Kinto's place: from the disk (``accel``), or by
a presigned URL from S3 (``redirect``)."""

from __future__ import annotations

import hashlib
import http.client
import re
import runpy
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, unquote, urlsplit

import pytest
import requests

from tests.deploy.conftest import MIB, attachment
from tests.support.deploy.installation import DEPLOY
from tests.support.servers.ports import free_port

on_the_disk = pytest.mark.parametrize("site", ["disk"], indirect=True)
on_s3 = pytest.mark.parametrize("site", ["s3"], indirect=True)

CONTENT = b"%16x: for those alone who may read the record" % 0xC0FFEE
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ENDPOINT = attachment("secret", "drafts")
FOREIGN = {"Origin": "https://example.org"}

# What a stranger may try, for the file NAME of the private store.
PATHS = """
    /files/_private/NAME  /files/NAME  /files/private/NAME  /private/NAME  /NAME  /_private/NAME
    /files/%5fprivate/NAME  /files/_private%2fNAME  /files%2f_private/NAME  /files/_PRIVATE/NAME
    /FILES/_private/NAME  //files//_private//NAME  /files/./_private/NAME
    /files/x/../_private/NAME  /files/_private/NAME/  /files/_private/NAME?download
    /files/_private/NAME%00.png  /files/_private/NAME%20  /files/_private/./NAME
    /files/_private/_private/NAME  /files../private/NAME  /files..%2fprivate/NAME
    /files/../private/NAME  /files/..%2fprivate/NAME  /files/%2e%2e/private/NAME
    /files/%2e%2e%2fprivate%2fNAME  /files/.%2e/private/NAME  /files/%252e%252e/private/NAME
    /files/%c0%ae%c0%ae/private/NAME  /files/..%5cprivate%5cNAME  /files/..;/private/NAME
    /files/_private/../private/NAME  /files/_private../private/NAME
    /files/_private/../../private/NAME  /files/_private/..%2f..%2fprivate/NAME
    /internal-files/private/NAME  /internal-files/private/_private/NAME  /internal-files/NAME
    //internal-files/private/NAME  /internal-files//private//NAME  /%69nternal-files/private/NAME
    /internal-files%2fprivate%2fNAME  /files/../internal-files/private/NAME
    /internal-files/public/../private/NAME  /internal-files/public/%2e%2e/private/NAME
    /internal-files/public../private/NAME  /internal-files/private../private/NAME
    /internal-files/public/_private/NAME  /INTERNAL-FILES/private/NAME
    /v1/attachments/_private/NAME  /v1/attachments/NAME  /v1/attachments/%5fprivate/NAME
    /v1/attachments//_private/NAME  /v1/attachments/_private%2fNAME
    /v1/attachments/~/_private/NAME  /v1/attachments/~0.v.x/_private/NAME
    /v1/attachments/~9999999999.v.AAAA/_private/NAME
    /v1/attachments/../../internal-files/private/NAME  /v1/%2e%2e/internal-files/private/NAME
    /v1/attachments/..%2f..%2finternal-files/private/NAME  /v1/files/_private/NAME  /v1/ENDPOINT
    /v1/ENDPOINT/  /v1/ENDPOINT?download  /v1//ENDPOINT  /v1/ENDPOINT/link
    /presigned/attachments-private/NAME  /presigned/attachments-private/NAME?X-Amz-Signature=0
    /presigned/attachments/../attachments-private/NAME?X-Amz-Signature=0
    /presigned/attachments/%2e%2e/attachments-private/NAME?X-Amz-Signature=0
    /attachments-private/NAME  /files/../attachments-private/NAME
    /files/..%2fattachments-private/NAME  /files/%252e%252e/attachments-private/NAME
    /files/..%252fattachments-private/NAME  /files-private/NAME  /filesattachments-private/NAME
    /files/-private/NAME  http://kinto/internal-files/private/NAME
    http://127.0.0.1/files/_private/NAME
""".split()  # noqa: SIM905
# Of a client that wants to be taken for somebody else.
TRICKS = [
    {},
    {"Range": "bytes=0-15"},
    {"If-Match": "*"},
    {"If-None-Match": f'"{SHA256}"'},
    {"X-Accel-Redirect": "/internal-files/private/NAME"},
    {"X-Original-URL": "/internal-files/private/NAME"},
    {"X-Rewrite-URL": "/internal-files/private/NAME"},
    {"X-HTTP-Method-Override": "HEAD"},
    {"Host": "kinto"},
    {"Host": "127.0.0.1:8333"},
    {"Host": "../private"},
    {"Authorization": "Basic Og=="},
    {"Authorization": f"Basic {b64encode(b'stranger:secret').decode()}"},
    {"X-Forwarded-For": "127.0.0.1", "X-Test-Client": "127.0.0.1"},
]


@pytest.fixture(scope="module")
def location(site):
    """Of a private file, which is ``secret.png`` of the record ``secret``."""
    location = site.attach(CONTENT, "secret.png", "secret", "drafts")
    assert location.startswith(f"{site.url}/files/_private/b/drafts/")
    return location


@pytest.fixture
def linked(site, location):
    answer = site.request("POST", f"{ENDPOINT}/link")
    answer.raise_for_status()
    return answer.json()["url"]


def read(site, **headers: str) -> requests.Response:
    return site.request(
        "GET", ENDPOINT, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def ask(connection: http.client.HTTPConnection, method: str, path: str, headers) -> tuple:
    """Ask without making the path any better."""
    connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    return response.status, str(response.headers).encode() + response.read()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_stranger_finds_no_path_to_a_private_file(site, location, method):
    encoded = urlsplit(location).path.removeprefix("/files/_private/")
    every = "".join(f"%{byte:02x}" for byte in unquote(encoded).encode())
    leaks = []
    connection = http.client.HTTPConnection("127.0.0.1", site.installation.port, timeout=30)
    tries = [(path, name, {}) for path in PATHS for name in (encoded, quote(encoded), every)]
    tries += [(path, encoded, trick) for path in PATHS[::9] for trick in TRICKS]
    tries += [(f"/v1/{ENDPOINT}", encoded, trick) for trick in TRICKS]
    for path, name, trick in tries:
        path = path.replace("NAME", name).replace("ENDPOINT", ENDPOINT)
        headers = {key: value.replace("NAME", name) for key, value in trick.items()}
        status, answer = ask(connection, method, path, headers)
        shown = [what for what in (CONTENT[:16], SHA256.encode(), b"secret.png") if what in answer]
        if shown or status in (200, 206, 304) or status >= 500:
            leaks.append((path, headers, status, shown))
    connection.close()

    assert leaks == []
    assert read(site).content == CONTENT


@on_s3
def test_a_stranger_who_reaches_the_store_gets_nothing(site, location):
    store = site.installation.store_url
    key = urlsplit(location).path.removeprefix("/files/_private/")
    private = f"attachments-private/{key}"
    paths = [private, "attachments-private", "attachments-private?list-type=2"]
    paths += [f"attachments/{key}", f"attachments/_private/{key}", f"attachments/%2e%2e/{private}"]
    answers = [requests.get(f"{store}/{path}", timeout=30) for path in paths]

    assert {answer.status_code for answer in answers} <= {400, 403, 404}


@on_the_disk
def test_a_private_upload_in_flight_cannot_be_read(site, linked):
    folder = site.installation.private_files
    with site.start_upload(2 * MIB, "in-flight", collection="drafts"):
        deadline = time.monotonic() + 30
        while not (parts := list(folder.glob(".*.part"))):
            assert time.monotonic() < deadline, "no upload has begun"
            time.sleep(0.02)
        token = linked.split("/_private/")[0]
        answers = [
            requests.get(f"{url}/{part.name}", auth=auth, timeout=30)
            for part in parts
            for url in (
                *(f"{site.url}/{path}" for path in ("files/_private", "internal-files/private")),
                f"{token}/_private",
            )
            for auth in (None, site.auth)
        ]

    assert {answer.status_code for answer in answers} <= {401, 403, 404}


def test_the_file_comes_with_kintos_headers(site, location):
    answer, from_kinto = read(site, **FOREIGN), site.request("HEAD", ENDPOINT, headers=FOREIGN)
    headers = answer.headers

    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert headers["Content-Type"] == "image/png"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].endswith("; sandbox")
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["CDN-Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Disposition"].startswith('inline; filename="secret.png"')
    assert headers["Accept-Ranges"] == "bytes"
    assert answer.raw.headers.getlist("Access-Control-Allow-Origin") == ["*"]
    assert "Content-Range" in headers["Access-Control-Expose-Headers"]
    if not site.installation.on_s3:
        # In another order.
        changing = ("Access-Control-Expose-Headers", "Date")
        one, other = (
            {k: v for k, v in each.headers.items() if k not in changing}
            for each in (answer, from_kinto)
        )
        assert one == other
        assert headers["ETag"] == f'"{SHA256}"'
        assert headers["Vary"] == "Authorization"
    assert headers["Cache-Control"] == (
        "private, no-store" if site.installation.on_s3 else "private, no-cache"
    )


@on_the_disk
def test_a_public_file_comes_by_the_record_too(site):
    location = site.attach(b"for all", "public.txt", "public")
    answer = site.request("GET", attachment("public"))

    assert (answer.status_code, answer.content) == (200, b"for all")
    assert answer.headers["Content-Disposition"].startswith("inline; ")
    assert answer.headers["ETag"].strip('"') == hashlib.sha256(b"for all").hexdigest()
    # By its name, nginx sends it, and Kinto is not asked.
    by_name = requests.get(location.replace("/files/", "/v1/attachments/"), timeout=30)
    assert by_name.status_code == 404


def test_conditions_hold(site, location):
    etag, modified = f'"{SHA256}"', site.request("HEAD", ENDPOINT).headers["Last-Modified"]
    early, late = "Thu, 01 Jan 2015 00:00:00 GMT", "Thu, 01 Jan 2099 00:00:00 GMT"

    def statuses(name: str, *values: str) -> list[int]:
        return [read(site, **{name: value}).status_code for value in values]

    assert statuses("If-None-Match", etag, f"W/{etag}", "*", '"x"') == [304, 304, 304, 200]
    assert statuses("If-Modified-Since", modified, late, early, "x") == [304, 304, 200, 200]
    assert statuses("If-Match", etag, "*", '"x"') == [200, 200, 412]
    assert statuses("If-Unmodified-Since", modified, late, early) == [200, 200, 412]
    answer = read(site, If_None_Match='"x"', If_Modified_Since=modified)
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_a_part_is_read(site, location):
    modified = site.request("HEAD", ENDPOINT).headers["Last-Modified"]
    part = (206, CONTENT[2:9], f"bytes 2-8/{len(CONTENT)}")
    whole = (200, CONTENT, None)

    def answer(**headers: str) -> tuple[int, bytes, str | None]:
        answer = read(site, Range="bytes=2-8", **headers)
        return answer.status_code, answer.content, answer.headers.get("Content-Range")

    assert answer() == part
    assert answer(If_Range=f'"{SHA256}"') == answer(If_Range=modified) == part
    assert answer(If_Range='"x"') == answer(If_Range="Thu, 01 Jan 2015 00:00:00 GMT") == whole
    assert answer(If_Match=f'"{SHA256}"') == part


@pytest.mark.parametrize("asked", ["bytes=900-", "bytes=-0", "bytes=900-,1000-"])
def test_what_is_beyond_the_end_is_told_in_kintos_words(site, location, asked):
    answer = read(site, Range=asked)
    if answer.status_code == 200:  # of several ranges
        assert answer.content == CONTENT
        return

    assert (answer.status_code, answer.json()["errno"]) == (416, 107)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


def test_by_name_and_by_a_link_it_is_the_same_file(site, location, linked):
    named = requests.get(location, auth=site.auth, timeout=30)
    by_link = requests.get(linked, timeout=30)

    assert named.content == by_link.content == CONTENT
    assert requests.get(location, timeout=30).status_code == 401
    assert requests.get(f"{linked}x", timeout=30).status_code == 403


def test_who_may_read_the_record_no_more_may_not_read_its_file(site, location):
    def allow(*readers: str) -> None:
        permissions = {"permissions": {"read": list(readers)}}
        record = ENDPOINT.removesuffix("/attachment")
        site.request("PATCH", record, json=permissions).raise_for_status()

    allow("system.Everyone")
    allowed = requests.get(location, timeout=30)
    allow()

    assert (allowed.status_code, allowed.content) == (200, CONTENT)
    assert requests.get(location, timeout=30).status_code == 401


def test_nothing_in_a_log_lets_others_read(site, location, linked):
    token, name = re.fullmatch(rf"{site.url}/v1/attachments/~([^/]+)/(.+)", linked).groups()
    spelled = ["/v1/attachments/~", "/v1/attachments/%7e", "/v1/attachments%2F~"]
    spelled += ["/v1/attachments%2f%7E", "//v1/attachments/~", "/v1/%61ttachments/~"]
    spelled += ["/v1/./attachments/~", "/v1/x/../attachments//~", "/v1/~/../attachments/~"]
    connection = http.client.HTTPConnection("127.0.0.1", site.installation.port, timeout=30)
    for path in (f"{start}{token}" for start in spelled):
        for rest in (f"/{name}", f"/{name}x", f"%2f{name}", "", "?x=%FF", f"/{name}?x=%FF"):
            ask(connection, "GET", path + rest, {"If-Match": "*"})
    ask(connection, "GET", "/v1/", {"Referer": linked})
    connection.close()
    with requests.get(linked, timeout=30) as answer:
        signed = [urlsplit(each.url).query for each in (*answer.history, answer)]
    # nginx has written them all: "//v1/" was the last but one with this path.
    site.installation.served(f"/v1/attachments/~.../{name}?x=%FF", 2)

    logs = [site.installation.access_log, site.installation.nginx_log]
    logs += [site.installation.node(port).log.read_text() for port in site.installation.nodes]
    signatures = re.findall("Signature=([^&]+)", "&".join(signed))
    assert len(signatures) == site.installation.on_s3
    lines = "\n".join(logs).splitlines()
    secrets = (token, token.rpartition(".")[2], *signatures)
    assert [line for line in lines if any(secret in line for secret in secrets)] == []


def test_gunicorns_own_log_has_no_token():
    class Unreader:
        def chunk(self) -> bytes:
            return b""

    configuration = runpy.run_path(str(DEPLOY / "etc/kinto/gunicorn.conf.py"))
    uris = ["/v1/attachments/~1.v.x/_private/a?b", "/v1/attachments%2F%7e1.v.x/_private/a?b"]
    logged = []
    for uri in uris:
        request = SimpleNamespace(uri=uri, unreader=Unreader())
        configuration["pre_request"](None, request)
        logged.append(request.uri)

    assert logged == ["/v1/attachments/~.../_private/a?b", "/v1/attachments%2F~.../_private/a?b"]


@on_the_disk
def test_a_name_is_decoded_once(site, tmp_path):
    name = "100%25 été/a+b;c&d?e #.png"

    class Kinto(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("X-Accel-Redirect", self.path.removeprefix("/v1/attachments"))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    kinto, port = HTTPServer(("127.0.0.1", 0), Kinto), free_port()
    threading.Thread(target=kinto.serve_forever, args=(0.01,), daemon=True).start()
    changes = {
        f"listen 127.0.0.1:{site.installation.port};": f"listen 127.0.0.1:{port};",
        **{
            f"server 127.0.0.1:{node} ": f"server 127.0.0.1:{kinto.server_port} "
            for node in site.installation.nodes
        },
        str(site.installation.private_files): str(tmp_path / "private"),
    }
    for stored in (name, ".0.part", "b/.0.part"):
        (tmp_path / "private" / stored).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "private" / stored).write_text("the file")

    def get(name: str) -> requests.Response:
        path = f"v1/attachments/internal-files/private/{name}"
        return requests.get(f"http://127.0.0.1:{port}/{path}", timeout=30)

    with site.installation.other_nginx(tmp_path, changes, port):
        found = get(quote(name))
        statuses = [get(hidden).status_code for hidden in (".0.part", "b/.0.part", "b/%2e0.part")]
    kinto.shutdown()
    kinto.server_close()

    assert (found.status_code, found.text) == (200, "the file")
    assert statuses == [404, 404, 404]


@pytest.fixture
def misled(site, tmp_path) -> Iterator[tuple[str, Path]]:
    """The URL of another nginx, and its folder: ``elsewhere`` in it has the files, as nginx
    believes. One node does not answer."""
    port, dead = free_port(), free_port()
    changes = {
        f"listen 127.0.0.1:{site.installation.port};": f"listen 127.0.0.1:{port};",
        f"server 127.0.0.1:{site.installation.nodes[1]} ": f"server 127.0.0.1:{dead} ",
        str(site.installation.private_files): str(tmp_path / "elsewhere"),
        str(site.installation.root / "var/log"): str(tmp_path),
    }
    (tmp_path / "elsewhere").mkdir()
    with site.installation.other_nginx(tmp_path, changes, port):
        yield f"http://127.0.0.1:{port}", tmp_path


@on_the_disk
def test_nginx_follows_no_symlink_and_logs_no_token(site, location, linked, misled):
    url, folder = misled
    link = linked.replace(site.url, url)
    path = folder / "elsewhere" / unquote(urlsplit(location).path.removeprefix("/files/_private/"))

    def answers() -> set[tuple[int, int, str]]:
        found = [requests.get(link, timeout=30) for _ in range(4)]
        return {
            (each.status_code, each.json()["errno"], each.headers["Content-Type"])
            for each in found
        }

    # It is not there; and then it leads to another file.
    assert answers() == {(404, 111, "application/json")}
    path.parent.mkdir(parents=True)
    path.symlink_to(__file__)
    assert answers() == {(503, 201, "application/json")}
    path.unlink()
    path.parent.rmdir()
    real = site.installation.private_files / path.parent.relative_to(folder / "elsewhere")
    assert (real / path.name).read_bytes() == CONTENT
    path.parent.symlink_to(real)
    assert answers() == {(404, 111, "application/json")}
    token = link.split("~")[1].split("/")[0]
    assert not any(token in log.read_text() for log in folder.rglob("*.log"))


def test_one_internal_location_has_the_private_folder():
    """``deploy/``: what other locations serve cannot include it."""
    settings = (DEPLOY / "etc/kinto/kinto.ini").read_text()
    folder = re.search(r"^kinto.attachment.private.base_path = (.+)$", settings, re.MULTILINE)[1]
    configuration = "".join(path.read_text() for path in (DEPLOY / "etc/nginx").rglob("*.conf"))
    roots = re.findall(r"^ *(root|alias) (\S+);", configuration, re.MULTILINE)
    over = [
        (kind, root) for kind, root in roots if f"{folder}/".startswith(f"{root.rstrip('/')}/")
    ]

    # A root has its location's name behind it.
    assert over == [("root", "/var/lib/kinto"), ("alias", f"{folder}/")]
    assert "location /files/ {\n    root /var/lib/kinto;" in configuration
    internal = f"internal;\n    alias {folder}/;"
    assert f"location ^~ /internal-files/private/ {{\n    {internal}" in configuration
    made = (DEPLOY / "etc/tmpfiles.d/kinto-attachment.conf").read_text()
    assert f"\nd {folder} 0750 kinto www-data\n" in made
