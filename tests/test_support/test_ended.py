"""Nothing of a run of the tests is left, however it has ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.servers.ended import marked

CHECKOUT = Path(__file__).parents[2]

RUN = """
import subprocess, sys, time
from tests.support.servers.ended import mark_all_that_starts, variable
mark_all_that_starts()
quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
server = [sys.executable, "-c", "import time; time.sleep(60)"]
subprocess.Popen(server, start_new_session=True, **quiet)
# One that does not see the environment.
subprocess.Popen([*server, variable()], start_new_session=True, env={}, **quiet)
print(variable(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Linux shows the marks")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_server_behind(number):
    with subprocess.Popen(
        [sys.executable, "-c", RUN],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as run:
        assert run.stdout is not None
        mark = run.stdout.readline().strip().encode()
        # The process that waits for the end may still be starting.
        assert len(marked(mark)) >= 2
        run.send_signal(number)
    deadline = time.monotonic() + 30
    while marked(mark):
        assert time.monotonic() < deadline
        time.sleep(0.05)
