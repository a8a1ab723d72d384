"""Free TCP ports."""

from __future__ import annotations

import random
import socket

# Below the range from which Linux takes the ports of outgoing connections, so that none of the
# tests' own connections takes the port before the server does.
_PORTS = range(20000, 32000)
_TRIES = 1000


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listens. No other call returns it, in any
    process, while this one runs.

    A server can listen on it if it sets ``SO_REUSEADDR``, as nearly all do (Linux: socket(7)).
    Raises ``RuntimeError`` if no port is free.
    """
    for _ in range(_TRIES):
        candidate = socket.socket()
        port = random.choice(_PORTS)  # noqa: S311
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            candidate.close()
            continue
        # Bound without it, so that the port was nobody's; from here on a server may take it.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        candidate.detach()  # it stays open until the process ends
        return port
    raise RuntimeError("no port is free")
