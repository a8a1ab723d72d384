"""Whether the endpoints do as Kinto's ``/__api__`` says, whatever schemathesis asks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.clients.conftest import USER

pytestmark = pytest.mark.clients

CASES = 25
SECONDS = 180

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "response_headers_conformance",
    "body_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


def test_no_request_that_is_made_up_gets_an_answer_that_is_not_named(server, client, tmp_path):
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}__api__"),
        *("--include-path-regex", "/attachment(/link|/uploads/.*)?$"),
        *("--auth", ":".join(USER), "--checks", ",".join(CHECKS)),
        *("--seed", "1", "--max-examples", str(CASES), "--no-shrink", "--continue-on-failure"),
        *(
            "--phases",
            "coverage,fuzzing",
            "--report",
            "har",
            "--report-har-path",
            str(tmp_path / "report.json"),
        ),
    ]
    environ = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "SCHEMATHESIS_HOOKS": "tests.support.clients.made_up_requests",
        "TEST_BUCKET": client.bucket_name,
        "TEST_URL": server.url,
        "TEST_USER": ":".join(USER),
    }

    finished = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=SECONDS
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    seen = answers(tmp_path / "report.json")
    assert min(seen["POST", status] for status in (200, 201, 400, 404)) > 0, seen
    assert min(seen["GET", status] for status in (200, 404, 412)) > 0, seen
    assert seen["GET", 206] + seen["GET", 304] + seen["GET", 416] > 0, seen
    assert min(seen["DELETE", status] for status in (204, 404)) > 0, seen
    assert min(seen["HEAD", status] for status in (200, 404)) > 0, seen
    assert min(seen["PATCH", status] for status in (204, 400, 404, 412)) > 0, seen


def answers(report: Path) -> Counter[tuple[str, int]]:
    """How often each method was answered with each status."""
    entries = json.loads(report.read_text())["log"]["entries"]
    return Counter((each["request"]["method"], each["response"]["status"]) for each in entries)
