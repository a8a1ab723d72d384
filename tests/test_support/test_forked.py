"""Programs that are forked (tests/support/servers/forked.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import forked

MODULES = f"""
import json, sys
print(json.dumps([name for name in {forked.IMPORTED} if name not in sys.modules]))
"""

SERVICES = """
import json, kinto
from kinto.core.cornice.service import SERVICES
kinto.main({}, config=None)
print(json.dumps(sorted(service.name for service in SERVICES)))
"""


def test_all_is_imported() -> None:
    done = forked.run(["-c", MODULES])

    assert json.loads(done.stdout) == [], done.stderr


def test_kinto_has_the_services_that_it_has_in_a_process_of_its_own() -> None:
    there = forked.run(["-c", SERVICES])
    own = subprocess.run([sys.executable, "-c", SERVICES], capture_output=True, text=True)

    assert json.loads(there.stdout) == json.loads(own.stdout), there.stderr + own.stderr


def test_kinto_finds_the_ini_file_of_its_environment() -> None:
    code = "from kinto.__main__ import DEFAULT_CONFIG_FILE; print(DEFAULT_CONFIG_FILE)"

    done = forked.run(["-c", code], {**os.environ, "KINTO_INI": "/of/the/environment.ini"})

    assert done.stdout == "/of/the/environment.ini\n", done.stderr


def test_the_status_and_both_outputs_come_back() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"

    done = forked.run(["-c", code])

    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_what_takes_too_long_is_killed(tmp_path: Path) -> None:
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"

    with pytest.raises(subprocess.TimeoutExpired):
        forked.run(["-c", code, str(tmp_path / "pid")], timeout=1)

    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()
