"""What ``upload.py`` and ``download.py`` share: files move several at a time, what fails in
passing is tried again, and the user sees how far it is.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import random
import re
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import requests
from connections import Connections, KintoSession, origin
from errors import Failed, Passing, Stopped, explain, logger, shown, status_of
from kinto_http import Client, cli_utils
from kinto_http.exceptions import BackoffException
from tqdm import tqdm

T = TypeVar("T")

CHUNK_BYTES = 256 * 1024

_SERVER = "http://localhost:8888/v1"
_AUTH_VARIABLE = "KINTO_AUTH"
_KINTO_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]*")
_LONGEST_PAUSE = 30.0
_INTERRUPTION_SECONDS = 2.0


def options(documentation: str) -> argparse.ArgumentParser:
    """A parser with the options of kinto-http's own tools, and of both scripts."""
    parser = argparse.ArgumentParser(
        description=documentation,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Whoever uses the same machine can read a command line, and --auth in it. So the "
        "credentials\nmay also stand in a file (--auth-file), or in the environment variable "
        f"{_AUTH_VARIABLE}.\n\nWhat fails in passing (a busy server, a broken connection) is "
        "tried again: 5 times,\nunless --retry says otherwise, after longer and longer pauses, or "
        "when the server says.",
    )
    cli_utils.add_parser_options(
        parser, default_server=_SERVER, default_bucket="default", default_retry=5
    )
    parser.add_argument(
        "--auth-file", type=Path, metavar="FILE", help="A file that has what --auth would have."
    )
    parser.add_argument(
        *("-j", "--jobs"), type=_positive, default=4, metavar="N", help="Files at a time (4)."
    )
    return parser


