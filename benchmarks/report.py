"""The table and the plot, of what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tabulate import tabulate

from benchmarks import downloads, gcloud, growth, last_look, many, resumable, s3, size, small
from benchmarks.bars import against_limit, bars, growth_of, look_growth_of
from benchmarks.client import GIB, KIB, MIB
from benchmarks.plot import plot
from benchmarks.samples import Samples
from benchmarks.servers import BACKENDS, PLAIN, RELEASED, THIS

_Rows = list[list[object]]


def write(samples: Samples, folder: Path) -> None:
    """Write ``results.rst`` and ``results.svg``."""
    (folder / "results.rst").write_text(text(samples), encoding="utf-8")
    plot(samples, folder / "results.svg")


def text(samples: Samples) -> str:
    """The report as reStructuredText."""
    parts = [
        "Results\n=======\n",
        "What this means, and how it was measured: ``../README.rst``.\n",
    ]
    parts.append(_table(["", ""], [[name, value] for name, value in samples.machine.items()]))
    parts.append(".. image:: results.svg\n")
    sections = {
        "The bars": _bars,
        "One upload, local disk": _size,
        "Small files against a plain PUT": _small,
        "Growth": _growth,
        "The last look": _last_look,
        "S3": _s3,
        "Google Cloud Storage": _gcloud,
        "Many at a time, and many in a row": _many,
        "Resumable uploads": _resumable,
        "Downloads, local disk": _downloads,
    }
    for title, section in sections.items():
        header, rows = section(samples)
        if rows:
            parts += [f"{title}\n{'-' * len(title)}\n", _table(header, rows)]
    return "\n".join(parts)


def file_size(size: int) -> str:
    """A size in bytes, in the unit that a person would take."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size} B"


def figure(value: float | None, unit: str = "") -> str:
    """A number with three digits that count; nothing where nothing was measured."""
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}".strip()


def milliseconds(value: float | None) -> str:
    return "" if value is None else figure(value * 1000, "ms")


def _table(header: list[str], rows: _Rows) -> str:
    return tabulate(rows, header, tablefmt="rst", disable_numparse=True) + "\n"


def _bars(samples: Samples) -> tuple[list[str], _Rows]:
    rows: _Rows = []
    for bar in bars(samples):
        bound = f"{'>=' if bar.at_least else '<='} {figure(bar.bar, bar.unit)}"
        best = figure(bar.best, bar.unit) if len(bar.measured) > 1 else ""
        verdict = "yes" if bar.reached else "no"
        rows.append([bar.what, bound, figure(bar.worst, bar.unit), best, verdict])
    return ["what", "bar", "measured (worst)", "best", "reached"], rows


def _size(samples: Samples) -> tuple[list[str], _Rows]:
    rows: _Rows = []
    for case in samples.cases(size.NAME):
        if "server" not in case:
            continue
        figures = [
            samples.median(size.NAME, subject, case, name)
            for name in ("seconds", "cpu", "memory", "written")
            for subject in (THIS, RELEASED)
        ]
        seconds, cpu, memory, written = zip(figures[::2], figures[1::2], strict=True)
        limit, limit_cpu = (
            samples.median(size.NAME, size.LIMIT, {"size": case["size"]}, name)
            for name in ("seconds", "cpu")
        )
        rows.append(
            [
                file_size(case["size"]),
                case["server"],
                case["bucket"],
                _both([_seconds(value) for value in seconds]),
                _seconds(limit),
                figure(against_limit(samples, case)),
                _both([_seconds(value) for value in (*cpu, limit_cpu)]),
                _both([_megabytes(value) for value in memory]),
                _both([figure(value) for value in written]),
            ]
        )
    header = ["size", "server", "bucket", "wall time: this / released", "limit"]
    header += ["times the limit", "CPU: this / released / limit"]
    header += ["memory over idle: this / released", "written per byte"]
    return header, rows


def _small(samples: Samples) -> tuple[list[str], _Rows]:
    rows: _Rows = []
    for case in samples.cases(small.NAME):
        row: list[object] = [case["backend"], case["operation"]]
        row += [file_size(case["size"]), case["clients"]]
        for value, shown in (("rate", figure), ("p50", milliseconds), ("p99", milliseconds)):
            of_each = [
                shown(samples.median(small.NAME, subject, case, value))
                for subject in (THIS, RELEASED)
            ]
            row.append(_both(of_each))
        ratios = [
            figure(samples.ratio(small.NAME, case, "rate", subject, subject + small.PUT))
            for subject in (THIS, RELEASED)
        ]
        rows.append([*row, *ratios])
    header = ["backend", "operation", "size", "clients", "requests/s: this / released"]
    return [*header, "p50", "p99", "to a PUT's: this", "released"], rows


def _growth(samples: Samples) -> tuple[list[str], _Rows]:
    rows: _Rows = []
    counts = sorted({case["attachments"] for case in samples.cases(growth.NAME)})
    for backend in BACKENDS:
        for operation in growth.OPERATIONS:
            for subject in (THIS, RELEASED, PLAIN):
                cases = [{"backend": backend, "attachments": count} for count in counts]
                times = [samples.median(growth.NAME, subject, case, operation) for case in cases]
                if not any(times):
                    continue
                grown = growth_of(samples, backend, subject, operation, counts[-1])
                shown = "" if subject == PLAIN else figure(grown)
                rows.append([backend, operation, subject, *map(milliseconds, times), shown])
    header = ["backend", "operation", "plugin", *(f"{count:,}" for count in counts)]
    return [*header, "last to first, less plain Kinto's"], rows


