"""What a browser shows when its test fails is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.clients

CHECKOUT = Path(__file__).parents[2]

TESTS = """
from pathlib import Path
from tests.clients import conftest
from tests.clients.conftest import *

conftest.PICTURES = Path(__file__).with_name("screenshots")

def test_of_what_is_there(page):
    page.set_content("there")

def test_of_what_is_not(page):
    page.set_content("<h1>What it looks like</h1>")
    assert page.get_by_text("missing").count() == 1
"""


def test_a_failing_run_keeps_a_picture_and_says_where(browser, tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.clients.conftest import *")
    (tmp_path / "test_them.py").write_text(TESTS)

    finished = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", tmp_path),
            *("-p", "no:cacheprovider", tmp_path),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
    )

    picture = tmp_path / "screenshots" / "test-of-what-is-not.png"
    assert "1 failed, 1 passed" in finished.stdout, finished.stdout + finished.stderr
    assert [*picture.parent.iterdir()] == [picture]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in finished.stdout
