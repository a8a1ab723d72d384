"""What the benchmark ran on: kinds and versions, nothing that tells which machine it was."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks import released
from benchmarks.servers import Workbench

_PACKAGES = ("kinto", "waitress", "gunicorn", "boto3", "google-cloud-storage")


def describe(bench: Workbench) -> dict[str, str]:
    return {
        "CPU": f"{_cpu()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "load by others": f"{os.getloadavg()[0]:.1f}, before the last section began",
        "file system": _file_system(bench.folder),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": platform.python_version(),
        "PostgreSQL": _postgresql(bench),
        **{name: version(name) for name in _PACKAGES},
        "kinto-attachment, this": version("kinto-attachment"),
        "kinto-attachment, released": released.VERSION,
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the file system that the folder is on."""
    found, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, name, *_ = line.split()
        if folder.is_relative_to(mount) and len(mount) >= len(found):
            found, kind = mount, name
    return kind


def _postgresql(bench: Workbench) -> str:
    connection = bench.postgresql.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            return str(cursor.fetchone()[0]).split()[0]
    finally:
        connection.close()
