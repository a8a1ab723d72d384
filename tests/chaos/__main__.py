"""Run it: ``python -m tests.chaos --minutes 10 --store s3``. Exits with 1 if anything is violated,
and leaves the servers' logs then.

The clients work at the same time, so a seed says what each of them is up to, not what happens.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from tests.chaos.client import ChaosClient
from tests.chaos.faults import Faults
from tests.chaos.figures import Figures
from tests.chaos.history import History
from tests.chaos.site import UPLOADS_EXPIRE, Site
from tests.chaos.stores import STORES
from tests.chaos.verdict import judge
from tests.chaos.witness import Names
from tests.support.live.client import Client, uri_of

_CLIENTS = 8
_STOP_SECONDS = 180.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
_RECOVERY_SECONDS = 30.0
# More than all that comes before and after the time that was asked for.
_REST_SECONDS = 900


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long clients work")
    parser.add_argument("--store", choices=sorted(STORES), default="local")
    parser.add_argument("--seed", default=None, help="of what clients do, and of the faults")
    options = parser.parse_args()
    seed = options.seed or f"{random.SystemRandom().getrandbits(32):08x}"
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    # Nothing here should take longer; if it does, everything is stopped all the same.
    signal.alarm(int(options.minutes * 60) + _REST_SECONDS)
    logs = Path(tempfile.mkdtemp(prefix="chaos-logs-"))
    print(f"store {options.store}, seed {seed}, {options.minutes:g} minutes", flush=True)
    figures = Figures()
    try:
        with ExitStack() as stack:
            try:
                run(options.store, options.minutes * 60, seed, logs, figures, stack)
            finally:
                for number in _SIGNALS:
                    # What is begun now is ended.
                    signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt as interrupt:
        print(f"Interrupted by {interrupt}: everything is stopped.", file=sys.stderr)
        shutil.rmtree(logs, ignore_errors=True)
        return 130
    if figures.violations:
        print(f"The servers' logs are in {logs}")
        return 1
    shutil.rmtree(logs)
    return 0


def run(
    store: str, seconds: float, seed: str, logs: Path, figures: Figures, stack: ExitStack
) -> None:
    """Run it, and print the figures; what is started is stopped with ``stack``."""
    site = Site(store, logs)
    stack.callback(site.close)
    setup = Client(site.urls[0])
    setup.create_collections("shared")
    setup.create_collections("c", bucket="named")
    shared = [History(uri_of("shared", f"s{number}")) for number in range(3)]
    shared.append(History(uri_of("c", "shared", "named")))
    names = Names()
    clients = [
        ChaosClient(number, seed, site.urls, site.store, figures, shared, names)
        for number in range(1, _CLIENTS + 1)
    ]
    for client in clients:
        client.prepare()
    faults = Faults(site, figures, seed)
    working = Threads(figures, [client.work for client in clients])
    failing = Threads(figures, [faults.let_things_fail, faults.end_processes])
    stack.callback(working.stop, 0)
    # Nothing is started any more once everything is stopped.
    stack.callback(failing.stop)
    time.sleep(seconds)
    failing.stop()
    working.stop()
    idle = time.monotonic()
    for client in clients:
        client.finish(_RECOVERY_SECONDS)
    # Those whose beginning was not answered are nobody's.
    time.sleep(max(0.0, idle + UPLOADS_EXPIRE + 1 - time.monotonic()))
    more = judge(site, clients, shared, figures)
    print(figures.table({"store": store, "seconds": f"{seconds:.0f}", **more}), flush=True)


class Threads:
    """Run until they are told to stop."""

    def __init__(
        self, figures: Figures, targets: Iterable[Callable[[threading.Event], None]]
    ) -> None:
        self._figures = figures
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(target,), daemon=True) for target in targets
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """Wait for them, so many seconds. May be called again."""
        self._stop.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if seconds and thread.is_alive():
                self._figures.violation("does not end", thread.name)

    def _run(self, target: Callable[[threading.Event], None]) -> None:
        try:
            target(self._stop)
        except Exception:
            self._figures.violation("error in the harness", traceback.format_exc())


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main())
