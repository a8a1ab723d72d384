"""What those do who look after the site."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import requests
from docutils.core import publish_doctree
from requests.adapters import HTTPAdapter

from tests.deploy.conftest import Body
from tests.support.deploy.installation import DEPLOY
from tests.support.deploy.units import Unit

README = (DEPLOY / "README.rst").read_text()
on_the_disk = pytest.mark.parametrize("site", ["disk"], indirect=True)


class FromElsewhere(HTTPAdapter):
    """Sends requests from another address than 127.0.0.1."""

    def init_poolmanager(self, *arguments, **options):
        super().init_poolmanager(*arguments, source_address=("127.0.0.2", 0), **options)


@pytest.fixture
def from_elsewhere():
    with requests.Session() as session:
        session.mount("http://", FromElsewhere())
        yield session


def test_the_heartbeat_says_that_all_is_well(site):
    answer = site.request("GET", "__heartbeat__", auth=None)

    assert answer.status_code == 200
    assert answer.json() == dict.fromkeys(("attachments", "cache", "permission", "storage"), True)


def test_each_node_has_metrics_of_its_own(site):
    site.request("GET", "buckets/b").raise_for_status()

    for port in site.installation.nodes:
        answer = requests.get(f"http://127.0.0.1:{port}/v1/__metrics__", timeout=60)
        assert "kinto_request_summary_total" in answer.text


@pytest.mark.parametrize("path", ["__heartbeat__", "__metrics__"])
def test_strangers_see_neither(site, from_elsewhere, path):
    assert from_elsewhere.get(f"{site.url}/v1/", timeout=60).status_code == 200
    assert from_elsewhere.get(f"{site.url}/v1/{path}", timeout=60).status_code == 403


def test_nodes_take_turns_and_both_logs_name_the_request(site):
    for _ in range(4):
        site.request("GET", "buckets/b?turn").raise_for_status()

    lines = site.installation.served("buckets/b?turn", 4)
    for port in site.installation.nodes:
        served = {line["id"] for line in lines if line["node"] == f"127.0.0.1:{port}"}
        logged = site.installation.node(port).log.read_text().splitlines()
        summaries = [json.loads(line) for line in logged if '"request.summary"' in line]
        assert len(served) == 2
        assert served <= {summary["Fields"]["rid"] for summary in summaries}


def test_the_check_says_that_all_is_well(site):
    site.attach(b"to be checked", "checked.txt", "checked")
    done = site.installation.unit("kinto-attachment-check.service").run()

    assert done.returncode == 0, done.stdout + done.stderr


@on_the_disk
def test_what_was_left_over_is_deleted_and_nothing_else(site):
    location = site.attach(b"to be kept", "kept.txt", "kept")
    left_over = site.installation.files / "0d1b2c3d-0000-4000-8000-000000000000.txt"
    left_over.write_text("of a killed server")
    os.utime(left_over, (0, 0))
    told = site.installation.unit("kinto-attachment-check.service").run()
    done = site.installation.unit("kinto-attachment-gc.service").run()

    assert (told.returncode, left_over.name in told.stdout) == (1, True), told.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert not left_over.exists()
    assert requests.get(location, timeout=60).text == "to be kept"


@on_the_disk
def test_one_node_is_not_missed_and_without_any_clients_are_told_to_come_again(site):
    installation = site.installation
    one, other = installation.nodes
    installation.node(one).stop()
    with_one = [site.upload(Body(1), f"with-one-{number}") for number in range(3)]
    installation.node(other).stop()
    with_none = site.upload(Body(1), "with-none")
    for port in installation.nodes:
        installation.node(port).start()
    for port in installation.nodes:
        installation.wait_for(port)

    assert [answer.status_code for answer in with_one] == [201] * 3
    assert (with_none.status_code, with_none.json()["errno"]) == (503, 201)
    assert with_none.headers["Retry-After"] == "10"
    assert with_none.headers["Access-Control-Allow-Origin"] == "*"
    assert site.upload(Body(1), "with-both").status_code == 201


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not there")
def test_systemd_understands_the_units(tmp_path):
    for path in (DEPLOY / "etc/systemd/system").iterdir():
        # It looks for the programs.
        (tmp_path / path.name).write_text(
            path.read_text().replace("/opt/kinto/bin/", "/bin/true ")
        )
    units = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_readme_is_valid():
    publish_doctree(README, settings_overrides={"halt_level": 2, "report_level": 2})


def test_the_readme_names_every_file():
    files = [
        path for path in (DEPLOY / "etc").rglob("*") if path.is_file() and path.suffix != ".pyc"
    ]

    assert len(files) > 10
    assert [path.name for path in files if f"``{_shown(path)}``" not in README] == []


@pytest.mark.parametrize("name", ["check", "gc"])
def test_cron_runs_what_the_timers_run(tmp_path, name):
    units = DEPLOY / "etc/systemd/system"
    command = Unit(units, f"kinto-attachment-{name}.service", tmp_path).service["ExecStart"]

    assert re.search(rf"^    [0-9* ]+  {re.escape(command)}$", README, re.MULTILINE)


def _shown(path: Path) -> str:
    return str(path.relative_to(DEPLOY / "etc"))
