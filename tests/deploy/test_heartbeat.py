"""What kinto@.service asks before a node listens."""

from __future__ import annotations

import runpy
from typing import Any

import pytest
from webob import Response

from tests.support.deploy.installation import DEPLOY


@pytest.mark.parametrize(("failures", "status"), [(0, 0), (2, 0), (99, 1)])
def test_one_bad_heartbeat_keeps_no_node_from_starting(monkeypatch, capsys, failures, status):
    """Two nodes that start together ask at the same time, which Kinto's cache does not bear."""
    asked: list[int] = []

    def app(environ: Any, start_response: Any) -> Any:
        asked.append(1)
        return Response(status=503 if len(asked) <= failures else 200)(environ, start_response)

    monkeypatch.setattr("pyramid.paster.get_app", lambda ini: app)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    heartbeat = runpy.run_path(str(DEPLOY / "etc/kinto/heartbeat.py"))

    assert heartbeat["main"]("/etc/kinto/kinto.ini") == status
    assert len(asked) == min(failures + 1, heartbeat["TRIES"])
    assert ("503" in capsys.readouterr().err) == bool(status)
