"""Programs that are forked (tests/support/servers/forked.py)."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.servers import forked

MODULES = f"""
import json, sys
print(json.dumps([name for name in {forked.IMPORTED} if name not in sys.modules]))
"""

SERVICES = """
import collections, json, kinto
from kinto.core.cornice.service import SERVICES
kinto.main({}, config=None)
counts = collections.Counter(service.name for service in SERVICES)
print(json.dumps([name for name, count in counts.items() if count > 1]))
"""


@pytest.mark.parametrize("code", [MODULES, SERVICES], ids=["modules", "services"])
def test_all_is_imported_and_no_service_is_there_twice(code: str) -> None:
    done = forked.run(["-c", code], os.environ)

    assert json.loads(done.stdout) == [], done.stderr


def test_kinto_finds_the_ini_file_of_its_environment() -> None:
    code = "from kinto.__main__ import DEFAULT_CONFIG_FILE; print(DEFAULT_CONFIG_FILE)"

    done = forked.run(["-c", code], {**os.environ, "KINTO_INI": "/of/the/environment.ini"})

    assert done.stdout == "/of/the/environment.ini\n", done.stderr


def test_the_status_and_both_outputs_come_back() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"

    done = forked.run(["-c", code])

    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
