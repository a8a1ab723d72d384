"""``--metrics FILE``: the outcome of the last run, for Prometheus."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kinto_attachment.commands.textfile import METRICS
from tests.support.orphans import STRAY, grow_old


@pytest.fixture
def attached(record):
    """A record with a file, and a file that no record references."""
    record.attach(b"content")
    (record.folder / STRAY).write_bytes(b"stray")
    grow_old(record)
    return record


def read(*paths: Path) -> dict[str, float]:
    """What node_exporter's collector makes of the files: ``orphans{kind=kept}``."""
    found: dict[str, float] = {}
    for path in paths:
        for family in text_string_to_metric_families(path.read_text()):
            assert (family.type, family.name in METRICS) == ("gauge", True)
            for sample in family.samples:
                labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
                key = f"{sample.name.removeprefix('kinto_attachments_')}{{{labels}}}"
                # The collector refuses two files with the same.
                assert key not in found
                found[key] = sample.value
    return found


def test_the_outcome_of_a_run_replaces_that_of_the_last(attached, command, tmp_path):
    gc, check = tmp_path / "gc.prom", tmp_path / "check.prom"
    gc.write_text("of the last run")

    command("gc", "--metrics", str(gc))
    assert command("check", "--metrics", str(check)).status == 1

    found = read(gc, check)
    assert found["orphans{kind=unreferenced}"] == 1
    assert found["orphan_bytes{kind=unreferenced}"] == len(b"stray")
    assert found["orphans{kind=foreign}"] == found["orphans{kind=kept}"] == 0
    assert found["problems{problem=unreferenced}"] == 1
    assert found["problems{problem=missing}"] == 0
    assert found["command_status{command=gc}"] == 0
    assert found["command_status{command=check}"] == 1
    assert found["command_timestamp_seconds{command=gc}"] == pytest.approx(time.time(), abs=60)
    assert 0 < found["command_duration_seconds{command=gc}"] < 60
    assert {path.name for path in tmp_path.iterdir()} == {"gc.prom", "check.prom", "kinto.ini"}


def test_a_run_that_was_refused_has_a_status_alone(attached, command, tmp_path):
    path = tmp_path / "gc.prom"

    result = command("gc", "--metrics", str(path), attachment={"base_path": "relative"})

    assert result.status == 2
    found = read(path)
    assert found.pop("command_status{command=gc}") == 2
    assert {key.partition("{")[0] for key in found} == {
        "command_timestamp_seconds",
        "command_duration_seconds",
    }


def test_a_file_that_cannot_be_written_is_told(attached, command, tmp_path):
    result = command("gc", "--metrics", str(tmp_path / "missing" / "gc.prom"))

    assert result.status == 2
    assert "No such file or directory" in result.errors
    assert "files to delete" in result.output


def test_the_metrics_of_running_servers_are_left_alone(attached, command, tmp_path, monkeypatch):
    """Kinto's plugin empties their folder at each start."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    assert command("gc").status == 0
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
