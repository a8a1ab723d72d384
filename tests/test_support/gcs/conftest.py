"""A fake of Google Cloud Storage for the tests of this folder, as new for each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers.gcs import GcsServer
from tests.test_support.gcs.client import Client


@pytest.fixture(scope="session")
def running() -> Iterator[GcsServer]:
    with GcsServer() as server:
        yield server


@pytest.fixture
def server(running: GcsServer) -> GcsServer:
    running.reset()
    return running


@pytest.fixture
def client(server: GcsServer) -> Iterator[Client]:
    client = Client(server)
    yield client
    client.close()
