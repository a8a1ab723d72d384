"""Kinto in processes of its own: to kill it, to measure it, to send it a body piece by piece.

It is measured through ``/proc``, as Linux has it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from typing_extensions import Self

from tests.support.servers import forked
from tests.support.servers.forked import Forked
from tests.support.servers.ports import free_port

STARTUP_SECONDS = 30.0
STOP_SECONDS = 10.0

# What its console script does.
KINTO = "import sys; from kinto.__main__ import main; sys.exit(main())"

_INI = """\
[app:main]
use = egg:kinto
{settings}

[server:main]
use = egg:waitress
host = 127.0.0.1
port = {port}
# Its own limit is 1 GiB.
max_request_body_size = 1099511627776
# As README recommends.
recv_bytes = 524288

[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys = plain

[logger_root]
level = INFO
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain

[formatter_plain]
format = %(asctime)s %(process)d %(levelname)s %(name)s %(message)s
"""


class LiveKinto:
    """A running Kinto on 127.0.0.1; it answers once the constructor returns.

    ``settings`` are Kinto's. ``server`` is ``waitress`` (hands a request to Kinto once the whole
    body is there) or ``gunicorn`` (at once). Gunicorn runs ``workers`` processes, of the kind
    ``worker_class``: ``sync``, or ``gthread`` with ``threads`` threads each. ``environ`` is added
    to the environment; ``cwd`` is where it runs and looks for modules. ``python`` is the
    interpreter, with its options; without it, a process is forked (see forked.py).
    ``port`` is for settings that have to know it; a free one is found without it. Raises
    ``RuntimeError`` with what the server printed if it does not start within ``startup_seconds``.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        server: str = "waitress",
        workers: int = 1,
        worker_class: str = "sync",
        threads: int = 4,
        environ: Mapping[str, str] | None = None,
        python: Sequence[str] = (),
        cwd: Path | None = None,
        startup_seconds: float = STARTUP_SECONDS,
        port: int | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="test-kinto-"))
        self.log = self.directory / "kinto.log"
        self.port = port or free_port()
        self.ini = self.directory / "kinto.ini"
        self.ini.write_text(ini(settings, self.port))
        command = self.command(server, workers, worker_class, threads)
        # Kinto's root view looks for its file there.
        env = {**os.environ, "KINTO_INI": str(self.ini), **(environ or {})}
        self.log.touch()
        self._process = (
            _started([*python, *command], self.log, env, cwd)
            if python
            else Forked(command, self.log, env, cwd)
        )
        try:
            self._wait_until_it_answers(startup_seconds)
        except BaseException:
            self.close()
            raise

    def command(self, server: str, workers: int, worker_class: str, threads: int) -> list[str]:
        """What Python is started with to run ``self.ini`` on ``self.port``."""
        return {
            "waitress": ["-m", "pyramid.scripts.pserve", str(self.ini)],
            "gunicorn": [
                *("-m", "gunicorn", "--paste", str(self.ini), "--log-config", str(self.ini)),
                *("--bind", f"127.0.0.1:{self.port}", "--workers", str(workers)),
                *("--worker-class", worker_class, "--no-control-socket"),
                *(("--threads", str(threads)) if worker_class == "gthread" else ()),
                # A slow upload is a test's right.
                *("--timeout", "300", "--graceful-timeout", "5"),
            ],
        }[server]

    @property
    def url(self) -> str:
        """The URL of the API, with a slash at the end."""
        return f"http://127.0.0.1:{self.port}/v1/"

    @property
    def pid(self) -> int:
        """The process that was started: waitress, or gunicorn's arbiter."""
        return self._process.pid

    def pids(self) -> list[int]:
        """All the processes of the server."""
        return [self.pid, *_children(self.pid)]

    def rss(self) -> int:
        """The peak memory in bytes, since start or ``reset_rss()``, of its largest process."""
        return max(_number(f"/proc/{pid}/status", "VmHWM") for pid in self.pids()) * 1024

    def reset_rss(self) -> None:
        """Count the peak memory from what is used now."""
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def written(self) -> int:
        """How many bytes the server has handed to ``write()`` since it started."""
        return sum(_number(f"/proc/{pid}/io", "wchar") for pid in self.pids())

    def kill(self) -> None:
        """SIGKILL to every process, as the kernel does when memory is short.

        None of them runs any more once it returns.
        """
        workers = _children(self.pid)
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        while any(_runs(pid) for pid in workers):
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop the server as an operator does (SIGTERM) and remove its log and configuration.

        May be called again, and after ``kill()``.
        """
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=STOP_SECONDS)
        self.close()

    def close(self) -> None:
        """Kill the server, if it runs, and remove its log and configuration."""
        if self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _wait_until_it_answers(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(self.url, timeout=5):  # noqa: S310
                    return
            except urllib.error.HTTPError as error:
                error.close()
                raise RuntimeError(f"Kinto answers {error.code}\n{self._output()}") from None
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"no Kinto: {error}\n{self._output()}") from None
                time.sleep(0.05)

    def _output(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


def _started(
    command: Sequence[str], log: Path, environ: Mapping[str, str], cwd: Path | None
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Its own group, which kill() takes as one.
            start_new_session=True,
            env=environ,
        )


def kinto_migrate(settings: Mapping[str, Any], *arguments: str, python: Sequence[str] = ()) -> str:
    """Run ``kinto migrate`` with these settings; return what it printed. ``python`` is the
    interpreter, with its options; without it, a process is forked.

    Raises ``RuntimeError`` with that if it fails.
    """
    with tempfile.TemporaryDirectory(prefix="test-kinto-") as directory:
        path = Path(directory) / "kinto.ini"
        path.write_text(ini(settings, port=0))
        command = ["migrate", "--ini", str(path), *arguments]
        ran = (
            subprocess.run(
                [*python, "-c", KINTO, *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
            )
            if python
            else forked.run(["-c", KINTO, *command])
        )
    printed: str = ran.stdout + ran.stderr
    if ran.returncode:
        raise RuntimeError(f"kinto migrate: {printed}")
    return printed


def ini(settings: Mapping[str, Any], port: int) -> str:
    """The text of a configuration file with Kinto's ``settings``."""
    # "%" starts a reference in this format; a value goes on where the next line is indented.
    lines = (
        f"{name} = {str(value).replace('%', '%%')}".replace("\n", "\n    ")
        for name, value in settings.items()
    )
    return _INI.format(settings="\n".join(lines), port=port)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    """Whether the process does anything: one that is dead may stay listed as a zombie."""
    try:
        return " (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _number(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise LookupError(f"no {name} in {path}")
