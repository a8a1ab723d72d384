"""What setup.py requires: all that the package imports, and nothing else."""

from __future__ import annotations

import ast
import configparser
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

CHECKOUT = Path(__file__).parents[2]
# Distributions whose modules have another name.
MODULES = {
    "google-auth": ["google"],
    "google-cloud-storage": ["google"],
    "google-crc32c": ["google_crc32c"],
}


def requirements() -> list[Requirement]:
    """``install_requires`` of setup.py, and what the extra ``gcloud`` adds."""
    tree = ast.parse((CHECKOUT / "setup.py").read_text())
    (listed,) = (
        keyword.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "install_requires"
    )
    (extra,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GCLOUD"
    )
    return [Requirement(text) for text in (*ast.literal_eval(listed), *ast.literal_eval(extra))]


def imported() -> Iterator[str]:
    """The top-level names of what the package imports, at its start or later."""
    for path in (CHECKOUT / "kinto_attachment").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield (node.module or "").partition(".")[0]


def version_after(operator: str, requirement: Requirement) -> Version:
    (version,) = (each.version for each in requirement.specifier if each.operator == operator)
    return Version(version)


def test_what_the_package_imports_is_required_by_name():
    """What others bring along today, they may leave out tomorrow, or on another Python."""
    names = {*imported()} - {*sys.stdlib_module_names, "kinto_attachment"}

    assert names == {
        module
        for requirement in requirements()
        for module in MODULES.get(requirement.name, [requirement.name])
    }


def test_the_lower_bounds_are_those_that_tox_tries():
    tox = configparser.ConfigParser()
    tox.read(CHECKOUT / "tox.ini")
    lowest = [Requirement(line) for line in tox["testenv:lowest"]["deps"].split()]
    # SQLAlchemy is Kinto's to require.
    pinned = {each.name: version_after("==", each) for each in lowest if each.name != "sqlalchemy"}

    assert pinned == {each.name: version_after(">=", each) for each in requirements()}
