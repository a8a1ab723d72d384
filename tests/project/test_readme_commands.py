"""What README.rst says to type does what it says, on a server that was made as it says."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from kinto.core.utils import native_value

from kinto_attachment.commands import main
from kinto_attachment.database import location_index
from kinto_attachment.settings import Settings
from tests.clients.conftest import downloads
from tests.clients.test_tus_js import TUS_JS_CLIENT
from tests.commands.conftest import backend, make_record, stored, where
from tests.project.test_serve import needs_curl
from tests.support.clients.downloads import NODE
from tests.support.documents import CHECKOUT, blocks, environ, run
from tests.support.servers.kinto import ini
from tests.support.servers.ports import free_port

__all__ = ["backend", "downloads", "make_record", "stored", "where"]

BLOCKS = blocks(CHECKOUT / "README.rst")
SETTINGS = [block.text for block in BLOCKS if block.language == "ini"]
PORT = "127.0.0.1:8888"
STARTUP_SECONDS = 30.0
RECORD = "v1/buckets/default/collections/assets/records"
OLD = "https://old.example.org/"
NEW = "https://cdn.example.com/files/"

# JavaScript of a web page, in Node.js: what is around it there.
PAGE = """
const tus = process.argv[3] && require(process.argv[3]);
const { server, bucket, collection, record } = JSON.parse(process.argv[2]);
const form = { elements: { attachment: { files: [new File(["a picture"], "background.jpg")] } } };
const file = Object.assign(Buffer.from("a film"), { name: "film.mp4", type: "video/mp4" });
async function main() { %s }
main();
"""


def texts(section: str, language: str = "") -> list[str]:
    """The blocks of a section."""
    return [block.text for block in BLOCKS if block[:2] == (section, language)]


def test_every_command_has_a_test():
    shown = [block.section for block in BLOCKS if block.language in ("", "python", "javascript")]

    assert Counter(shown) == {
        "Try it": 1,  # test_serve.py
        "Install": 3,  # the first one: test_packaging.py
        "Coming from an earlier version": 1,
        "Look after the files": 5,
        "Resumable uploads": 2,
        "Usage": 4,
        "Scripts": 1,  # test_packaging.py
        "Upload files": 1,
        "Download files": 1,
        "Run the tests": 1,  # what you see
    }
    assert {block.language for block in BLOCKS} == {
        *("", "python", "javascript"),
        *("ini", "json", "nginx"),
    }


@pytest.mark.parametrize("text", SETTINGS)
def test_every_example_of_settings_is_one(text):
    lines = (line.partition(" = ") for line in text.splitlines() if " = " in line)
    given = {name: value for name, _, value in lines if name.startswith("kinto.attachment.")}
    has_bucket = "aws.bucket" in text or "gcloud.bucket_name" in text
    given.setdefault("kinto.attachment.base_path", "" if has_bucket else "files")
    native = {name.removeprefix("kinto."): native_value(value) for name, value in given.items()}

    assert Settings.from_kinto({"settings_prefix": "kinto", **given, **native})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server of "Install", with the settings that are shown there: its URL."""
    folder = tmp_path_factory.mktemp("readme")
    address = f"127.0.0.1:{free_port()}"
    (text,) = texts("Install", "ini")
    (folder / "kinto.ini").write_text(text.replace(PORT, address))
    start = texts("Install")[1]
    assert start.endswith("kinto start")
    process = subprocess.Popen(  # noqa: S602 - as the reader's terminal does
        f"{start} --port {address.partition(':')[2]}",
        shell=True,
        cwd=folder,
        env=environ(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://{address}/v1/")
        yield f"http://{address}/"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def wait_for(url: str) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while True:
        try:
            requests.get(url, timeout=5).raise_for_status()
            return
        except requests.RequestException:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the reader has the files that README.rst takes for examples."""
    (tmp_path / "background.jpg").write_bytes(b"a picture")
    (tmp_path / "film.mp4").write_bytes(b"a film")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "sea.png").write_bytes(b"the sea")
    (tmp_path / "README.rst").write_text("Read me")
    shutil.copytree(CHECKOUT / "scripts", tmp_path / "scripts")
    return tmp_path


def attachment(server: str, path: str) -> dict[str, Any]:
    """What the record says of its file, whose content is ``content``."""
    answer = requests.get(f"{server}{path}", auth=("alice", "secret"), timeout=30)
    answer.raise_for_status()
    record: dict[str, Any] = answer.json()["data"]
    content = requests.get(record["attachment"]["location"], timeout=30).text
    return {**record, "content": content}


def the_picture(server: str, record: str) -> bool:
    shown = attachment(server, f"{RECORD}/{record}")
    what = (shown["content"], shown["attachment"]["filename"], shown["type"], shown["theme"])
    return what == ("a picture", "background.jpg", "wallpaper", "orange")


@needs_curl
def test_a_new_installation_gets_its_first_file(server, folder):
    run(texts("Install")[2].replace(PORT, server.split("/")[2]), folder)

    shown = attachment(server, "v1/buckets/default/collections/notes/records/first")
    assert (shown["content"], shown["attachment"]["filename"]) == ("Hello\n", "hello.txt")


@needs_curl
@pytest.mark.parametrize("program", ["curl", "http"])
def test_a_picture_is_uploaded_from_a_terminal(server, folder, program):
    (command,) = (text for text in texts("Usage") if text.startswith(f"{program} "))
    record = f"of-{program}"
    command = command.replace("c2ce1975-0e52-4b2f-a5db-80166aeca689", record)

    run(command.replace(PORT, server.split("/")[2]), folder)

    assert the_picture(server, record)


def test_a_picture_is_uploaded_by_python(server, folder):
    (script,) = texts("Usage", "python")

    execute(script.replace(PORT, server.split("/")[2]), folder)

    assert the_picture(server, "background")


def test_a_picture_is_uploaded_by_a_web_page(server, folder):
    (script,) = texts("Usage", "javascript")

    execute_page(script, server, "of-a-page", folder)

    assert the_picture(server, "of-a-page")


@pytest.mark.clients
def test_a_film_is_uploaded_in_pieces_by_a_web_page(server, folder, downloads):
    (script,) = texts("Resumable uploads", "javascript")
    client = downloads.npm_with_dependencies("tus-js-client", TUS_JS_CLIENT)

    execute_page(script, server, "film-of-a-page", folder, str(client))

    shown = attachment(server, f"{RECORD}/film-of-a-page")
    assert (shown["content"], shown["attachment"]["filename"]) == ("a film", "film.mp4")
    assert shown["type"] == "wallpaper"


def test_a_film_is_uploaded_in_pieces_by_python(server, folder):
    (script,) = texts("Resumable uploads", "python")
    variables = place(server, "film-of-python")
    given = "".join(f"{name} = {value!r}\n" for name, value in variables.items())

    execute(given + script, folder)

    shown = attachment(server, f"{RECORD}/film-of-python")
    assert (shown["content"], shown["attachment"]["filename"]) == ("a film", "film.mp4")


def test_a_folder_is_uploaded_and_downloaded(server, folder):
    (upload,), (download,) = texts("Upload files"), texts("Download files")
    variables = {"SERVER": f"{server}v1/", "BUCKET": "readme", "COLLECTION": "folder"}

    run(upload, folder, **variables)
    run(download, folder, **variables)

    assert (folder / "downloads" / "README.rst").read_text() == "Read me"
    assert (folder / "downloads" / "sea.png").read_bytes() == b"the sea"


def test_operators_look_after_the_files(make_record, files, kinto_settings, tmp_path, monkeypatch):
    record = make_record(attachment={"base_url": OLD})
    record.attach(b"content")
    of_attachment = {"base_url": NEW, "former_base_urls": OLD, "extensions": "default"}
    settings = {f"kinto.attachment.{name}": value for name, value in of_attachment.items()}
    (tmp_path / "kinto.ini").write_text(ini({**kinto_settings, **settings}, 8888))
    (tmp_path / "other.ini").write_text(
        ini({**kinto_settings, "kinto.attachment.base_path": str(tmp_path / "other")}, 8888)
    )
    (upgrade,) = texts("Coming from an earlier version")
    preflight, *migrations = upgrade.splitlines()

    for command in migrations:
        run(command, tmp_path)
    monkeypatch.chdir(tmp_path)
    # In this process, which is faster: test_docs.py types such ones.
    commands = (preflight, *texts("Look after the files"))
    statuses = [main(shlex.split(command)[1:]) for command in commands]

    assert statuses == [0] * 6
    assert len([*(tmp_path / "other").iterdir()]) == 2  # with the marker
    assert record.data["attachment"]["location"].startswith(NEW)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_the_index_is_removed(app, new_database):
    database = new_database()
    drop = f"DROP INDEX CONCURRENTLY {location_index.NAME}"
    assert drop in " ".join((CHECKOUT / "README.rst").read_text().split())

    database.execute(drop)

    assert database.execute("SELECT to_regclass(%s)", location_index.NAME) == [(None,)]


def test_the_tests_are_run_by_make(tmp_path):
    (command,) = texts("Run the tests")

    printed = run(f"{command} --dry-run", CHECKOUT)

    assert "-m pytest" in printed


def place(server: str, record: str) -> dict[str, str]:
    """The variables of the examples."""
    return {
        "server": f"{server}v1",
        "bucket": "default",
        "collection": "assets",
        "record": record,
    }


def execute(script: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def execute_page(script: str, server: str, record: str, folder: Path, client: str = "") -> None:
    path = folder / "page.cjs"
    path.write_text(PAGE % script)
    done = subprocess.run(
        [NODE, path, json.dumps(place(server, record)), client],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
