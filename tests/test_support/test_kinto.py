"""The Kinto that other tests kill and measure."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests.support.servers.kinto import LiveKinto

SERVERS = [("waitress", {}), ("gunicorn", {"workers": 2, "worker_class": "gthread"})]


@pytest.fixture
def backend():
    return "memory"


@pytest.fixture(params=SERVERS, ids=["waitress", "gunicorn"])
def kinto(request, live_kinto):
    server, options = request.param
    return live_kinto(server, settings={"kinto.project_name": "100% ours"}, **options)


def test_it_answers_with_its_settings(kinto):
    assert requests.get(kinto.url, timeout=10).json()["project_name"] == "100% ours"


def test_its_peak_memory_and_its_writes_are_known(kinto):
    started = kinto.rss()
    kinto.reset_rss()

    assert 10_000_000 < kinto.rss() <= started
    assert kinto.written() > 0


def test_no_process_survives_a_kill(kinto):
    pids = kinto.pids()
    kinto.kill()

    assert not any(_runs(pid) for pid in pids)


def test_no_process_and_no_folder_survives_a_stop(kinto):
    pids = kinto.pids()
    kinto.stop()

    assert not any(_runs(pid) for pid in pids)
    assert not kinto.directory.exists()


def test_a_kinto_that_does_not_start_says_why():
    with pytest.raises(RuntimeError, match="no_such_plugin"):
        LiveKinto({"kinto.includes": "no_such_plugin"})


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
