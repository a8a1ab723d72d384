"""The documentation: it can be built, and its commands do what it says."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.commands.conftest import make_record, stored, where
from tests.project.test_serve import checkout, needs_curl, served
from tests.support.documents import CHECKOUT, run
from tests.support.servers.kinto import ini

__all__ = ["checkout", "make_record", "served", "stored", "where"]

DOCS = CHECKOUT / "docs"
OLD = "https://old.example.org/"
NEW = "https://files.example.org/"
BACKUP = "Backup and restore"


def commands(document: str, section: str = "") -> list[str]:
    """What the blocks of a terminal say to type, in their order; in one section, or in all."""
    text = (DOCS / document).read_text()
    sections = re.split(r"^(?=.+\n-{3,}$)", text, flags=re.M)
    text = "".join(each for each in sections if each.startswith(section))
    blocks = re.findall(r"^\.\. code-block:: console\n\n((?:   .*\n|\n)+)", text, re.M)
    # A line that ends with a backslash goes on in the next one.
    return [
        line for block in blocks for line in re.findall(r"^   \$ ((?:.*\\\n)*.*)$", block, re.M)
    ]


@pytest.mark.apart
def test_it_is_built_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "-q", str(DOCS)]

    subprocess.run([*command, str(tmp_path)], check=True)

    settings = (tmp_path / "settings.html").read_text()
    assert "kinto.attachment.base_path" in settings


def test_what_there_is_to_type_stands_in_two_documents():
    """Each has a test below."""
    texts = {path.name: path.read_text() for path in DOCS.glob("*.rst")}
    languages = {
        language
        for text in texts.values()
        for language in re.findall(r"^ *\.\. code-block::(.*)$|^(?!\.\. ).*::$", text, re.M)
    }

    assert {name for name in texts if commands(name)} == {"tutorial.rst", "operations.rst"}
    # What is in " sh" wants an account at a provider.
    assert languages == {" console", " ini", " json", " sh"}


@needs_curl
@pytest.mark.apart
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
    settings["kinto.attachment.base_path"] = str(tmp_path / "other")
    (tmp_path / "config" / "other.ini").write_text(ini(settings, 8888))

    backup = commands("operations.rst", BACKUP)
    for line in commands("operations.rst"):
        if line not in backup:
            run(line, tmp_path)

    location = record.data["attachment"]["location"]
    assert location.startswith(NEW)
    assert (tmp_path / "other" / location.removeprefix(NEW)).read_bytes() == b"content"
