"""Coverage, where tests run the plugin in their own process: it slows all that they run.

A test that runs with several backends is measured with the fastest one, which ``make check`` runs:
what is a backend's own has tests of its own.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

_HERE = Path(__file__).parents[1]
# They look at the plugin from outside, or at something else.
_OUTSIDE = {"clients", "deploy", "live", "model", "project", "scripts", "test_support"}
_FASTEST = {"memory", "local"}
_with_fastest = pytest.StashKey[set[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[_with_fastest] = {_test(item) for item in items if _backend(item) in _FASTEST}


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
    return _backend(item) in _FASTEST or _test(item) not in item.config.stash[_with_fastest]


def _backend(item: pytest.Item) -> object:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("backend") if callspec else None


def _test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]
