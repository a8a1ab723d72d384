"""Coverage, where tests run the plugin in their own process: it slows all that they run.

A test with its objects in memory and in PostgreSQL runs the same code of the plugin twice: it is
measured in memory. What there is for PostgreSQL alone, tests of PostgreSQL alone run. Nor is
traced what the plugin, or a test, calls of libraries that do not call the plugin.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Generator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.orm
import venusian
from botocore.client import BaseClient
from botocore.parsers import ResponseParser
from pyramid.config import Configurator
from requests import Session

import kinto_attachment

_HERE = Path(__file__).parents[1]
# They look at the plugin from outside, or at something else.
_OUTSIDE = {"clients", "deploy", "live", "model", "project", "scripts", "test_support"}
# Most of what is run in a test.
_OF_LIBRARIES = [
    # Not the whole call: the plugin has hooks there, and a body that is read.
    (BaseClient, "_convert_to_request_dict"),
    (BaseClient, "_resolve_endpoint_ruleset"),
    (ResponseParser, "parse"),
    (Session, "merge_environment_settings"),
    (Configurator, "commit"),
    (HTTPConnection, "getresponse"),
    (sqlalchemy.orm.Session, "execute"),
    (venusian.Scanner, "scan"),
]
_in_memory = pytest.StashKey[set[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[_in_memory] = {_test(item) for item in items if _backend(item) == "memory"}


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Stop one of two: in a worker, pytest-cov 7.1 starts coverage twice, and what it has started
    first would trace on while the other pauses."""
    controller = _controller(session.config)
    if controller is not None and hasattr(session.config, "workerinput"):
        controller.pause()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Trace the plugin's modules as they are imported, and not the collection of the tests."""
    controller = _controller(session.config)
    if controller is None:
        return (yield)
    for module in pkgutil.walk_packages(kinto_attachment.__path__, "kinto_attachment."):
        # To import that one runs the command.
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    controller.pause()
    try:
        return (yield)
    finally:
        controller.resume()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    controller = _controller(item.config)
    if controller is None or _is_measured(item):
        return (yield)
    controller.pause()
    try:
        return (yield)
    finally:
        controller.resume()


def _controller(config: pytest.Config) -> Any:
    """What starts and stops coverage in this process; ``None`` without it."""
    return getattr(config.pluginmanager.getplugin("_cov"), "cov_controller", None)


@pytest.fixture(scope="session", autouse=True)
def libraries_are_not_traced(pytestconfig: pytest.Config) -> Generator[None]:
    """Hide from coverage what it would not report, and would follow line by line."""
    with pytest.MonkeyPatch.context() as patch:
        if pytestconfig.pluginmanager.hasplugin("_cov"):
            for owner, name in _OF_LIBRARIES:
                patch.setattr(owner, name, _untraced(getattr(owner, name)))
        yield


def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def untraced(*args: Any, **options: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*args, **options)
        finally:
            sys.settrace(tracer)

    return untraced


def _is_measured(item: pytest.Item) -> bool:
    if _OUTSIDE & {*item.path.relative_to(_HERE).parts}:
        return False
    return _backend(item) != "postgresql" or _test(item) not in item.config.stash[_in_memory]


def _backend(item: pytest.Item) -> object:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("backend") if callspec else None


def _test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]
