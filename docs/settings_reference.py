"""A directive that lists the settings, from where the plugin itself has them."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

from kinto_attachment.definitions import DEFINITIONS, Definition


class SettingsReference(Directive):
    """``.. settings-reference::`` describes every setting."""

    def run(self) -> list[nodes.Node]:
        found = nodes.definition_list()
        for definition in DEFINITIONS:
            found += _described(definition)
        return [found]


def _described(definition: Definition) -> nodes.definition_list_item:
    key = f"kinto.attachment.{definition.name}"
    term = nodes.term("", "", nodes.literal(key, key), ids=[f"setting-{key.replace('.', '-')}"])
    meaning = nodes.paragraph("", definition.meaning)
    default = nodes.paragraph("", "Default: ")
    if definition.default:
        default += nodes.literal(definition.default, definition.default)
    else:
        default += nodes.Text("none" if definition.default is None else "empty")
    default += nodes.Text(".")
    if definition.by_collection:
        default += nodes.Text(" Also for one bucket or collection.")
    return nodes.definition_list_item("", term, nodes.definition("", meaning, default))


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx of the directive."""
    app.add_directive("settings-reference", SettingsReference)
    return {"parallel_read_safe": True}
