"""``make check`` and the rest: every test is in one of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.groups import FIRST, group_of
from tests.support.servers import forked

# It runs pytest itself.
pytestmark = pytest.mark.apart

CHECKOUT = Path(__file__).parents[2]

TESTS = """
import pytest

@pytest.fixture
def postgresql(): ...
@pytest.fixture
def database(postgresql): ...
@pytest.fixture(params=["memory", "postgresql"])
def backend(request): return request.param
@pytest.fixture(params=["local", "moto", "seaweedfs", "gcloud"])
def storage(request): return request.param

def test_of_a_function(): ...
def test_of_a_row(database): ...
def test_of_a_view(backend): ...
def test_of_a_store(storage): ...
@pytest.mark.sampled
@pytest.mark.parametrize("text", ["a", "b", "c"])
def test_of_a_form(backend, text): ...
@pytest.mark.apart
def test_of_what_it_starts(): ...
"""

FAILING = """
import pytest

def test_that_fails(): assert False
@pytest.mark.apart
@pytest.mark.parametrize("number", range(3))
def test_of_a_server(number): ...
"""

FAILING_LATER = """
import pytest

def test_that_passes(): ...
@pytest.mark.apart
@pytest.mark.parametrize("number", range(3))
def test_of_a_server(number): assert number == 2
"""

# A test that the fixtures do not tell apart.
HIDDEN = """
import pytest

@pytest.fixture
def moto(): ...

def test_of_what_it_asks_for(request): request.getfixturevalue("moto")
"""


def run(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """The status of pytest, and the lines that it printed."""
    finished = forked.run(
        [
            *("-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(folder)),
            *("-p", "no:cacheprovider", "-p", "tests.support.parts"),
            *("-W", "ignore::pytest.PytestUnknownMarkWarning", *arguments, str(folder)),
        ],
        # Installed plugins take longer than the tests.
        {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        CHECKOUT,
    )
    return finished.returncode, finished.stdout.splitlines()


def names(folder: Path, *arguments: str) -> list[str]:
    _, lines = run(folder, "--collect-only", *arguments)
    return [line.rpartition("::")[2] for line in lines if "::" in line]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "test_them.py").write_text(TESTS)
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "test_a_site.py").write_text("def test_of_a_site(): ...")
    return tmp_path


def test_the_first_part_needs_no_server(folder):
    assert names(folder, "--part=check") == [
        "test_of_a_function",
        "test_of_a_view[memory]",
        "test_of_a_store[local]",
        "test_of_a_form[memory-a]",
        "test_of_a_form[memory-b]",
        "test_of_a_form[memory-c]",
    ]


def test_the_rest_is_all_else(folder):
    both = names(folder, "--part=check") + names(folder, "--part=rest")

    assert len(both) == 14
    assert sorted(both) == sorted(names(folder))


def test_both_are_one_after_the_other(folder):
    both = names(folder, "--part=check") + names(folder, "--part=rest")

    assert names(folder, "--part=both") == both


def test_what_the_first_part_finds_ends_the_run_before_the_rest(tmp_path):
    (tmp_path / "test_them.py").write_text(FAILING)

    status, lines = run(tmp_path, "--part=both")

    assert status == 1
    assert "The first part has failed." in lines[-1]
    assert lines[-2].startswith("1 failed in ")


def test_what_a_worker_finds_in_the_first_part_ends_the_run_of_all(tmp_path):
    (tmp_path / "test_them.py").write_text(FAILING)

    status, lines = run(tmp_path, "--part=both", "-p", "xdist", "-n", "2")

    assert status == 1
    assert "The first part has failed." in lines[-1]
    assert any(" test_that_fails " in line for line in lines)


def test_what_the_rest_finds_does_not_end_it(tmp_path):
    (tmp_path / "test_them.py").write_text(FAILING_LATER)

    status, lines = run(tmp_path, "--part=both")

    assert status == 1
    assert lines[-1].startswith("2 failed, 2 passed in ")


def test_a_sampled_test_has_one_case_in_postgresql(folder):
    cases = ["test_of_a_form[postgresql-a]", "test_of_a_form[postgresql-b]"]

    assert set(cases) & set(names(folder, "--part=rest")) == {cases[0]}
    # The one that is asked for.
    assert set(cases) & set(names(folder, "-k", "postgresql-b")) == {cases[1]}


@pytest.mark.parametrize("part", ["check", "both"])
def test_a_server_in_the_first_part_is_a_failure(tmp_path, part):
    (tmp_path / "test_hidden.py").write_text(HIDDEN)

    status, lines = run(tmp_path, f"--part={part}")

    assert status == 1
    assert "test_of_what_it_asks_for uses moto: mark it as apart" in "\n".join(lines)
    assert run(tmp_path, "--part=rest")[0] == 5


def test_what_looks_at_the_plugin_from_outside_is_not_traced():
    """Neither by coverage, which makes it slow: see tests/support/measured.py."""
    assert sys.gettrace() is None


def test_what_takes_long_to_set_up_is_set_up_in_one_worker():
    restarts = Path("tests/deploy/test_restarts.py")

    assert group_of(restarts, {"site"}, {"site": "s3"}) == "deploy-s3"
    assert group_of(Path("tests/live/test_links.py"), {"site"}, {"site": "s3_site"}) == "live"
    assert group_of(Path("tests/clients/test_screenshots.py"), {"browser"}, {}) == "browser"
    demo = Path("tests/clients/demo/test_files.py")
    assert group_of(demo, {"browser"}, {}) == "browser-demo"
    assert group_of(Path("tests/tus/test_record.py"), {"moto"}, {}) == "tests/tus/test_record.py"


def test_the_groups_that_begin_first_are_there():
    files = [name for name in FIRST if "/" in name]

    assert [name for name in files if not (CHECKOUT / name).exists()] == []
