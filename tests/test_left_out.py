"""What a run says of the tests that it left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent

TESTS = """
import pytest

@pytest.fixture(scope="module")
def browser():
    pytest.skip("there is no browser")

def test_of_a_page(browser): ...
def test_of_a_form(browser): ...
def test_of_anything(): ...
def test_of_what_cannot_be(): pytest.xfail("it cannot be")
"""


@pytest.fixture
def run(tmp_path):
    """``run(ci)`` runs ``TESTS``, in CI or elsewhere; returns the status and the last lines."""
    (tmp_path / "test_them.py").write_text(TESTS)

    def run(ci: str) -> tuple[int, list[str]]:
        finished = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", tmp_path),
                *("-p", "no:cacheprovider", "-p", "tests.left_out", tmp_path),
            ],
            cwd=CHECKOUT,
            env={**os.environ, "CI": ci},
            capture_output=True,
            text=True,
        )
        return finished.returncode, finished.stdout.splitlines()

    return run


@pytest.mark.parametrize("ci", ["", "false"])
def test_the_last_lines_name_them_and_say_why(run, ci):
    status, lines = run(ci)

    assert status == 0
    assert "2 left out: there is no browser" in lines[-4]
    assert lines[-3:] == [
        "test_them.py::test_of_a_page",
        "test_them.py::test_of_a_form",
        "1 passed, 2 skipped, 1 xfailed in " + lines[-1].rpartition(" in ")[2],
    ]


def test_ci_fails_for_them(run):
    status, lines = run("true")

    assert status == 1
    assert lines[-1].startswith("1 passed, 1 xfailed, 2 errors")
    assert "CI leaves no test out: there is no browser" in "\n".join(lines)
