"""Sphinx's configuration. ``make docs`` builds the documentation."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "kinto-attachment"
release = version_of("kinto-attachment")
version = release
copyright = "the authors of kinto-attachment"  # noqa: A001 - Sphinx's name for it

extensions = ["settings_reference"]
nitpicky = True
html_theme = "furo"
html_title = "kinto-attachment"
html_static_path = ["_static"]
