"""Free TCP ports."""

from __future__ import annotations

import random
import socket

# Below the range from which Linux takes the ports of outgoing connections, so that none of the
# tests' own connections takes the port before the server does.
_PORTS = range(20000, 32000)


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listened a moment ago."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
