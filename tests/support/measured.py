"""Coverage, where tests run the plugin in their own process: it slows all that they run.

A test with its objects in memory and in PostgreSQL runs the same code of the plugin twice: it is
measured in memory. What there is for PostgreSQL alone, tests of PostgreSQL alone run.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

_HERE = Path(__file__).parents[1]
# They look at the plugin from outside, or at something else.
_OUTSIDE = {"clients", "deploy", "live", "model", "project", "scripts", "test_support"}
_in_memory = pytest.StashKey[set[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[_in_memory] = {_test(item) for item in items if _backend(item) == "memory"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    plugin = item.config.pluginmanager.getplugin("_cov")
    controller = getattr(plugin, "cov_controller", None)
    if controller is None or _is_measured(item):
        return (yield)
    controller.pause()
    try:
        return (yield)
    finally:
        controller.resume()


def _is_measured(item: pytest.Item) -> bool:
    if _OUTSIDE & {*item.path.relative_to(_HERE).parts}:
        return False
    return _backend(item) != "postgresql" or _test(item) not in item.config.stash[_in_memory]


def _backend(item: pytest.Item) -> object:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("backend") if callspec else None


def _test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]
