"""README.rst says what the settings are, all of them and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docutils.core import publish_doctree

from kinto_attachment.settings.parsers import EXTENSION_GROUPS
from kinto_attachment.settings.schema import SCHEMA

README = (Path(__file__).parents[2] / "README.rst").read_text()
# Without the table of settings under another name: those of one bucket or collection.
NAMED = {
    name.rstrip(".")
    for name in re.findall(r"kinto\.attachment\.([a-z0-9_.]+)", README)
    if not name.startswith("resources.")
}


@pytest.mark.parametrize("definition", SCHEMA, ids=lambda definition: definition.name)
def test_every_setting_is_in_the_readme(definition):
    assert definition.name in NAMED


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_setting_in_the_readme_exists(name):
    assert name in {definition.name for definition in SCHEMA}


def rows():
    """The names of the settings that each row of the table begins with, and its default."""
    table = README.split(".. list-table::")[1].split(".. [#resources]")[0]
    for row in table.split("   * - ")[2:]:
        first, default, _ = re.split(r"\n     - ?", row, maxsplit=2)
        yield first, default.strip("` ")


def test_every_default_is_in_the_readme():
    defaults = {item.name: item.default or "" for item in SCHEMA}
    for first, default in rows():
        names = re.findall(r"kinto\.attachment\.([a-z0-9_.]+)", first)
        expected = {defaults[name] for name in names}
        if names == ["extra.base_url"]:
            expected = {"base_url"}
        assert {default} == expected, first


def test_the_settings_by_collection_are_marked():
    marked = {first for first, _ in rows() if "[#resources]_" in first}
    names = {name for first in marked for name in re.findall(r"attachment\.([a-z_]+)", first)}

    assert names == {item.name for item in SCHEMA if item.by_collection}


@pytest.mark.parametrize("group", sorted(EXTENSION_GROUPS))
def test_every_group_of_extensions_is_in_the_readme(group):
    assert f"``{group}``" in README


@pytest.mark.parametrize("name", ["README.rst", "CHANGELOG.rst"])
def test_the_documents_are_valid(name):
    text = (Path(__file__).parents[2] / name).read_text()

    publish_doctree(text, settings_overrides={"halt_level": 2, "report_level": 2})
