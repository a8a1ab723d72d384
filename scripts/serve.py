"""Run Kinto with the plugin and ``config/development.ini``: ``python scripts/serve.py HOST PORT``.

Prints where it listens, and a command that attaches a file, once that command would work.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import uuid
import warnings
from contextlib import suppress
from pathlib import Path

import kinto
import waitress
from pyramid.paster import get_appsettings, setup_logging

CHECKOUT = Path(__file__).resolve().parent.parent
CONFIG = CHECKOUT / "config" / "development.ini"
# The plugin has a limit of its own, if any; waitress would stop at 1 GiB.
MAX_BODY_BYTES = 1 << 40
EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104

READY = """
Kinto listens on {url}
Files are stored in {files}, records in memory. Ctrl-C stops it.
Attach a file, from another terminal:

    {upload}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Run Kinto with kinto-attachment.")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    host, port = arguments.host, arguments.port

    # Kinto's root view looks for its file there.
    os.environ["KINTO_INI"] = str(CONFIG)
    setup_logging(str(CONFIG))
    url = _url(host, port)
    settings = get_appsettings(str(CONFIG), name="main")
    settings["kinto.attachment.base_url"] = f"{url}files/"
    warnings.filterwarnings("ignore", "HTTPS is not enabled")
    app = kinto.main({}, **settings)
    try:
        # The socket accepts connections from here on: they wait for run().
        server = waitress.create_server(
            app, host=host, port=port, max_request_body_size=MAX_BODY_BYTES
        )
    except (OSError, OverflowError, ValueError) as error:
        print(
            f"Cannot listen on {host}, port {port}: {error}. If something listens there "
            f"already, stop it, or choose another port: make serve PORT={port + 1}",
            file=sys.stderr,
        )
        return 1
    # Waitress stops at Ctrl-C; it may come before waitress runs.
    with suppress(KeyboardInterrupt):
        print(READY.format(url=url, files=CHECKOUT / "files", upload=_upload(url)), flush=True)
        server.run()
    return 0


def _url(host: str, port: int) -> str:
    """The URL of the API as a client on this machine sees it."""
    if host in EVERY_ADDRESS:
        host = "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{port}/v1/"


def _upload(url: str) -> str:
    """A command line that attaches the README to a new record, from any folder."""
    record = f"{url}buckets/default/collections/files/records/{uuid.uuid4()}"
    words = [
        *("curl", "-u", "alice:secret"),
        *("-F", f"attachment=@{CHECKOUT / 'README.rst'}"),
        f"{record}/attachment",
    ]
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(main())
