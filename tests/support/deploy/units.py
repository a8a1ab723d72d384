"""Units of systemd, run without it: the command, the environment and the wish to be told when it
is ready, as the unit file says them (systemd.service(5), systemd.exec(5))."""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import socket
import string
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.servers import forked
from tests.support.servers.forked import Forked

READY_SECONDS = 180.0
STOP_SECONDS = 20.0
PROGRAMS = Path(sysconfig.get_path("scripts"))


class Unit:
    """The unit ``name`` (``kinto@8001.service``) of the folder ``units``; ``log`` gets what it
    prints. Of the sandbox around it nothing is there.

    If ``forks``, what Python runs is forked (see forked.py).
    """

    def __init__(self, units: Path, name: str, log: Path, forks: bool = False) -> None:
        template, at, rest = name.partition("@")
        instance, _, kind = rest.rpartition(".")
        self.path = units / (f"{template}@.{kind}" if at else name)
        self.log = log
        self.forks = forks
        self._process: subprocess.Popen[bytes] | Forked | None = None
        # Of what stands several times (SystemCallFilter), nothing is needed here.
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(self.path.read_text().replace("\\\n", " ").replace("%i", instance))
        self.service = parser["Service"]
        self._notified: socket.socket | None = None

    def pids(self) -> list[int]:
        """Of the process, and of those that it has started."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [pid, *map(int, children.split())]

    def run(self, command: str = "ExecStart") -> subprocess.CompletedProcess[str]:
        """Run it to its end (``Type=oneshot``), or another of its commands."""
        return run(self._command(command), self._environ(), self.forks)

    def start(self) -> None:
        """Start it; it may not be ready yet. Raises ``RuntimeError`` if ``ExecStartPre`` fails."""
        self._also("ExecStartPre")
        command = self._command("ExecStart")
        environ = {**self._environ(), "NOTIFY_SOCKET": self._notifications()}
        if self.forks and (arguments := python_arguments(command)):
            self._process = Forked(arguments, self.log, environ, None)
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Wait until it says that it is (``Type=notify``), if it is a unit that does, and until
        ``ExecStartPost`` has ended.

        Raises ``RuntimeError`` with what it printed if it does not.
        """
        if self._notified is None:
            self._also("ExecStartPost")
            return
        try:
            while b"READY=1" not in self._notified.recv(4096):
                pass
        except TimeoutError:
            raise RuntimeError(f"{self.path.name} is not ready: {self.log.read_text()}") from None
        finally:
            self._notified.close()
            self._notified = None
        self._also("ExecStartPost")

    def begin_to_stop(self) -> None:
        """Ask it to stop, as ``stop()`` does, and do not wait for it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop it; kill it after ``seconds``. May be called again."""
        if self._notified is not None:
            self._notified.close()
            self._notified = None
        if self._process is None or self._process.poll() is not None:
            return
        self.begin_to_stop()
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _notifications(self) -> str:
        """The address of the socket on which the unit tells that it is ready, if it is to."""
        if self.service.get("Type") != "notify":
            return ""
        address = self.log.with_suffix(".sock")
        address.unlink(missing_ok=True)
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(address))
        self._notified.settimeout(READY_SECONDS)
        return str(address)

    def _environ(self) -> dict[str, str]:
        if "EnvironmentFile" not in self.service:
            return dict(os.environ)
        return {**os.environ, **environment(Path(self.service["EnvironmentFile"]))}

    def _also(self, command: str) -> None:
        """Run ``ExecStartPre`` or ``ExecStartPost``, if it is there."""
        if command in self.service:
            done = self.run(command)
            if done.returncode:
                raise RuntimeError(f"{command} of {self.path.name}: {done.stdout}{done.stderr}")

    def _command(self, name: str) -> list[str]:
        line = string.Template(self.service[name]).substitute(self._environ())
        return shlex.split(line)


def run(
    command: Sequence[str], environ: Mapping[str, str], forks: bool, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and capture what it prints. If ``forks``, see ``Unit``; what reads
    ``stdin`` is not forked."""
    if forks and not stdin and (arguments := python_arguments(command)):
        return forked.run(arguments, environ, timeout=READY_SECONDS)
    return subprocess.run(
        command, env=environ, input=stdin, capture_output=True, text=True, timeout=READY_SECONDS
    )


def python_arguments(command: Sequence[str]) -> Sequence[str]:
    """Return the arguments for Python, or none if the program is another's."""
    program = Path(command[0])
    if program.parent != PROGRAMS:
        return []
    if program.name == "python":
        return command[1:]
    with program.open("rb") as script:
        return command if script.read(2) == b"#!" else []


def environment(path: Path) -> dict[str, str]:
    """The variables of an ``EnvironmentFile``."""
    lines = path.read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}
