"""The benchmark: its arithmetic, its table and plot, and that it still runs."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest
from docutils.core import publish_doctree

from benchmarks import downloads, last_look, report, resumable
from benchmarks.bars import bars, growth_of
from benchmarks.client import GIB, MIB
from benchmarks.in_server import seeded
from benchmarks.samples import Samples, percentile
from benchmarks.servers import PLAIN, RELEASED, THIS

CHECKOUT = Path(__file__).parents[2]
GIBIBYTE = {"size": GIB, "server": "waitress", "bucket": "b"}


@pytest.fixture
def samples():
    """Two uploads of 1 GiB, of which the second took longer, in each of three runs."""
    samples = Samples({"CPU": "of the test"})
    for run, slowness in enumerate((1, 2, 10)):
        for subject, seconds in ((THIS, 3), (RELEASED, 12)):
            samples.add(
                *("size", subject, run, GIBIBYTE),
                seconds=seconds * slowness,
                cpu=2,
                memory=seconds * MIB,
                written=2,
            )
    return samples


def test_a_ratio_is_that_of_one_run(samples):
    samples.add("size", THIS, 3, GIBIBYTE, seconds=1000)

    assert samples.ratio("size", GIBIBYTE, "seconds", RELEASED, THIS) == 4


def test_what_was_not_measured_has_no_figure(samples):
    assert samples.median("size", PLAIN, GIBIBYTE, "seconds") is None
    assert samples.ratio("size", GIBIBYTE, "seconds", PLAIN, THIS) is None


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1, 100), (0.001, 1)])
def test_percentiles_are_values_that_were_measured(share, expected):
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_samples_survive_being_written(samples, tmp_path):
    samples.to_json(tmp_path / "results.json")

    assert Samples.from_json(tmp_path / "results.json") == samples


def test_a_section_is_measured_anew_without_the_others(samples):
    again = Samples()
    again.add("small", THIS, 0, {"clients": 1}, rate=5)
    samples.replace("small", again)
    samples.replace("size", again)

    assert [sample.section for sample in samples.samples] == ["small"]


def test_growth_leaves_out_what_plain_kinto_takes_more():
    samples = Samples()
    for subject, none, many in ((THIS, 10, 17), (PLAIN, 4, 9)):
        for count, seconds in ((0, none), (1000, many)):
            case = {"backend": "memory", "attachments": count}
            samples.add("growth", subject, 0, case, put=seconds, upload=seconds)

    assert growth_of(samples, "memory", THIS, "upload", 1000) == 1.2


def test_the_worst_case_decides_about_a_bar(samples):
    default = {**GIBIBYTE, "bucket": "default"}
    for subject, seconds in ((THIS, 5), (RELEASED, 10)):
        samples.add("size", subject, 0, default, seconds=seconds, cpu=4, memory=0, written=2)
    faster, *_ = bars(samples)

    assert (faster.worst, faster.best, faster.reached) == (2, 4, False)


def test_the_table_is_well_formed_and_has_the_figures(samples):
    table = report.text(samples)
    document = publish_doctree(table, settings_overrides={"report_level": 2, "halt_level": 2})

    assert "6.00 s / 24.0 s" in document.astext()
    assert "3.00 MiB / 12.0 MiB" in document.astext()


def test_a_resumable_upload_stands_beside_a_plain_one_and_another_server(samples):
    case = {
        "size": 500 * MIB,
        "client": "tuspy",
        "storage": "local",
        "server": "gunicorn",
        "backend": "memory",
    }
    add = functools.partial(samples.add, resumable.NAME, run=0, case=case)
    add(THIS, seconds=5, cpu=2, memory=20 * MIB)
    add(resumable.PLAIN_UPLOAD, seconds=2.5, cpu=1, memory=3 * MIB)
    add(resumable.TUS_SERVER, seconds=10, peak=120 * MIB)

    table = report.text(samples)
    (memory,) = [bar for bar in bars(samples) if bar.what == "memory over idle, one upload"]

    assert "100 / 200 / 50.0" in table
    assert "20.0 MiB / 120 MiB" in table
    assert resumable.against(samples, resumable.PLAIN_UPLOAD, case) == 0.5
    assert resumable.against(samples, resumable.TUS_SERVER, case) == 2
    assert (memory.worst, memory.reached) == (20, False)


def test_a_download_stands_beside_a_bare_response(samples):
    case = {"size": GIB, "server": "gunicorn"}
    samples.add(downloads.NAME, THIS, 0, case, seconds=1.2, cpu=0.5, memory=2 * MIB)
    samples.add(downloads.NAME, downloads.BARE, 0, case, seconds=1, cpu=0.4, memory=0)

    *_, ratio, memory = bars(samples)

    assert (ratio.worst, ratio.reached) == (1.2, True)
    assert (memory.worst, memory.reached) == (2, True)
    assert "500 ms / 400 ms" in report.text(samples)


def test_the_last_look_stands_beside_the_requests_that_take_it():
    samples = Samples()
    files, look = last_look.DELETE + last_look.FILES, last_look.DELETE + last_look.LOOK
    for count, seconds in ((0, 0.01), (1000, 0.011)):
        case = {"backend": "postgresql", "attachments": count}
        values = {files: seconds, look: 0.002, last_look.PUT + last_look.LOOK: seconds / 10_000}
        samples.add(last_look.NAME, THIS, 0, case, **values)

    delete, nothing = bars(samples)

    assert (delete.worst, delete.reached) == (pytest.approx(1.1), True)
    assert (nothing.worst, nothing.reached) == (pytest.approx(0.0011), True)
    assert "2.00 ms" in report.text(samples)


def test_the_plot_is_the_same_for_the_same_figures(samples, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        report.write(samples, folder)

    assert "One upload, local disk" in (first / "results.svg").read_text()
    assert (first / "results.svg").read_bytes() == (second / "results.svg").read_bytes()


def test_seeds_are_the_rows_of_an_upload_with_other_names():
    values = seeded.names("the-record", "f.bin")
    rows = [
        ["objects", "row", f"parent/{values['@digest-of-name@']}", "files", '{"name": "f.bin"}'],
        ["objects", "b3c1d1a4-0000-4000-8000-000000000000", "links", "of the-record"],
        ["timestamps", "of", "all"],
    ]
    of_one = seeded.template(rows, "the-record", "f.bin")
    made = list(seeded.rows(of_one, 3))

    assert [row[0] for row in of_one] == ["objects", "objects"]
    assert len(made) == 6
    assert len({row[2] for row in made if row[1] == "row"}) == 3


@pytest.mark.apart
def test_a_section_runs_by_itself(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "size", "--quick", "--alone"]
    subprocess.run([*command, "--runs", "1", "--output", str(tmp_path)], check=True, cwd=CHECKOUT)

    samples = Samples.from_json(tmp_path / "results.json")
    assert {sample.section for sample in samples.samples} == {"size"}
    assert samples.median("size", THIS, {**GIBIBYTE, "size": MIB}, "seconds") > 0
    assert "1 MiB" in (tmp_path / "results.rst").read_text()
