"""Resumable uploads: tus-js-client in Node.js, and Uppy in Chromium on another origin's page."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import expect

from tests.clients.conftest import USER
from tests.support.clients.downloads import NODE
from tests.support.clients.store import Store
from tests.support.live import leases
from tests.support.servers.kinto import LiveKinto

pytestmark = pytest.mark.clients

TUS_JS_CLIENT = "4.3.1"
UPPY = "5.2.4"

MIB = 1024 * 1024
SIZE = 24 * MIB
CHUNK = 5 * MIB
# Where each chunk ends.
OFFSETS = [5 * MIB, 10 * MIB, 15 * MIB, 20 * MIB, SIZE]

AUTHORIZATION = "Basic " + base64.b64encode(":".join(USER).encode()).decode()
COLLECTION = "buckets/b/collections/c"
RECORD = f"{COLLECTION}/records/r"

in_memory = pytest.mark.parametrize("backend", ["memory"], indirect=True)
in_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
local_and_s3 = pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
local = pytest.mark.parametrize("store", ["local"], indirect=True)

HERE = Path(__file__).parent


@pytest.fixture
def store(request: pytest.FixtureRequest, files: Path) -> Iterator[Store]:
    if request.param == "local":
        yield Store(files, None)
    else:
        seaweedfs = request.getfixturevalue("seaweedfs")
        yield Store(files, seaweedfs)
        seaweedfs.empty()


@pytest.fixture
def start_kinto(live_kinto: Callable[..., LiveKinto], store: Store) -> Callable[..., LiveKinto]:
    """``start_kinto(port=None)``: a Kinto in gunicorn that has the files in ``store``."""
    settings = {"kinto.includes": leases.INCLUDES}
    return functools.partial(live_kinto, "gunicorn", attachment=store.settings, settings=settings)


@pytest.fixture
def kinto(start_kinto: Callable[..., LiveKinto]) -> LiveKinto:
    """A Kinto with the collection of the record."""
    server = start_kinto()
    for path in ("buckets/b", COLLECTION):
        headers = {"Authorization": AUTHORIZATION}
        assert requests.put(server.url + path, json={}, headers=headers, timeout=60).ok
    return server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The file to upload."""
    path = tmp_path / "film.mp4"
    path.write_bytes(random.Random(24).randbytes(SIZE))  # noqa: S311
    return path


@pytest.fixture
def tus_options(kinto: LiveKinto) -> dict[str, Any]:
    return {
        "endpoint": f"{kinto.url}{RECORD}/attachment",
        "headers": {"Authorization": AUTHORIZATION},
        "chunkSize": CHUNK,
        # A minute, for a server that starts again.
        "retryDelays": [0] + [100] * 600,
    }


