"""The ports of the tests' servers (tests/support/servers/ports.py)."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.support.servers import ports

ANOTHER_PROCESS = """
from tests.support.servers import ports
ports._PORTS = {ports}
print(ports.free_port())
"""


@pytest.fixture
def ten(monkeypatch: pytest.MonkeyPatch) -> range:
    """Ten ports that are free, and no others can be chosen."""
    ranges = (range(first, first + 10) for first in range(20000, 31990))
    ten = next(each for each in ranges if all(map(_is_free, each)))
    monkeypatch.setattr(ports, "_PORTS", ten)
    return ten


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_a_port_is_given_once_before_anything_listens(ten: range) -> None:
    assert {ports.free_port() for _ in ten} == {*ten}


def test_without_a_free_port_it_is_told(ten: range) -> None:
    for _ in ten:
        ports.free_port()

    with pytest.raises(RuntimeError, match="no port is free"):
        ports.free_port()


def test_a_port_is_not_given_to_another_process(ten: range) -> None:
    ours = {ports.free_port() for _ in ten[1:]}

    other = subprocess.check_output(
        [sys.executable, "-c", ANOTHER_PROCESS.format(ports=ten)], text=True
    )

    assert {*ours, int(other)} == {*ten}


def test_a_server_can_listen_on_it() -> None:
    port = ports.free_port()

    with socket.create_server(("127.0.0.1", port)):
        socket.create_connection(("127.0.0.1", port)).close()


def test_nothing_answers_there_before() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports.free_port()))
