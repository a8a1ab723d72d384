"""The directive that lists the settings, generated from the plugin's own definitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from kinto_attachment.settings import schema as definitions
from kinto_attachment.settings.schema import DEFINITIONS, Definition


class SettingsReference(SphinxDirective):
    """``.. settings-reference::``: the key, meaning and default of each setting."""

    def run(self) -> list[nodes.Node]:
        # When a setting changes, the page is made anew.
        self.env.note_dependency(definitions.__file__)
        found = nodes.definition_list()
        for definition in DEFINITIONS:
            found += _described(definition)
        return [found]


def _described(definition: Definition) -> nodes.definition_list_item:
    key = f"kinto.attachment.{definition.name}"
    term = nodes.term("", "", nodes.literal(key, key), ids=[f"setting-{key.replace('.', '-')}"])
    meaning = nodes.paragraph("", "", *_inline(definition.meaning))
    default = nodes.paragraph("", "Default: ")
    if definition.default:
        default += nodes.literal(definition.default, definition.default)
    else:
        default += nodes.Text("none" if definition.default is None else "empty")
    default += nodes.Text(".")
    if definition.by_collection:
        default += nodes.Text(" Also for one bucket or collection.")
    return nodes.definition_list_item("", term, nodes.definition("", meaning, default))


def _inline(text: str) -> Iterator[nodes.Node]:
    """Turn text between pairs of double backquotes into literals."""
    for number, part in enumerate(text.split("``")):
        yield nodes.literal(part, part) if number % 2 else nodes.Text(part)


def setup(app: Any) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("settings-reference", SettingsReference)
    return {"parallel_read_safe": True}