def _last_look(samples: Samples) -> tuple[list[str], _Rows]:
    rows: _Rows = []
    counts = sorted({case["attachments"] for case in samples.cases(last_look.NAME)})
    for backend in BACKENDS:
        cases = [{"backend": backend, "attachments": count} for count in counts]
        for operation in last_look.OPERATIONS:
            for subject in (THIS, PLAIN):
                times = [
                    samples.median(last_look.NAME, subject, case, operation) for case in cases
                ]
                if any(times):
                    grown = look_growth_of(samples, backend, subject, operation)
                    shown = [*map(milliseconds, times), figure(grown)]
                    rows.append([backend, operation, subject, *shown])
    header = ["backend", "request", "plugin", *(f"{count:,}" for count in counts)]
    return [*header, "last to first"], rows


def _s3(samples: Samples) -> tuple[list[str], _Rows]:
    rows: _Rows = []
    for case in samples.cases(s3.NAME):
        rows.append(
            [
                file_size(case["size"]),
                case["server"],
                _seconds(samples.median(s3.NAME, THIS, case, "seconds")),
                _seconds(samples.median(s3.NAME, s3.BOTO3, case, "seconds")),
                figure(samples.ratio(s3.NAME, case, "seconds", THIS, s3.BOTO3)),
                _seconds(samples.median(s3.NAME, THIS, case, "cpu")),
                _megabytes(samples.median(s3.NAME, THIS, case, "memory")),
            ]
        )
    header = ["size", "server", "wall time", "upload_fileobj", "ratio", "CPU"]
    return [*header, "memory over idle"], rows


def _gcloud(samples: Samples) -> tuple[list[str], _Rows]:
    rows: _Rows = []
    shown = {"seconds": _seconds, "cpu": _seconds, "memory": _megabytes, "received": figure}
    for case in samples.cases(gcloud.NAME):
        of_each = [
            _both(
                [
                    show(samples.median(gcloud.NAME, subject, case, value))
                    for subject in (THIS, gcloud.LIBRARY)
                ]
            )
            for value, show in shown.items()
        ]
        ratio = samples.ratio(gcloud.NAME, case, "seconds", THIS, gcloud.LIBRARY)
        rows.append([file_size(case["size"]), case["uploads"], figure(ratio), *of_each])
    header = ["size", "at a time", "ratio", "wall time: this / upload_from_file", "CPU"]
    return [*header, "memory over idle", "bytes received per byte"], rows


def _many(samples: Samples) -> tuple[list[str], _Rows]:
    shown = {
        "memory": _megabytes,
        "peak": _megabytes,
        "unlinked": _megabytes,
        "open files": figure,
    }
    rows: _Rows = []
    for case in samples.cases(many.NAME):
        for name in many.VALUES[case["what"]]:
            show = shown.get(name, _seconds)
            of_each = [
                show(samples.median(many.NAME, subject, case, name))
                for subject in (THIS, RELEASED)
            ]
            rows.append([case["what"], case["server"], many.VALUES[case["what"]][name], *of_each])
    return ["what", "server", "", "this", "released"], list(_without_repeats(rows))


def _resumable(samples: Samples) -> tuple[list[str], _Rows]:
    rows: _Rows = []
    others = (resumable.PLAIN_UPLOAD, resumable.TUS_SERVER)
    for case in samples.cases(resumable.NAME):
        rates = [figure(resumable.rate(samples, subject, case)) for subject in (THIS, *others)]
        rows.append(
            [
                *(case["client"], f"{case['storage']}, {case['server']}, {case['backend']}"),
                _both(rates),
                *(figure(resumable.against(samples, subject, case)) for subject in others),
                _both(
                    [
                        _seconds(samples.median(resumable.NAME, subject, case, "cpu"))
                        for subject in (THIS, resumable.PLAIN_UPLOAD)
                    ]
                ),
                _both(
                    [
                        _megabytes(samples.median(resumable.NAME, subject, case, name))
                        for subject, name in ((THIS, "memory"), (resumable.TUS_SERVER, "peak"))
                    ]
                ),
            ]
        )
    header = ["client", "files, server, objects", "MiB/s: this / plain upload / @tus/server"]
    header += ["this to plain", "to @tus/server", "CPU: this / plain upload"]
    return [*header, "memory: this, over idle / @tus/server, in all"], rows


def _downloads(samples: Samples) -> tuple[list[str], _Rows]:
    rows: _Rows = []
    for case in samples.cases(downloads.NAME):
        seconds, cpu = (
            [
                _seconds(samples.median(downloads.NAME, subject, case, name))
                for subject in (THIS, downloads.BARE)
            ]
            for name in ("seconds", "cpu")
        )
        rows.append(
            [
                *(file_size(case["size"]), case["server"], *seconds),
                figure(samples.ratio(downloads.NAME, case, "seconds", THIS, downloads.BARE)),
                _both(cpu),
                _megabytes(samples.median(downloads.NAME, THIS, case, "memory")),
            ]
        )
    header = ["size", "server", "wall time", "without Kinto", "ratio"]
    return [*header, "CPU: this / without Kinto", "memory over idle"], rows


def _without_repeats(rows: _Rows) -> Iterator[list[object]]:
    before: list[object] = []
    for row in rows:
        yield ["", "", *row[2:]] if row[:2] == before else row
        before = row[:2]


def _both(shown: list[str]) -> str:
    return " / ".join(each or "-" for each in shown)


def _seconds(value: float | None) -> str:
    return milliseconds(value) if value is not None and value < 1 else figure(value, "s")


def _megabytes(value: float | None) -> str:
    return "" if value is None else figure(value / MIB, "MiB")