@pytest.fixture
def start_upload(
    downloads: Any, tus_options: dict[str, Any], source: Path, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``start_upload(options={}, resume=True, piped=True, abortAt=offset, haltAt=offset)`` starts
    Node.js with tus-js-client, which remembers its uploads from one run to the next."""
    package = downloads.npm_with_dependencies("tus-js-client", TUS_JS_CLIENT)
    context = {
        "client": str(package),
        "path": str(source),
        "storage": str(tmp_path / "uploads.json"),
    }
    metadata = {"filename": source.name, "filetype": "video/mp4", "data": '{"title": "new"}'}
    started = []

    def start(options: Any = None, **more: Any) -> subprocess.Popen[str]:
        merged = {**tus_options, "metadata": metadata, **(options or {})}
        arguments = json.dumps({**context, "options": merged, **more})
        process = subprocess.Popen(
            [NODE, HERE / "tus_upload.js", arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end_of(process: subprocess.Popen[str]) -> Any:
    """What the script tells when it is done: the URL of the upload and the answers it got."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def check_attachment(kinto: LiveKinto, store: Store, source: Path) -> dict[str, Any]:
    """The record has the file, and nothing else is left of the upload. Returns the record."""
    headers = {"Authorization": AUTHORIZATION}
    answer = requests.get(kinto.url + RECORD, headers=headers, timeout=60)
    record: dict[str, Any] = answer.json()["data"]
    content = source.read_bytes()
    assert record["attachment"]["hash"] == hashlib.sha256(content).hexdigest()
    assert record["attachment"]["size"] == SIZE
    assert record["attachment"]["filename"] == source.name
    assert record["attachment"]["mimetype"] == "video/mp4"
    # Not compared as a whole: pytest would print them.
    assert [hashlib.sha256(stored).hexdigest() for stored in store.files()] == [
        record["attachment"]["hash"]
    ]
    return record


@in_memory
@local_and_s3
def test_a_file_is_sent_in_chunks(start_upload, kinto, store, source):
    answers = end_of(start_upload())["answers"]

    assert answers[0][:2] == ["POST", 201]
    assert answers[1:] == [["PATCH", 204, offset] for offset in OFFSETS]
    assert check_attachment(kinto, store, source)["title"] == "new"


@in_memory
@local
def test_the_first_chunk_comes_with_the_creation(start_upload, kinto, store, source):
    answers = end_of(start_upload({"uploadDataDuringCreation": True}))["answers"]

    assert answers[0] == ["POST", 201, OFFSETS[0]]
    assert answers[1:] == [["PATCH", 204, offset] for offset in OFFSETS[1:]]
    check_attachment(kinto, store, source)


@in_memory
@local
def test_the_length_of_a_stream_is_told_with_the_last_chunk(start_upload, kinto, store, source):
    answers = end_of(start_upload({"uploadLengthDeferred": True}, piped=True))["answers"]

    assert answers[0][:2] == ["POST", 201]
    assert answers[1:] == [["PATCH", 204, offset] for offset in OFFSETS]
    check_attachment(kinto, store, source)


@in_memory
@local_and_s3
@pytest.mark.parametrize("found_by", ["fingerprint", "url"])
def test_an_aborted_upload_goes_on_in_another_process(
    start_upload, kinto, store, source, found_by
):
    aborted = end_of(start_upload(abortAt=OFFSETS[1]))
    assert aborted["answers"][1:] == [["PATCH", 204, offset] for offset in OFFSETS[:2]]

    if found_by == "url":
        resumed = end_of(start_upload({"uploadUrl": aborted["url"]}))
    else:
        resumed = end_of(start_upload(resume=True))

    assert resumed["url"] == aborted["url"]
    assert resumed["answers"] == [
        ["HEAD", 200, OFFSETS[1]],
        *(["PATCH", 204, offset] for offset in OFFSETS[2:]),
    ]
    check_attachment(kinto, store, source)


@in_memory
@local
def test_an_upload_whose_process_is_killed_goes_on(start_upload, kinto, store, source):
    process = start_upload(haltAt=OFFSETS[1])
    assert process.stdout.readline() == "halted\n"
    process.kill()

    resumed = end_of(start_upload(resume=True))

    assert {method for method, *_ in resumed["answers"]} == {"HEAD", "PATCH"}
    check_attachment(kinto, store, source)


@in_postgresql
@local_and_s3
def test_the_server_is_killed_in_the_middle_of_a_chunk(
    start_upload, start_kinto, kinto, store, source
):
    process = start_upload(haltAt=OFFSETS[1])
    assert process.stdout.readline() == "halted\n"
    kinto.kill()
    process.stdin.write("\n")
    process.stdin.flush()
    restarted = start_kinto(port=kinto.port)

    answers = end_of(process)["answers"]

    assert "HEAD" in [method for method, *_ in answers]
    assert answers[-1] == ["PATCH", 204, SIZE]
    check_attachment(restarted, store, source)


@pytest.fixture
def uppy(downloads: Any, tus_options: dict[str, Any], tmp_path: Path) -> Iterator[str]:
    """The URL of a page with Uppy, which is not on Kinto's origin."""
    site = tmp_path / "site"
    site.mkdir()
    for name in ("uppy.min.js", "uppy.min.css"):
        shutil.copy(downloads.npm("uppy", UPPY) / "dist" / name, site)
    shutil.copy(HERE / "uppy.html", site / "index.html")
    (site / "options.js").write_text(f"const options = {json.dumps(tus_options)};")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def send_with_uppy(page: Any, url: str, source: Path) -> None:
    page.goto(url)
    page.locator(".uppy-Dashboard-input").first.set_input_files(source)
    page.get_by_role("button", name="Upload 1 file").click()


def chunks(answers: list[dict[str, Any]]) -> list[int]:
    """Where the chunks ended, as the page could read it."""
    return [int(each["Upload-Offset"]) for each in answers if each["method"] == "PATCH"]


@in_memory
@local_and_s3
def test_uppy_uploads_from_another_origin(page, uppy, kinto, store, source):
    send_with_uppy(page, uppy, source)

    expect(page.get_by_text("Complete", exact=True)).to_be_visible(timeout=120_000)
    answers = page.evaluate("answers")
    assert answers[0]["Location"].startswith(f"{kinto.url}{RECORD}/attachment/uploads/")
    assert chunks(answers) == OFFSETS
    record = check_attachment(kinto, store, source)
    assert answers[-1]["Content-Location"].endswith(RECORD)
    assert answers[-1]["ETag"] == f'"{record["last_modified"]}"'


@in_memory
@local
def test_uppy_goes_on_after_the_page_was_reloaded(page, uppy, kinto, store, source):
    send_with_uppy(page, f"{uppy}?pause={OFFSETS[1]}", source)
    expect(page.get_by_text("Paused", exact=True)).to_be_visible(timeout=120_000)
    assert chunks(page.evaluate("answers")) == OFFSETS[:2]

    send_with_uppy(page, uppy, source)

    expect(page.get_by_text("Complete", exact=True)).to_be_visible(timeout=120_000)
    answers = page.evaluate("answers")
    assert (answers[0]["method"], answers[0]["status"]) == ("HEAD", 200)
    assert chunks(answers) == OFFSETS[2:]
    check_attachment(kinto, store, source)
