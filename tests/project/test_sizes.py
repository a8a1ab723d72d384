"""What docs/operations.rst says that a node needs: not less than the benchmark has measured, and
for the limits of deploy/."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.documents import CHECKOUT

OPERATIONS = (CHECKOUT / "docs/operations.rst").read_text()
TEXT = OPERATIONS.partition("How much a node needs")[2].partition("\nMonitor\n")[0]
ROWS = {
    name: (int(idle), int(each), int(full))
    for name, idle, each, full in re.findall(
        r"^   \* - (.+)\n     - (\d+)\n     - (\d+)\n     - (\d+)$", TEXT, re.MULTILINE
    )
}
SAMPLES = json.loads((CHECKOUT / "benchmarks/results/results.json").read_text())["samples"]


def setting(path: str, pattern: str) -> int:
    """A number in a file of deploy/etc."""
    (found,) = re.findall(pattern, (CHECKOUT / "deploy/etc" / path).read_text(), re.MULTILINE)
    return int(found)


THREADS = setting("kinto/gunicorn.conf.py", r"^threads = (\d+)$")
UPLOADS = setting("nginx/conf.d/kinto.conf", r"limit_conn uploads (\d+);")
MAX_SIZE = setting("kinto/kinto.ini", r"^kinto.attachment.max_size_bytes = (\d+)$")


def measured(section: str, **case: object) -> float:
    """The peak of memory over idle, of 8 uploads at a time, in MiB: the worst run's."""
    values = [
        sample["values"]["memory"]
        for sample in SAMPLES
        if (sample["section"], sample["subject"]) == (section, "this")
        and case.items() <= sample["case"].items()
    ]
    return max(values) / 2**20


@pytest.mark.parametrize(
    ("name", "server"), [("the local disk", "gunicorn"), ("S3", "gunicorn, S3")]
)
def test_an_upload_takes_no_more_memory_than_is_said(name, server):
    assert measured("many", what="at once", server=server) <= 8 * ROWS[name][1]


def test_an_upload_to_google_takes_that_of_gunicorn_besides():
    gunicorn = measured("many", what="at once", server="gunicorn")

    assert measured("gcloud", uploads=8) + gunicorn <= 8 * ROWS["Google Cloud Storage"][1]


def test_the_sums_are_right():
    assert len(ROWS) == 3
    for idle, each, full in ROWS.values():
        assert full == idle + THREADS * each
    local, s3 = (2 * idle + UPLOADS * each for idle, each, _ in list(ROWS.values())[:2])
    assert f"limit_conn uploads {UPLOADS}`` need {local} MiB" in TEXT
    assert f"{s3} MiB with files on S3" in TEXT
    size = f"{UPLOADS} uploads\n  of {MAX_SIZE / 1e9:.0f} GB"
    assert f"{size} (``max_size_bytes``) need {UPLOADS * MAX_SIZE / 1e9:.0f} GB free" in TEXT
