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

from tests.deploy.conftest import Body
from tests.support.deploy.installation import DEPLOY
from tests.support.deploy.units import Unit

README = (DEPLOY / "README.rst").read_text()
on_the_disk = pytest.mark.parametrize("site", ["disk"], indirect=True)


@pytest.fixture
def from_elsewhere():
    with requests.Session() as session:
        session.headers["X-Test-Client"] = "192.0.2.1"
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


@pytest.mark.parametrize(
    "path", ["/__heartbeat__", "/__metrics__", "/__metrics__/", "/__heart%62eat__"]
)
def test_strangers_see_neither_in_a_batch(site, from_elsewhere, path):
    batch = {"requests": [{"path": path}, {"path": "/"}]}
    answer = from_elsewhere.post(f"{site.url}/v1/batch", json=batch, timeout=60)

    assert [each["status"] for each in answer.json()["responses"]] == [400, 200]
    assert "kinto_request" not in answer.text


def test_metrics_do_not_grow_with_the_records(site):
    for number in range(4):
        record = {"data": {"id": f"metric-{number}"}}
        site.request("POST", "buckets/b/collections/c/records", json=record).raise_for_status()
        site.request("GET", f"buckets/b/collections/c/records/metric-{number}").raise_for_status()

    for port in site.installation.nodes:
        metrics = requests.get(f"http://127.0.0.1:{port}/v1/__metrics__", timeout=60).text
        assert 'collection_id="c"' in metrics
        assert "metric-" not in metrics
        assert "record_id" not in metrics


def test_a_restart_of_postgresql_is_over_when_it_is_over(site):
    def ask():
        return [site.request("GET", "buckets/b/collections/c").status_code for _ in range(8)]

    assert ask() == [200] * 8
    site.installation.disconnect()

    assert ask() == [200] * 8
    assert site.upload(Body(1), "after-the-restart").status_code == 201


@on_the_disk
def test_a_node_with_a_wrong_setting_does_not_start_and_the_other_goes_on(site):
    installation = site.installation
    ini = installation.root / "etc/kinto/kinto.ini"
    right = ini.read_text()
    port = installation.nodes[0]
    node = installation.node(port)
    node.stop()
    try:
        for wrong, sentence in (
            ("kinto.attachment.max_size_bytes = many", "max_size_bytes"),
            ("kinto.attachment.base_path = /proc/files", '"attachments": ?false|base_path'),
        ):
            name = wrong.split(" = ")[0]
            ini.write_text(re.sub(rf"(?m)^{name} = .*$", wrong, right))
            with pytest.raises(RuntimeError, match=sentence):
                node.start()
            with pytest.raises(requests.ConnectionError):
                requests.get(f"http://127.0.0.1:{port}/v1/", timeout=5)
            assert site.upload(Body(1), "with-one-node").status_code in (200, 201)
    finally:
        ini.write_text(right)
        node.start()
        installation.wait_for(port)


@on_the_disk
def test_a_node_that_is_started_answers(site):
    installation = site.installation
    port = installation.nodes[0]
    installation.node(port).stop()
    installation.node(port).start()
    installation.node(port).wait_until_ready()

    answer = requests.get(f"http://127.0.0.1:{port}/v1/__heartbeat__", timeout=5)
    assert answer.status_code == 200


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


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not there")
@pytest.mark.parametrize(
    "path", sorted((DEPLOY / "etc/systemd/system").glob("*.service")), ids=lambda path: path.name
)
def test_the_units_have_no_right_that_they_do_not_need(tmp_path, path):
    # A template has to have an instance.
    unit = tmp_path / path.name.replace("@", "@8001")
    unit.write_text(path.read_text().replace("/opt/kinto/bin/", "/bin/true "))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)],
        capture_output=True,
        text=True,
    )

    # 1.5 of 10.
    assert done.returncode == 0, done.stdout + done.stderr


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

    as_kinto = re.escape(f"kinto  set -a; . /etc/kinto/kinto.env; {command}")
    assert re.search(rf"^    [0-9* ]+  {as_kinto}$", README, re.MULTILINE)


def _shown(path: Path) -> str:
    return str(path.relative_to(DEPLOY / "etc"))
