"""The directive that lists the settings, generated from the plugin's own definitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from kinto_attachment.settings import schema
from kinto_attachment.settings.schema import SCHEMA, Setting


class SettingsReference(SphinxDirective):
    """``.. settings-reference::``: the key, meaning and default of each setting."""

    def run(self) -> list[nodes.Node]:
        # When a setting changes, the page is made anew.
        self.env.note_dependency(schema.__file__)
        found = nodes.definition_list()
        for setting in SCHEMA:
            found += _described(setting)
        return [found]


def _described(setting: Setting) -> nodes.definition_list_item:
    key = f"kinto.attachment.{setting.name}"
    term = nodes.term("", "", nodes.literal(key, key), ids=[f"setting-{key.replace('.', '-')}"])
    meaning = nodes.paragraph("", "", *_inline(setting.meaning))
    default = nodes.paragraph("", "Default: ")
    if setting.default:
        default += nodes.literal(setting.default, setting.default)
    else:
        default += nodes.Text("none" if setting.default is None else "empty")
    default += nodes.Text(".")
    if setting.by_collection:
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
