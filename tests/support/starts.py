"""Kinto starts some hundred times in a run: what takes long there is done once, or when somebody
looks at it."""

from __future__ import annotations

import functools
import sys
from collections import UserDict
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import botocore.loaders
import botocore.session
import plaster.loaders
import pyramid.config.actions
import pytest
from kinto.core.resource.schema import ResourceResponses
from pyramid.util import TopologicalSorter
from typing_extensions import Self


class _Responses(UserDict[str, Any]):
    """The schemas of an endpoint's responses, which OpenAPI alone looks at."""

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make = make

    @functools.cached_property
    def data(self) -> dict[str, Any]:  # type: ignore[override]
        return self._make()

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)(self._make)

    def __bool__(self) -> bool:
        return True

    # What tells the views of an endpoint apart.
    __repr__ = object.__repr__


@pytest.fixture(scope="session", autouse=True)
def quick_starts() -> Iterator[None]:
    """Make the starts in this process quick while tests run."""
    with pytest.MonkeyPatch.context() as patch:
        make_starts_quick(patch)
        yield


def make_starts_quick(patch: pytest.MonkeyPatch) -> None:
    """Patch what a start repeats.

    Whoever reads an ini file looks for its loader in the metadata of all that is installed, each
    client of S3 reads what AWS has, Kinto describes and copies each response, and Pyramid sorts
    the same predicates and derivers for each of its views, and reads the line of each directive.
    """
    find = functools.cache(plaster.loaders.find_loaders)
    bind = ResourceResponses.get_and_bind
    patch.setattr(
        plaster.loaders,
        "find_loaders",
        lambda scheme, protocols=None: find(scheme, protocols and tuple(protocols)),
    )
    create = functools.cache(botocore.loaders.create_loader)
    patch.setattr(botocore.session, "create_loader", create)
    patch.setattr(
        ResourceResponses,
        "get_and_bind",
        lambda *args, **options: _Responses(functools.partial(bind, *args, **options)),
    )
    patch.setattr(TopologicalSorter, "sorted", _sorted_once(TopologicalSorter.sorted))
    patch.setattr(pyramid.config.actions, "traceback", _Lines)


class _Lines:
    """What Pyramid uses of ``traceback``, without the source lines."""

    @staticmethod
    def extract_stack(limit: int) -> list[tuple[str, int, str, str]]:
        frame: FrameType | None = sys._getframe(1)
        found = []
        while frame is not None and len(found) < limit:
            found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, ""))
            frame = frame.f_back
        return found[::-1]


def _sorted_once(sort: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    """Remember what ``sort`` returns, by all that a sorter was given."""
    made: dict[Any, list[Any]] = {}

    @functools.wraps(sort)
    def sorted_once(sorter: Any) -> list[Any]:
        values = tuple(sorter.name2val.items())
        key = (values, tuple(sorter.order), tuple(sorter.names), sorter.first, sorter.last)
        if key not in made:
            made[key] = sort(sorter)
        return [*made[key]]

    return sorted_once
