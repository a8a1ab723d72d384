"""Free TCP ports."""

from __future__ import annotations

import random
import socket

# Below the range from which Linux takes the ports of outgoing connections, so that none of the
# tests' own connections takes the port before the server does.
_PORTS = range(20000, 32000)


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens, and that no other call returns, in no
    process, as long as this one runs.

    Servers listen on it as on any other: like nearly all, they set ``SO_REUSEADDR`` (socket(7)).
    """
    while True:
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
