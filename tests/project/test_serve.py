"""``make serve``: a Kinto to try the plugin with."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.support.servers.ports import free_port

pytestmark = pytest.mark.apart

CHECKOUT = Path(__file__).parents[2]


def needs_curl(test: Callable[..., None]) -> Callable[..., None]:
    """Left out where there is none, but not in CI."""
    there_is_none = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
    return pytest.mark.clients(there_is_none(test))


def command(checkout: Path, port: int) -> list[str]:
    return [sys.executable, str(checkout / "scripts" / "serve.py"), "127.0.0.1", str(port)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what serves, to receive the files."""
    folder = tmp_path_factory.mktemp("serve") / "a checkout"
    for name in ("scripts", "config", "demo"):
        shutil.copytree(CHECKOUT / name, folder / name)
    for name in ("README.rst", "Makefile"):
        shutil.copy(CHECKOUT / name, folder)
    return folder


@pytest.fixture(scope="module")
def served(checkout: Path) -> Iterator[tuple[subprocess.Popen[str], int, list[str]]]:
    """The process, its port, and what it printed when it was ready."""
    port = free_port()
    process = subprocess.Popen(
        command(checkout, port), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    yield process, port, until_ready(process)
    process.kill()
    process.communicate()


def until_ready(process: subprocess.Popen[str]) -> list[str]:
    """What it prints, up to the command that uploads a file."""
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if "curl" in line:
            break
    return printed


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_serve_runs_it(checkout):
    port = free_port()
    # With what is installed here.
    given = [f"VENV={sys.prefix}", f"PORT={port}", f"--old-file={sys.prefix}/.installed"]
    with subprocess.Popen(
        ["make", "serve", *given],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert f"http://127.0.0.1:{port}/v1/" in "".join(until_ready(process))
        finally:
            os.killpg(process.pid, signal.SIGTERM)


@needs_curl
def test_the_printed_command_attaches_a_file_which_is_then_served(served, tmp_path):
    _, port, printed = served
    base_url = f"http://127.0.0.1:{port}/v1/files/"

    shell = {"shell": True, "cwd": tmp_path, "check": True, "capture_output": True, "text": True}
    answer = subprocess.run(printed[-1].strip() + " --fail --silent", **shell)

    location = requests.models.complexjson.loads(answer.stdout)["location"]
    assert location.startswith(base_url)
    assert requests.get(location, timeout=10).content == (CHECKOUT / "README.rst").read_bytes()


def test_it_prints_where_it_listens(served):
    _, port, printed = served

    url = f"http://127.0.0.1:{port}/v1/"
    assert any(url in line for line in printed)
    assert requests.get(url, timeout=10).json()["url"] == url


def test_it_prints_where_the_demo_is(served):
    _, port, printed = served

    url = f"http://127.0.0.1:{port}/demo/"
    assert any(url in line for line in printed)
    answer = requests.get(url.removesuffix("/"), timeout=10)
    assert answer.url == url
    assert answer.text == (CHECKOUT / "demo" / "index.html").read_text()


def test_nothing_but_the_demo_is_served_beside_kinto(served):
    _, port, _ = served

    def status(path: str) -> int:
        return requests.get(f"http://127.0.0.1:{port}/{path}", timeout=10).status_code

    assert status("demo/%2e%2e/config/development.ini") == 403
    assert status("demo/nothing") == 404
    assert status("config/development.ini") == 404


def test_ctrl_c_stops_it_without_a_traceback(checkout):
    with subprocess.Popen(
        command(checkout, free_port()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while "curl" not in process.stdout.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()

    assert process.returncode == 0
    assert "Traceback" not in errors


def test_a_busy_port_is_explained_in_one_sentence(checkout):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]

        refused = subprocess.run(command(checkout, port), capture_output=True, text=True)

    assert refused.returncode == 1
    assert f"Cannot listen on 127.0.0.1, port {port}: " in refused.stderr
    assert f"make serve PORT={port + 1}" in refused.stderr
    assert "Traceback" not in refused.stderr
