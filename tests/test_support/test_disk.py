"""The small disk that other tests fill."""

from __future__ import annotations

import pytest

from tests.support.servers.disk import SmallDisk


def test_a_system_that_gives_none_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RuntimeError, match="no disk of its own"):
        SmallDisk(tmp_path, 1000)