def parse(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line. Exits with status 2 if it makes no sense."""
    parsed = parser.parse_args(arguments)
    for name in ("bucket", "collection"):
        value = getattr(parsed, name)
        if not value:
            parser.error(f"the option --{name} is required")
        # kinto-http would make another one of it.
        if not _KINTO_ID.fullmatch(value):
            parser.error(f"{value!r} cannot be the name of a {name}")
    try:
        origin(parsed.server)
    except Failed as error:
        parser.error(f"--server: {shown(str(error))}; credentials belong to --auth-file")
    if parsed.auth is None:
        _read_auth(parser, parsed)
    cli_utils.setup_logger(logger, parsed)
    return parsed


def _read_auth(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Take the credentials from the file or the environment, if they are there."""
    source = _AUTH_VARIABLE if parsed.auth_file is None else str(parsed.auth_file)
    try:
        auth = os.environ.get(source) if parsed.auth_file is None else parsed.auth_file.read_text()
    except (OSError, ValueError) as error:
        parser.error(f"--auth-file: {explain(error)}")
    if auth is None:
        return
    auth = auth.strip("\r\n")
    if not auth.isprintable() or not re.search("[: ]", auth):
        parser.error(f"{source}: that is neither user:password nor an Authorization header")
    cli_utils.AuthAction([], "auth")(parser, parsed, auth)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


class Transfers:
    """One run of a script: its client, its patience, and its report."""

    def __init__(self, arguments: argparse.Namespace, verb: str) -> None:
        """``verb`` is what became of a file that was transferred: ``"uploaded"``."""
        self.connections = Connections(arguments.server, arguments.auth)
        # kinto-http neither waits between its retries nor retries when a connection breaks.
        self.client = Client(
            session=KintoSession(self.connections, arguments.server),
            bucket=arguments.bucket,
            collection=arguments.collection,
        )
        self.report = Report(verb, arguments.verbosity)
        self.stop = threading.Event()
        self._jobs = arguments.jobs
        self._retries = arguments.retry
        self._pause = arguments.retry_after

    def retrying(self, attempt: Callable[[], T], name: str = "") -> T:
        """Call ``attempt`` until it succeeds, fails for good, or has failed often enough.

        ``name`` is that of the file. Raises what ``attempt`` raised last, and ``Stopped``.
        """
        retried = 0
        while True:
            if self.stop.is_set():
                raise Stopped
            try:
                return attempt()
            except Exception as error:
                # Who was told not to ask yet has not failed.
                is_early = isinstance(error, BackoffException)
                if not is_early and (retried >= self._retries or not _may_pass(error)):
                    raise
                pause = self._pause_after(error, retried)
                about = f"{shown(name)}: " if name else ""
                sentence = f"{about}{explain(error)} Trying again in {pause:.1f} seconds."
                self.report.note(sentence)
            retried += not is_early
            self.stop.wait(pause)

    def each(self, items: Iterable[T], work: Callable[[T], None]) -> None:
        """Call ``work``, which does not raise, with each item, several at a time.

        Ctrl-C sets ``stop`` and raises ``KeyboardInterrupt``, without waiting for a server that
        says nothing.
        """
        waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
        count = 0
        for item in items:
            waiting.put(item)
            count += 1

        def worker() -> None:
            while not self.stop.is_set():
                try:
                    item = waiting.get_nowait()
                except queue.Empty:
                    return
                work(item)

        threads = [
            threading.Thread(target=worker, daemon=True) for _ in range(min(self._jobs, count))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            self.stop.set()
            deadline = time.monotonic() + _INTERRUPTION_SECONDS
            for thread in threads:
                if thread.is_alive():
                    thread.join(max(0.0, deadline - time.monotonic()))
            raise

    def _pause_after(self, error: Exception, retried: int) -> float:
        if isinstance(error, BackoffException):
            # kinto-http rounds it down.
            return error.backoff + 1.0
        if self._pause is not None:
            return float(self._pause)
        asked = _retry_after(getattr(error, "response", None))
        if asked is not None:
            return asked
        # Not all at the same moment.
        return min(0.5 * 2.0**retried, _LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311


class Report:
    """Counts what became of the files, and shows it: as a bar on a terminal, else as lines."""

    def __init__(self, verb: str, verbosity: int | None) -> None:
        self._verb = verb
        self._counts: Counter[str] = Counter()
        self._bytes = 0
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._quiet = verbosity == logging.CRITICAL
        self._bar: Any = None
        has_bar = sys.stderr.isatty() and not self._quiet
        self._has_bar = has_bar
        # On one terminal, the bar alone tells enough.
        self._has_lines = not self._quiet and not (
            has_bar and sys.stdout.isatty() and verbosity is None
        )

    @property
    def failed(self) -> int:
        """How many files failed."""
        return self._counts["failed"]

    def start(self, total: int) -> None:
        """Show the bar, for ``total`` bytes."""
        self._bar = tqdm(
            total=total,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=not self._has_bar,
            leave=False,
        )

    def advance(self, size: int) -> None:
        """Move the bar by so many bytes, backwards if negative."""
        with self._lock:
            if self._bar is not None:
                self._bar.update(size)

    def add(self, outcome: str, name: str, transferred: int = 0) -> None:
        """Count a file as ``outcome``: that the report was made with, or ``"unchanged"``."""
        with self._lock:
            self._counts[outcome] += 1
            self._bytes += transferred
            if self._has_lines:
                self._print(f"{outcome} {shown(name)}", sys.stdout)

    def fail(self, name: str, error: Exception | str) -> None:
        """Count a file as failed, and say why."""
        sentence = error if isinstance(error, str) else explain(error)
        with self._lock:
            self._counts["failed"] += 1
            self._print(f"failed {shown(name)}: {sentence}", sys.stderr)

    def note(self, sentence: str) -> None:
        """Tell the user something that is not about one file."""
        with self._lock:
            if not self._quiet:
                self._print(sentence, sys.stderr)

    def finish(self) -> None:
        """Take the bar away, and sum up in one line."""
        with self._lock:
            if self._bar is not None:
                self._bar.close()
                self._bar = None
            if self._quiet:
                return
            outcomes = (self._verb, "unchanged", "failed")
            counts = ", ".join(f"{outcome} {self._counts[outcome]}" for outcome in outcomes)
            seconds = time.monotonic() - self._started
            self._print(f"{counts}, {self._bytes} bytes, {seconds:.1f} seconds", sys.stdout)

    def _print(self, line: str, stream: Any) -> None:
        # Over the bar, not through it.
        tqdm.write(line, file=stream)
        stream.flush()


class Share:
    """The part of the bar that is one file's. Goes back when a transfer starts again."""

    def __init__(self, report: Report, size: int) -> None:
        self._report = report
        self._size = size
        self._shown = 0

    def show(self, done: int, total: int) -> None:
        """So many of ``total`` bytes are transferred."""
        position = self._size * done // total if total else self._size
        self._report.advance(position - self._shown)
        self._shown = position


def run(main: Callable[[], int]) -> int:
    """Call ``main`` and return its exit status; 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show is no reason to stop.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # kinto-http warns of what the server writes in the header Alert.
    warnings.showwarning = _warn
    try:
        return main()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    print(shown(str(message)), file=sys.stderr)


_PASSING = (
    Passing,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


def _may_pass(error: Exception) -> bool:
    if isinstance(error, requests.exceptions.SSLError):
        return False
    if isinstance(error, _PASSING):
        return True
    status = status_of(error)
    # 507: a quota is exceeded, until somebody deletes something.
    return status in (408, 409, 423, 429) or (
        status is not None and status >= 500 and status != 507
    )


def _retry_after(response: requests.Response | None) -> float | None:
    """The seconds that the server asks to wait (RFC 9110, section 10.2.3)."""
    value = "" if response is None else response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
