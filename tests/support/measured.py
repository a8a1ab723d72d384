"""Coverage, where tests run the plugin in their own process: it slows all that they run."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

_HERE = Path(__file__).parents[1]
# They look at the plugin from outside, or at something else.
_OUTSIDE = {"clients", "deploy", "live", "test_support"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    plugin = item.config.pluginmanager.getplugin("_cov")
    controller = getattr(plugin, "cov_controller", None)
    if controller is None or not _OUTSIDE & {*item.path.relative_to(_HERE).parts}:
        return (yield)
    controller.pause()
    try:
        return (yield)
    finally:
        controller.resume()
