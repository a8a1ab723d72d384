"""The documentation: it can be built, and its commands do what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.conftest import make_record, stored, where
from tests.servers.kinto import ini
from tests.test_serve import checkout, needs_curl, served

__all__ = ["checkout", "make_record", "served", "stored", "where"]

DOCS = Path(__file__).parent.parent / "docs"
OLD = "https://old.example.org/"
NEW = "https://files.example.org/"


def commands(document: str) -> list[str]:
    """What the blocks of a terminal say to type, in their order."""
    text = (DOCS / document).read_text()
    blocks = re.findall(r"^\.\. code-block:: console\n\n((?:   .*\n|\n)+)", text, re.M)
    return [line for block in blocks for line in re.findall(r"^   \$ (.*)$", block, re.M)]


def run(command: str, folder: Path) -> str:
    """Type it, in that folder. Returns what it printed; it has to succeed."""
    programs = Path(sys.executable).parent
    done = subprocess.run(  # noqa: S602 - as the reader's terminal does
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_it_is_built_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "-q", str(DOCS)]

    subprocess.run([*command, str(tmp_path)], check=True)

    settings = (tmp_path / "settings.html").read_text()
    assert "kinto.attachment.base_path" in settings


@needs_curl
def test_the_tutorial_does_what_it_says(served, tmp_path):
    _, port, _ = served
    serve, *rest = commands("tutorial.rst")
    assert serve == "make serve"  # which has tests of its own

    printed = [run(line.replace("127.0.0.1:8888", f"127.0.0.1:{port}"), tmp_path) for line in rest]

    assert "Hello\n" in printed
    assert "evening.txt" in "".join(printed)
    assert '"deleted":true' in printed[-1].replace(" ", "")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_the_commands_for_operators_do_what_is_said(make_record, files, kinto_settings, tmp_path):
    record = make_record(attachment={"base_url": OLD})
    record.attach(b"content")
    settings = {**kinto_settings, "kinto.attachment.former_base_urls": OLD}
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "kinto.ini").write_text(ini(settings, 8888))

    for line in commands("operations.rst"):
        run(line, tmp_path)

    assert record.data["attachment"]["location"].startswith(NEW)
