"""The released plugin, in an environment of its own, with the same Kinto and the same servers."""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

VERSION = "8.0.0"

# What an upload goes through, apart from the plugin: the same on both sides.
_SHARED = (
    "gunicorn",
    "kinto",
    "psycopg2-binary",
    "pyramid",
    "pyramid-multiauth",
    "pyramid-tm",
    "python-rapidjson",
    "sqlalchemy",
    "transaction",
    "waitress",
    "webob",
    "zope.sqlalchemy",
)


def python(folder: Path) -> str:
    """The interpreter of the environment in ``folder``, which is made if it is not there.

    Raises ``subprocess.CalledProcessError`` if something cannot be installed.
    """
    interpreter = folder / "bin" / "python"
    installed = folder / ".installed"
    wanted = _requirements()
    if not installed.is_file() or installed.read_text().splitlines() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        (folder / ".gitignore").write_text("*\n")
        command = [str(interpreter), "-m", "pip", "install", "-qq", *wanted]
        subprocess.run(command, check=True, stdout=sys.stderr)
        installed.write_text("\n".join(wanted))
    return str(interpreter)


def _requirements() -> list[str]:
    same = []
    for name in _SHARED:
        try:
            same.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue  # Kinto's own requirements bring it, or something in its place.
    # The released plugin imports pkg_resources, which later versions do not have.
    return [f"kinto-attachment=={VERSION}", "kinto[postgresql]", "setuptools<81", *same]
