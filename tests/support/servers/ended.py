"""A run of the tests that is ended, by Ctrl-C or by a signal, leaves no server behind.

All that a run starts inherits a mark in its environment. A process beside the run waits until the
run is gone, however it went, and ends what has the mark: servers are in sessions of their own,
where no signal to the run reaches them. It looks at ``/proc``, as Linux has it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import uuid
from pathlib import Path

NAME = "KINTO_ATTACHMENT_TEST_RUN"

SECONDS = 5.0
"""What a program has to end by itself."""


def mark_all_that_starts() -> None:
    """Start the process that waits, and mark what this process starts from now on."""
    # A run within a run is ended with it, and what waits for it is not.
    environ = {name: value for name, value in os.environ.items() if name != NAME}
    os.environ[NAME] = uuid.uuid4().hex
    ours, theirs = os.pipe()
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", __file__, variable()],
        environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, ours, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
        # Not interrupted with the run.
        setpgroup=0,
    )
    os.close(ours)
    # Closed by the kernel, when this process is gone. No other one inherits it.
    assert not os.get_inheritable(theirs)


def mark() -> dict[str, str]:
    """The mark, for a program that does not get this environment."""
    return {NAME: os.environ[NAME]} if NAME in os.environ else {}


def variable() -> str:
    """The mark, for a program that can have it in its command alone."""
    return "".join(f"{name}={value}" for name, value in mark().items())


def marked(mark: bytes) -> list[int]:
    """The processes that were started with this mark, or have it in their command: some
    programs write a title over their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        # Those that have ended meanwhile, and those of others.
        with contextlib.suppress(OSError):
            started = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            if mark in started and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def end(mark: bytes) -> None:
    """End them, and what they start meanwhile."""
    deadline = time.monotonic() + SECONDS
    asked = set()
    while left := marked(mark):
        late = time.monotonic() > deadline
        for pid in left:
            if late or pid not in asked:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked |= {*left}
        time.sleep(0.1)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end(sys.argv[1].encode())
