"""What a server takes from the machine, as Linux counts it in ``/proc``."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_BLOCK_BYTES = 1024 * 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Since the server started: ``cpu`` in seconds, ``written`` in bytes handed to ``write()``,
    ``stored`` in bytes that went (or have to go) to a disk."""

    cpu: float
    written: int
    stored: int

    def __sub__(self, before: Usage) -> Usage:
        return Usage(
            self.cpu - before.cpu, self.written - before.written, self.stored - before.stored
        )


def usage(pids: list[int]) -> Usage:
    """What the processes have used, all together."""
    counters = [_counters(pid) for pid in pids]
    return Usage(
        cpu=sum(_cpu(pid) for pid in pids),
        written=sum(counter["wchar"] for counter in counters),
        stored=sum(counter["write_bytes"] for counter in counters),
    )


def resident(pids: list[int]) -> int:
    """The memory in bytes that the largest of the processes has now. No page cache is in it."""
    return max(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * _PAGE


def peak(pid: int) -> int:
    """The most memory in bytes that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith("VmHWM:"))
    return int(found.split()[1]) * 1024


def reset_peak(pid: int) -> None:
    """Count the peak of a process from what it uses now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def take_memory(size: int) -> None:
    """Take ``size`` bytes of memory, and give them back.

    A virtual machine may have to get them from its host, which can take seconds for a GiB: the
    cache for the file of the next upload should not.
    """
    block = bytes(_BLOCK_BYTES)
    with mmap(-1, size) as memory:
        for _ in range(size // _BLOCK_BYTES):
            memory.write(block)


def unlinked(pids: list[int]) -> tuple[int, int]:
    """How many deleted files the processes hold open, and the bytes on the disk of these."""
    sizes = []
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                if str(path.readlink()).endswith(" (deleted)"):
                    sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)


def _cpu(pid: int) -> float:
    # The command, in brackets, may have blanks in it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _counters(pid: int) -> dict[str, Any]:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}
