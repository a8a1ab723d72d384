"""What an operator's commands take, and the requests beside them, with many attachments that the
released plugin has left: from 10,000 to 1,000,000, in PostgreSQL and on the local disk.

``python -m benchmarks.scale [--counts 10000 100000] [--no-copy]`` has no part in ``make bench``:
it takes an hour, most of it for the copy, and 10 GB of disk. It prints a row for each step, for
docs/operations.rst.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.client import BLOCK, KIB, record, timed
from benchmarks.measure import peak, reset_peak
from benchmarks.samples import Samples
from benchmarks.seeds import fill, rows_of_an_attachment
from benchmarks.servers import RELEASED, THIS, Workbench

COUNTS = (10_000, 100_000, 1_000_000)
DELETED = 10_000
"""Records that one request deletes."""

_CHECKOUT = Path(__file__).resolve().parent.parent
_PROGRAMS = Path(sysconfig.get_path("scripts"))
_MIB = 1024 * KIB


@dataclass(frozen=True)
class Took:
    """``seconds`` of the clock, and the peak of the process's ``memory`` in bytes."""

    seconds: float
    memory: int


class Site:
    """``count`` attachments of the released plugin, and what is done with them."""

    def __init__(self, bench: Workbench, of_one: list[list[str]], count: int) -> None:
        self._bench = bench
        self._database = bench.new_database()
        fill(bench, self._database, of_one, count)
        self._files = bench.folder / f"{count}-files"
        self._files.mkdir()
        self._make_files()
        self._ini = self._write_ini("kinto", self._files)

    def steps(self, *, copies_files: bool) -> Iterator[tuple[str, Took]]:
        """Do one thing after the other. Yields what each is, and what it took."""
        ours = _PROGRAMS / "kinto-attachment"
        copies = self._bench.folder / f"{self._files.name}-copies"
        to_ini = self._write_ini("copy", copies)
        yield "``kinto migrate``", self._run(_PROGRAMS / "kinto", "migrate", "--ini", self._ini)
        yield "``check``", self._run(ours, "--ini", self._ini, "check")
        yield "``gc``", self._run(ours, "--ini", self._ini, "gc", "--older-than", "0s")
        if copies_files:
            yield "``copy``", self._run(ours, "--ini", self._ini, "copy", "--to-ini", to_ini)
        yield from self._requests()
        yield "``check`` after that", self._run(ours, "--ini", self._ini, "check")

    def _requests(self) -> Iterator[tuple[str, Took]]:
        settings = {"kinto.attachment.base_path": str(self._files)}
        with self._bench.start(THIS, database=self._database, settings=settings) as server:
            client = server.client()
            (pid,) = server.kinto.pids()
            records = record("").rstrip("/")
            actions = {
                "an upload": lambda: client.upload(record("new"), KIB),
                "a replacement": lambda: client.upload(record("new"), KIB),
                f"DELETE of {DELETED:,} records": lambda: client.request(
                    "DELETE", f"{records}?_limit={DELETED}"
                ),
            }
            client.create_collection()
            client.upload(record("first"), KIB)
            for name, action in actions.items():
                reset_peak(pid)
                before = peak(pid)
                yield name, Took(timed(action), peak(pid) - before)
            client.close()

    def _make_files(self) -> None:
        """As many as the records say, each with the content that was hashed."""
        connection = self._bench.postgresql.connect(self._database)
        connection.autocommit = False
        content = bytes(memoryview(BLOCK)[:KIB])
        with connection, connection.cursor("names") as cursor:
            cursor.itersize = 10_000
            cursor.execute(
                "SELECT data->'attachment'->>'location' FROM objects"
                " WHERE resource_name = 'record'"
            )
            for (location,) in cursor:
                name = urlsplit(location).path.lstrip("/")
                (self._files / name).write_bytes(content)
        connection.close()

    def _write_ini(self, name: str, files: Path) -> Path:
        settings = self._bench.settings(files, self._database)
        return self._bench.write_ini(f"{self._files.name}-{name}", settings)

    @staticmethod
    def _run(*command: str | Path) -> Took:
        """Run it. Raises ``RuntimeError`` if it fails."""
        started = time.monotonic()
        environ = {**os.environ, "PYTHONPATH": str(_CHECKOUT)}
        memory = 0
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, env=environ)
            # Not ru_maxrss: that counts the memory of this process, before exec().
            while process.poll() is None:
                with contextlib.suppress(OSError, StopIteration):
                    memory = max(memory, peak(process.pid))
                time.sleep(0.02)
            seconds = time.monotonic() - started
            if process.returncode:
                said.seek(0)
                raise RuntimeError(f"{command}: {said.read().decode()}")
        return Took(seconds, memory)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--counts", nargs="*", type=int, default=COUNTS)
    parser.add_argument("--no-copy", action="store_true", help="leave out the longest step")
    arguments = parser.parse_args()
    environment, downloads = _CHECKOUT / ".venv-released", _CHECKOUT / "build" / "downloads"
    with Workbench(Samples(), 1, False, environment, downloads) as bench:
        of_one = rows_of_an_attachment(bench, RELEASED)
        for count in arguments.counts:
            for name, took in Site(bench, of_one, count).steps(copies_files=not arguments.no_copy):
                row = f"{count:>9,}  {name:28} {took.seconds:8.2f} s {took.memory / _MIB:6.0f} MiB"
                print(row, flush=True)


if __name__ == "__main__":
    main()
