"""Memory that threads have freed is reused."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from kinto_attachment.http import body

# Eight threads take 4 MiB in blocks of 64 KiB, one after the other; the memory that is kept.
_PROGRAM = """
import os, threading
from kinto_attachment.http.body import keep_freed_memory, share_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def work(step):
    blocks = [b"x" * 65536 for _ in range(64)]
    del blocks
    step.set()
    done.wait()

keep_freed_memory()
share_freed_memory()
done = threading.Event()
before = resident()
for _ in range(8):
    step = threading.Event()
    threading.Thread(target=work, args=(step,)).start()
    step.wait()
print((resident() - before) // 1024**2)
done.set()
"""


def kept(**environ: str) -> int:
    """How many MiB the process keeps."""
    command = [sys.executable, "-c", _PROGRAM]
    answer = subprocess.run(
        command, env={**body.os.environ, **environ}, capture_output=True, check=True, text=True
    )
    return int(answer.stdout)


def test_threads_reuse_what_others_have_freed() -> None:
    assert kept() <= 12
    assert kept(MALLOC_ARENA_MAX="16") > 12


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_ARENA_MAX", "4"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=4")],
)
def test_a_limit_of_the_operator_stays(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.delattr(ctypes, "CDLL")
    body.share_freed_memory()


def test_other_c_libraries_have_no_arenas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    body.share_freed_memory()
