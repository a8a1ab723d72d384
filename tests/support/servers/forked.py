"""Python programs that start at once: each is a fork of a process that has imported what they
need, which takes longer than all else that they do to start.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# A program with other modules of its own runs, too: it imports them itself.
_IMPORTED = [
    *("gunicorn.app.wsgiapp", "gunicorn.workers.gthread", "gunicorn.workers.sync", "waitress"),
    *("kinto.__main__", "kinto.views.buckets", "kinto.core.storage.postgresql"),
    *(
        "kinto.plugins.default_bucket",
        "pyramid.scripts.pserve",
        "kinto_attachment.views.attachment",
    ),
    *("kinto_attachment.storage.gcloud", "kinto_attachment.storage.s3", "tests.storage.conftest"),
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_IMPORTED)


class Forked:
    """``python -m module ...`` in a process group of its own, with what it prints in ``log``.

    ``cwd`` is where it runs and looks for modules. What else there is, is what
    ``subprocess.Popen`` has.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environ: Mapping[str, str], cwd: Path | None
    ) -> None:
        """``command`` starts with ``-m``."""
        self._process = _context.Process(
            target=_run, args=(command, log, dict(environ), cwd or Path.cwd()), daemon=True
        )
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


def _run(command: Sequence[str], log: Path, environ: Mapping[str, str], cwd: Path) -> None:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for fd in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(output, fd)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    sys.path[0] = str(cwd)
    _, module, *arguments = command
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
