"""A whole folder there and back, and files that would not fit into the memory."""

from __future__ import annotations

import random

import pytest

from tests.scripts.conftest import record_id
from tests.support.servers.kinto import LiveKinto

MEGABYTE = 1024 * 1024
EXTENSIONS = [".txt", ".json", ".bin", "", ".tar.gz", ".été", ".svg"]


def make_files(folder, count):
    """Files of all kinds: empty ones, around the size of a chunk, and a few larger ones."""
    chance = random.Random(38)  # noqa: S311
    sizes = [0, 1, 255, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1]
    for number in range(count):
        size = sizes[number % 20] if number % 20 < len(sizes) else chance.randrange(20_000)
        content = chance.randbytes(size) if number % 2 else b"all the same " * (size // 13)
        (folder / f"file {number}{EXTENSIONS[number % len(EXTENSIONS)]}").write_bytes(content)


def test_a_folder_comes_back_byte_for_byte(upload, download, local, target):
    make_files(local, 220)
    paths = sorted(path.name for path in local.iterdir())
    plain, compressed = paths[::2], paths[1::2]

    assert upload(*plain).summary.startswith("uploaded 110, unchanged 0, failed 0,")
    assert upload("--gzip", *compressed).summary.startswith("uploaded 110, unchanged 0, failed 0,")
    assert download().summary.startswith("downloaded 220, unchanged 0, failed 0,")
    assert sorted(path.name for path in target.iterdir()) == sorted([*paths, ".last_sync"])
    for name in paths:
        assert (target / name).read_bytes() == (local / name).read_bytes()


@pytest.fixture
def streaming_kinto(settings):
    """A Kinto that takes a body as it comes. The others would write it to the disk twice."""
    with LiveKinto(settings, "gunicorn", worker_class="gthread") as kinto:
        yield kinto


def test_memory_does_not_grow_with_the_size_of_a_file(
    upload, download, kinto, local, target, streaming_kinto
):
    kinto.url = streaming_kinto.url
    for name, size in [("small", 1), ("medium", 32 * MEGABYTE), ("large", 256 * MEGABYTE)]:
        # Zeros, which take no space on the disk.
        with (local / name).open("wb") as stream:
            stream.truncate(size)
    # Over several requests, by a library that takes some memory itself.
    assert upload.peak("large") < 80 * MEGABYTE
    kinto.delete(record_id("large"))
    up = [upload.peak("--resumable-over", "1024", "large")]
    kinto.delete(record_id("large"))
    up.append(upload.peak("small"))
    down = [download.peak()]
    for options in ([], ["--gzip"]):
        up.append(upload.peak(*options, "medium"))
        down.append(download.peak())
        assert (target / "medium").stat().st_size == 32 * MEGABYTE
        (target / "medium").unlink()

    for peaks in (up, down):
        assert max(peaks) < 80 * MEGABYTE
        assert max(peaks) - min(peaks) < 5 * MEGABYTE
