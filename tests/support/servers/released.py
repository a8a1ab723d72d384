"""The plugin as it was released before this one, with a Kinto that it works with.

They are installed into a virtual environment of their own, once: pip downloads them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REQUIREMENTS = (
    "kinto-attachment==8.0.0",
    "kinto[postgresql]==25.0.3",
    # What Kinto takes any user for nobody with.
    "pyramid_multiauth<1.1",
    # Later ones want another driver of PostgreSQL.
    "sqlalchemy<2.1",
    # The plugin asks pkg_resources for its version, and cgi for its files.
    "setuptools<81",
    'legacy-cgi; python_version >= "3.13"',
)


def install(folder: Path) -> tuple[str, ...]:
    """The interpreter, and its options, that has them; installed into ``folder`` if it is not
    there yet. Raises ``RuntimeError`` with what pip printed if it fails."""
    environment = folder / "python{}.{}".format(*sys.version_info)
    # Isolated from the checkout, which has a plugin of the same name.
    python = (str(environment / "bin" / "python"), "-I")
    installed = environment / ".installed"
    if not installed.exists() or installed.read_text() != "\n".join(REQUIREMENTS):
        # Without a pip of its own, and bytecode of what is never imported: half of the time.
        _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(environment))
        pip = (sys.executable, "-m", "pip", "--python", python[0])
        _run(*pip, "install", "--quiet", "--no-compile", *REQUIREMENTS)
        # Written last, so that an installation that was cut short is done again.
        installed.write_text("\n".join(REQUIREMENTS))
    return python


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ran.stdout}{ran.stderr}")
