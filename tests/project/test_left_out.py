"""What a run says of the tests that it left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.servers import forked

CHECKOUT = Path(__file__).parents[2]

TESTS = """
import pytest

clients = pytest.mark.clients

@pytest.fixture(scope="module")
def browser():
    pytest.skip("there is no browser")

@clients
def test_of_a_page(browser): ...
@clients
def test_of_a_form(browser): ...
def test_of_what_root_may(): pytest.skip("root may do everything")
def test_of_anything(): ...
@clients
def test_of_what_cannot_be(): pytest.xfail("it cannot be")
"""


@pytest.fixture
def run(tmp_path):
    """``run(ci)`` runs ``TESTS``, in CI or elsewhere; returns the status and the last lines."""
    (tmp_path / "test_them.py").write_text(TESTS)

    def run(ci: str) -> tuple[int, list[str]]:
        finished = forked.run(
            [
                *("-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tmp_path)),
                *("-p", "no:cacheprovider", "-p", "tests.support.left_out"),
                *("-W", "ignore::pytest.PytestUnknownMarkWarning", str(tmp_path)),
            ],
            # Installed plugins take longer than the tests.
            {**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            CHECKOUT,
        )
        return finished.returncode, finished.stdout.splitlines()

    return run


@pytest.mark.parametrize("ci", ["", "false"])
def test_the_last_lines_name_them_and_say_why(run, ci):
    status, lines = run(ci)

    assert status == 0
    assert "2 left out: there is no browser" in lines[-6]
    assert lines[-5:-3] == ["test_them.py::test_of_a_page", "test_them.py::test_of_a_form"]
    assert "1 left out: root may do everything" in lines[-3]
    assert lines[-2] == "test_them.py::test_of_what_root_may"
    assert lines[-1].startswith("1 passed, 3 skipped, 1 xfailed in ")


def test_ci_fails_for_those_that_need_only_an_installation(run):
    status, lines = run("true")

    assert status == 1
    assert lines[-1].startswith("1 passed, 1 skipped, 1 xfailed, 2 errors")
    assert "CI leaves no test out: there is no browser" in "\n".join(lines)
