"""What the documents of this repository say to type, and a terminal to type it in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from docutils.core import publish_doctree

CHECKOUT = Path(__file__).parents[2]


class Block(NamedTuple):
    """A block that is shown as it is: in which section, in which language ("" where none is
    said, which is for a terminal), and its text."""

    section: str
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    """The blocks of a document without Sphinx's own markup, in their order."""
    strict = {"halt_level": 2, "report_level": 2}
    tree = publish_doctree(path.read_text(), settings_overrides=strict)
    return [_block(node) for node in tree.findall(nodes.literal_block)]


def _block(node: nodes.literal_block) -> Block:
    section: nodes.Node = node
    while not isinstance(section, (nodes.section, nodes.document)):
        section = section.parent
    (title,) = (child for child in section.children if isinstance(child, nodes.title))
    languages = [name for name in node["classes"] if name != "code"]
    return Block(title.astext(), "".join(languages), node.astext())


def environ(**variables: str) -> dict[str, str]:
    """The environment of a terminal where the tests' programs come first."""
    programs = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", **variables}


def run(command: str, folder: Path, **variables: str) -> str:
    """Type it, in that folder. Returns what it printed; it has to succeed."""
    # HTTPie would take what is no terminal for the body of its request.
    ours, terminal = os.openpty()
    try:
        done = subprocess.run(  # noqa: S602 - as the reader's terminal does
            command,
            shell=True,
            cwd=folder,
            env=environ(**variables),
            stdin=terminal,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(terminal)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
