"""Uploads to Google Cloud Storage, a server on this machine that plays it, against Google's own
library. Kinto has no part in it: each uploads a file from disk, in a process of its own.

``python -m benchmarks.gcloud SUBJECT URL BUCKET FILE UPLOADS`` is that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from benchmarks.client import GIB, KIB, MIB, at_once, blocks, timed
from benchmarks.measure import peak, reset_peak, take_memory, usage
from benchmarks.servers import THIS, Workbench
from kinto_attachment.storage import GCloudOptions, NewFile, open_storage
from tests.support.servers.gcs import GcsServer

NAME = "gcloud"
LIBRARY = "library"
SIZES = (KIB, 10 * MIB, GIB)
AT_ONCE = 8
_AT_ONCE_SIZE = 100 * MIB
# Small files are over soon.
_REPEATS = {KIB: 20, 10 * MIB: 3}
_CHUNK = MIB


def measure(bench: Workbench) -> None:
    """The released plugin is not in it."""
    sizes = (KIB, 10 * MIB) if bench.quick else SIZES
    for run in bench.runs:
        with GcsServer() as server:
            for size in sizes:
                for subject in (THIS, LIBRARY):
                    _measure_one(bench, run, server, subject, size, 1)
            for subject in (THIS, LIBRARY):
                size = MIB if bench.quick else _AT_ONCE_SIZE
                _measure_one(bench, run, server, subject, size, AT_ONCE)


def _measure_one(
    bench: Workbench, run: int, server: GcsServer, subject: str, size: int, uploads: int
) -> None:
    path = bench.folder / "file"
    with path.open("wb") as file:
        for block in blocks(size):
            file.write(block)
    repeats = _REPEATS.get(size, 1)
    arguments = [server.endpoint_url, server.bucket, str(path), str(uploads), str(repeats)]
    command = [sys.executable, "-m", "benchmarks.gcloud", subject, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        _read_line(process)  # it has warmed up
        server.requests.clear()
        take_memory(size * uploads)
        print("go on", file=process.stdin, flush=True)
        found = json.loads(_read_line(process))
    received = sum(request.received for request in server.requests)
    bench.samples.add(
        NAME,
        subject,
        run,
        {"size": size, "uploads": uploads},
        received=received / (size * uploads * repeats),
        **found,
    )
    path.unlink()
    server.reset()


def _read_line(process: subprocess.Popen[str]) -> str:
    return "" if process.stdout is None else process.stdout.readline()


def main() -> None:
    """Upload a file so many times at once, again and again; print what each took."""
    subject, url, bucket, file, uploads, repeats = sys.argv[1:]
    make = {THIS: _make_upload, LIBRARY: _make_library_upload}
    upload = make[subject](url, bucket)
    path, pids = Path(file), [os.getpid()]
    with tempfile.NamedTemporaryFile() as first:
        first.write(bytes(MIB))
        first.flush()
        upload(Path(first.name))
    print("ready", flush=True)
    sys.stdin.readline()
    reset_peak(os.getpid())
    idle, before = peak(os.getpid()), usage(pids)
    if uploads == "1":
        seconds = timed(lambda: [upload(path) for _ in range(int(repeats))])
    else:
        seconds = at_once([partial(upload, path)] * int(uploads))
    used, memory = usage(pids) - before, peak(os.getpid()) - idle
    found = {"seconds": seconds, "cpu": used.cpu}
    found = {name: value / int(repeats) for name, value in found.items()}
    print(json.dumps({**found, "memory": memory}), flush=True)


def _make_upload(url: str, bucket: str) -> Callable[[Path], None]:
    storage = open_storage(GCloudOptions(bucket, endpoint_url=url))

    def upload(path: Path) -> None:
        with path.open("rb", buffering=0) as file:
            staged = storage.stage(NewFile("file"))
            while chunk := file.read(_CHUNK):
                staged.write(chunk)
            staged.finish()

    return upload


def _make_library_upload(url: str, bucket: str) -> Callable[[Path], None]:
    os.environ["DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"] = "true"
    client = Client("benchmark", AnonymousCredentials(), client_options={"api_endpoint": url})

    def upload(path: Path) -> None:
        with path.open("rb") as file:
            blob = client.bucket(bucket).blob(str(uuid4()))
            blob.upload_from_file(file, if_generation_match=0, size=path.stat().st_size)

    return upload


if __name__ == "__main__":
    main()
