"""Python programs that start at once: each is a fork of a process that has imported what they
need, and in which Kinto has started once (warm.py). That takes longer than all else that they do
to start.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# A program with other modules of its own runs, too: it imports them itself.
IMPORTED = [
    *("gunicorn.app.wsgiapp", "gunicorn.workers.gthread", "gunicorn.workers.sync", "waitress"),
    # Not "kinto.__main__", which reads KINTO_INI as it is imported.
    *("kinto.config", "kinto.core.scripts", "kinto.plugins.accounts.scripts"),
    *("kinto.views.buckets", "kinto.core.storage.postgresql"),
    # They add to Kinto's list of services as they are imported.
    *("kinto.core.views.batch", "kinto.core.views.heartbeat", "kinto.core.views.hello"),
    *("kinto.core.views.openapi", "kinto.core.views.version", "kinto.views.contribute"),
    *(
        "kinto.plugins.default_bucket",
        "pyramid.scripts.pserve",
        "kinto_attachment.views.attachment",
    ),
    *("kinto_attachment.storage.gcloud", "kinto_attachment.storage.s3", "tests.storage.conftest"),
    # The scripts, and the command.
    *("argparse", "kinto_http", "requests", "tqdm", "kinto_attachment.commands"),
    # Last: it needs the others.
    "tests.support.servers.warm",
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(IMPORTED)


class Forked:
    """``python ...`` in a process group of its own, with what it prints in ``log``, or with its
    errors in another file.

    ``cwd`` is where it runs, and where ``-m`` looks for modules. What else there is, is what
    ``subprocess.Popen`` has.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environ: Mapping[str, str],
        cwd: Path | None,
        errors: Path | None = None,
    ) -> None:
        """``command`` starts with ``-m`` and a module, ``-c`` and code, or a script's path."""
        arguments = (command, (log, errors or log), dict(environ), cwd or Path.cwd())
        self._process = _context.Process(target=_run, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.poll()

    def terminate(self) -> None:
        self._process.terminate()


def run(
    command: Sequence[str],
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``python ...`` to its end, as ``Forked`` does; its output is captured.

    Kills it after ``timeout`` seconds, and raises ``subprocess.TimeoutExpired``.
    """
    with tempfile.TemporaryDirectory(prefix="test-forked-") as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = Forked(command, out, environ or os.environ, cwd, err)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        assert status is not None
        return subprocess.CompletedProcess(
            command, status, out.read_text(errors="replace"), err.read_text(errors="replace")
        )


def run_code(code: str, *arguments: str) -> int:
    """Run ``python -c code ...`` to its end. Returns its status: that of ``subprocess``."""
    process = _context.Process(target=_execute, args=(code, arguments), daemon=True)
    process.start()
    process.join()
    status = process.exitcode
    assert status is not None
    return status


def _execute(code: str, arguments: Sequence[str]) -> None:
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})  # noqa: S102


def _run(
    command: Sequence[str], outputs: tuple[Path, Path], environ: Mapping[str, str], cwd: Path
) -> None:
    os.setsid()
    for stream, path in zip((sys.stdout, sys.stderr), outputs, strict=True):
        output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, stream.fileno())
        os.close(output)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    if command[0] == "-m":
        sys.path[0] = str(cwd)
        _, module, *arguments = command
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    elif command[0] == "-c":
        _execute(command[1], command[2:])
    else:
        sys.path[0] = str(Path(command[0]).parent)
        sys.argv = [*command]
        runpy.run_path(command[0], run_name="__main__")
