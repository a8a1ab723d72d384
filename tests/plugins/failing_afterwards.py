"""A plugin that fails once records have been changed."""

from __future__ import annotations

from typing import Any

from kinto.core.events import AfterResourceChanged


def includeme(config: Any) -> None:
    config.add_subscriber(_fail, AfterResourceChanged)


def _fail(event: Any) -> None:
    raise RuntimeError("the mail server is down")
