"""Run Kinto with the plugin and ``config/development.ini``: ``python scripts/serve.py HOST PORT``.

Prints where it listens, and a command that attaches a file, once that command would work.
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import shlex
import sys
import uuid
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import kinto
import waitress
from pyramid.paster import get_appsettings, setup_logging
from webob import Request
from webob.static import DirectoryApp

CHECKOUT = Path(__file__).resolve().parent.parent
CONFIG = CHECKOUT / "config" / "development.ini"
DEMO = CHECKOUT / "demo"
# At a time; 8 KiB otherwise.
RECEIVED_BYTES = 128 * 1024
# The plugin has a limit of its own, if any; waitress would stop at 1 GiB.
MAX_BODY_BYTES = 1 << 40
EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

READY = """
Kinto listens on {url}
Files are stored in {files}, private ones in {private},
records in memory. Ctrl-C stops it.
Try it in a browser: {demo}
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
    create_private_bucket(app)
    app = with_demo(app)
    try:
        # The socket accepts connections from here on: they wait for run().
        server = waitress.create_server(
            app,
            host=host,
            port=port,
            max_request_body_size=MAX_BODY_BYTES,
            recv_bytes=RECEIVED_BYTES,
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
        folders = {"files": CHECKOUT / "files", "private": CHECKOUT / "private-files"}
        ready = {**folders, "demo": _demo(url), "upload": _upload(url)}
        print(READY.format(url=url, **ready), flush=True)
        server.run()
    return 0


def create_private_bucket(app: WsgiApp) -> None:
    """Create the bucket of private files, where each user may have a collection, and which nobody
    owns."""
    nobody = base64.b64encode(f"nobody:{secrets.token_urlsafe()}".encode()).decode()
    request = Request.blank(
        "/v1/buckets/private",
        method="PUT",
        headers={"Authorization": f"Basic {nobody}", "Content-Type": "application/json"},
        body=b'{"permissions": {"collection:create": ["system.Authenticated"]}}',
    )
    answer = request.get_response(app)
    if answer.status_code != 201:
        raise RuntimeError(f"Kinto has no bucket for private files: {answer.status}")


def with_demo(app: WsgiApp) -> WsgiApp:
    """``app``, and beside it the page of the folder ``demo`` at ``/demo/``."""
    # A change of the page is to be seen at once.
    demo = DirectoryApp(str(DEMO), cache_control="no-cache")

    def either(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        if request.path_info_peek() != "demo":
            return app(environ, start_response)
        request.path_info_pop()
        content: Iterable[bytes] = demo(environ, start_response)
        return content

    return either


def _url(host: str, port: int) -> str:
    """The URL of the API as a client on this machine sees it."""
    if host in EVERY_ADDRESS:
        host = "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{port}/v1/"


def _demo(url: str) -> str:
    return f"{url.removesuffix('v1/')}demo/"


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
