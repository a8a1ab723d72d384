"""What is published: a wheel and a source distribution, built from a copy of the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.support.documents import blocks, run

pytestmark = pytest.mark.apart

CHECKOUT = Path(__file__).parents[2]
SOURCES = (
    *("kinto_attachment", "tests", "scripts", "config", "deploy", "benchmarks", "demo", "docs"),
    *("setup.py", "pyproject.toml", "tox.ini", "MANIFEST.in", "Makefile"),
    *("README.rst", "CHANGELOG.rst", "LICENSE"),
)


def build(kind: str, sources: Path, folder: Path) -> Path:
    """Build a ``wheel`` or an ``sdist``; return its path. Downloads nothing: pip's isolation
    would."""
    folder.mkdir(exist_ok=True)
    subprocess.run(
        [
            *(sys.executable, "-c"),
            f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})",
        ],
        cwd=sources,
        check=True,
        capture_output=True,
    )
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, for the build to write into."""
    folder = tmp_path_factory.mktemp("packaging") / "sources"
    folder.mkdir()
    for name in SOURCES:
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope="module")
def sdist(sources: Path) -> Path:
    return build("sdist", sources, sources.with_name("sdist"))


@pytest.fixture(scope="module")
def wheel(sources: Path) -> zipfile.Path:
    return zipfile.Path(build("wheel", sources, sources.with_name("wheel")))


@pytest.fixture(scope="module")
def wheel_names(wheel: zipfile.Path) -> list[str]:
    return wheel.root.namelist()


def test_the_wheel_holds_every_module_of_the_package(wheel_names):
    modules = (CHECKOUT / "kinto_attachment").rglob("*.py")

    assert {str(path.relative_to(CHECKOUT)) for path in modules} <= set(wheel_names)


def test_the_wheel_says_that_it_is_typed(wheel_names):
    assert "kinto_attachment/py.typed" in wheel_names


def test_the_wheel_holds_the_licence(wheel_names):
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel_names)


def test_the_wheel_holds_nothing_but_the_package(wheel_names):
    folders = {name.split("/")[0] for name in wheel_names}

    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {
        "kinto_attachment"
    }


def test_the_wheel_names_the_licence_and_shows_the_readme(wheel):
    (info,) = (path for path in wheel.iterdir() if path.name.endswith(".dist-info"))
    metadata = message_from_bytes((info / "METADATA").read_bytes())

    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/x-rst"
    assert (CHECKOUT / "README.rst").read_text() in metadata.get_payload()


@pytest.mark.parametrize("section", ["Install", "Scripts"])
def test_it_is_installed_as_the_readme_says(wheel, section, tmp_path):
    command = next(text for name, _, text in blocks(CHECKOUT / "README.rst") if name == section)
    folder = Path(wheel.root.filename or "").parent

    # What is published, without what it needs, beside what is installed here.
    run(
        command,
        tmp_path,
        PIP_FIND_LINKS=str(folder),
        PIP_NO_INDEX="1",
        PIP_NO_DEPS="1",
        PIP_PRE="1",
        PIP_TARGET=str(tmp_path / "installed"),
    )

    assert (tmp_path / "installed" / "kinto_attachment" / "__init__.py").exists()


def test_the_source_distribution_has_all_that_the_tests_need(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert names >= {*SOURCES, "tests/conftest.py", "config/development.ini", "scripts/serve.py"}


def test_the_source_distribution_builds_the_same_wheel(sdist, wheel_names, tmp_path):
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    (sources,) = tmp_path.iterdir()
    wheel = zipfile.Path(build("wheel", sources, tmp_path / "wheel"))

    assert sorted(wheel.root.namelist()) == sorted(wheel_names)
