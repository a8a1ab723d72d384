"""The page for one test, and what is behind its back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.support.demo.page import Demo, make_serve

_numbers = itertools.count(1)


class Records:
    """One user's records, behind the page's back."""

    def __init__(self, url: str, user: str) -> None:
        self.user = user
        self._url = f"{url}v1/buckets/default/collections/files/records"
        self._auth = (user, "secret")

    def all(self) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = self._request("GET", "").json()["data"]
        return records

    def only(self) -> dict[str, Any]:
        (record,) = self.all()
        return record

    def put(self, record_id: str, **data: Any) -> None:
        self._request("PUT", f"/{record_id}", json={"data": data})

    def patch(self, **data: Any) -> None:
        """Change the only record there is."""
        self._request("PATCH", f"/{self.only()['id']}", json={"data": data})

    def delete(self) -> None:
        self._request("DELETE", "")

    def content(self) -> bytes:
        """The file of the only record there is."""
        return requests.get(self.only()["attachment"]["location"], timeout=30).content

    def _request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        answer = requests.request(method, self._url + path, auth=self._auth, timeout=30, **kwargs)
        answer.raise_for_status()
        return answer


@pytest.fixture(scope="package")
def url(tmp_path_factory: pytest.TempPathFactory):
    with make_serve(tmp_path_factory.mktemp("demo") / "a checkout") as url:
        yield url


@pytest.fixture
def records(url) -> Records:
    return Records(url.removesuffix("demo/"), f"user-{next(_numbers)}")


@pytest.fixture
def demo(page, url, records) -> Iterator[Demo]:
    """The page, where a new user has logged in. No script of it may fail."""
    errors: list[Any] = []
    page.on("pageerror", lambda error: errors.append(error))
    demo = Demo(page, url)
    demo.open(records.user)
    yield demo
    assert errors == []


@pytest.fixture
def patches(page) -> list[int]:
    """The offsets of the pieces that the page has sent."""
    offsets = []

    def note(request: Any) -> None:
        if request.method == "PATCH":
            offsets.append(int(request.headers["upload-offset"]))

    page.on("request", note)
    return offsets
