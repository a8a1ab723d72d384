"""The bars to reach, and what was measured of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import downloads, gcloud, growth, last_look, many, resumable, s3, size, small
from benchmarks.client import GIB, MIB
from benchmarks.samples import Samples, median, quotients
from benchmarks.servers import BACKENDS, PLAIN, RELEASED, THIS

STREAMING = "gunicorn"
ONE_UPLOAD = 16 * MIB
FURTHER_UPLOAD = 8 * MIB
DOWNLOAD = 8 * MIB


@dataclass(frozen=True)
class Bar:
    """``measured`` has one figure for each case that the bar is about; the worst one counts."""

    what: str
    bar: float
    at_least: bool
    measured: list[float]
    unit: str = ""

    @property
    def worst(self) -> float:
        return min(self.measured) if self.at_least else max(self.measured)

    @property
    def best(self) -> float:
        return max(self.measured) if self.at_least else min(self.measured)

    @property
    def reached(self) -> bool:
        return self.worst >= self.bar if self.at_least else self.worst <= self.bar


def bars(samples: Samples) -> list[Bar]:
    """The bars of which anything was measured."""
    every = [
        *_of_size(samples),
        *_of_many(samples),
        *_of_small(samples),
        *_of_growth(samples),
        *_of_last_look(samples),
        *_of_s3(samples),
        *_of_resumable(samples),
        *_of_downloads(samples),
        *_of_gcloud(samples),
    ]
    return [bar for bar in every if bar.measured]


def growth_of(
    samples: Samples, backend: str, subject: str, operation: str, count: int
) -> float | None:
    """How many times as long the operation takes with ``count`` attachments than with none.

    What plain Kinto takes more with as many records is not counted: it is that of a PUT for an
    upload.
    """
    none = {"backend": backend, "attachments": 0}
    full = {"backend": backend, "attachments": count}
    own = growth.PLAIN_OPERATIONS.get(operation, operation)
    grown = samples.values(growth.NAME, subject, full, operation)
    start = samples.values(growth.NAME, subject, none, operation)
    grown_plain = samples.values(growth.NAME, PLAIN, full, own)
    start_plain = samples.values(growth.NAME, PLAIN, none, own)
    runs = grown.keys() & start.keys() & grown_plain.keys() & start_plain.keys()
    return median(
        {
            run: (grown[run] - max(0.0, grown_plain[run] - start_plain[run])) / start[run]
            for run in runs
        }
    )


def look_growth_of(samples: Samples, backend: str, subject: str, operation: str) -> float | None:
    """How many times as long the request takes with the most attachments than with none."""
    counts = [case["attachments"] for case in samples.cases(last_look.NAME)]
    grown, start = (
        samples.values(
            last_look.NAME, subject, {"backend": backend, "attachments": count}, operation
        )
        for count in (max(counts, default=0), 0)
    )
    return median(quotients(grown, start))


def against_limit(samples: Samples, case: dict[str, Any]) -> float | None:
    """The wall time of an upload to that of the machine's limit."""
    limit = samples.values(size.NAME, size.LIMIT, {"size": case["size"]}, "seconds")
    return median(quotients(samples.values(size.NAME, THIS, case, "seconds"), limit))


def _of_size(samples: Samples) -> Iterator[Bar]:
    def at(server: str) -> list[dict[str, Any]]:
        return [
            case
            for case in samples.cases(size.NAME)
            if case["size"] == GIB and case.get("server") == server
        ]

    def ratio(case: dict[str, Any]) -> float | None:
        return samples.ratio(size.NAME, case, "seconds", RELEASED, THIS)

    def value(name: str) -> Callable[[dict[str, Any]], float | None]:
        return lambda case: samples.median(size.NAME, THIS, case, name)

    yield Bar(
        "1 GiB local, waitress: times as fast as the released plugin",
        3,
        True,
        _known(map(ratio, at("waitress"))),
    )
    yield Bar(
        "1 GiB local, a server that streams: wall time to the limit's",
        2,
        False,
        _known(against_limit(samples, case) for case in at(STREAMING)),
    )
    memory = [*map(value("memory"), samples.cases(size.NAME))]
    for section in (s3.NAME, resumable.NAME):
        cases = samples.cases(section)
        memory += [samples.median(section, THIS, case, "memory") for case in cases]
    yield Bar("memory over idle, one upload", ONE_UPLOAD / MIB, False, _mib(memory), "MiB")
    for server, bar in (("waitress", 2.05), (STREAMING, 1.05)):
        figures = _known(map(value("written"), at(server)))
        yield Bar(f"bytes written per byte, {server}", bar, False, figures)
    limit = samples.values(size.NAME, size.LIMIT, {"size": GIB}, "cpu")
    cpu = (
        median(quotients(samples.values(size.NAME, THIS, case, "cpu"), limit))
        for server in size.SERVERS
        for case in at(server)
    )
    yield Bar("1 GiB local: server CPU to the limit's", 1.25, False, _known(cpu))


def _of_many(samples: Samples) -> Iterator[Bar]:
    cases = samples.cases(many.NAME)
    at_once = [case for case in cases if case["what"] == "at once"]
    in_a_row = [case for case in cases if case["what"] == "in a row"]
    yield Bar(
        f"memory over idle, {many.AT_ONCE} uploads at a time",
        (ONE_UPLOAD + (many.AT_ONCE - 1) * FURTHER_UPLOAD) / MIB,
        False,
        _mib(samples.median(many.NAME, THIS, case, "memory") for case in at_once),
        "MiB",
    )
    yield Bar(
        f"memory over idle after {many.IN_A_ROW} uploads in a row",
        ONE_UPLOAD / MIB,
        False,
        _mib(samples.median(many.NAME, THIS, case, "memory") for case in in_a_row),
        "MiB",
    )
    yield Bar(
        f"deleted files open after {many.IN_A_ROW} uploads in a row",
        0,
        False,
        _known(samples.median(many.NAME, THIS, case, "open files") for case in in_a_row),
    )


def _of_small(samples: Samples) -> Iterator[Bar]:
    cases = samples.cases(small.NAME)

    def ratios(backend: str, operation: str, subject: str) -> list[float | None]:
        return [
            samples.ratio(small.NAME, case, "rate", subject, subject + small.PUT)
            for case in cases
            if (case["backend"], case["operation"]) == (backend, operation)
        ]

    for backend, operation, bar in (
        ("PostgreSQL", "new", 0.90),
        ("PostgreSQL", "replace", 0.85),
        ("memory", "new", 0.75),
        ("memory", "replace", 0.75),
    ):
        yield Bar(
            f"small uploads, {backend}, {operation}: rate to a plain PUT's",
            bar,
            True,
            _known(ratios(backend.lower(), operation, THIS)),
        )
    for operation in small.OPERATIONS:
        ours, theirs = (ratios("memory", operation, subject) for subject in (THIS, RELEASED))
        yield Bar(
            f"small uploads, memory, {operation}: the same, to the released plugin's",
            1,
            True,
            [
                our / their
                for our, their in zip(ours, theirs, strict=True)
                if our is not None and their is not None
            ],
        )


def _of_growth(samples: Samples) -> Iterator[Bar]:
    most = max((case["attachments"] for case in samples.cases(growth.NAME)), default=0)
    for backend in BACKENDS:
        for operation in ("upload", "replace", "delete"):
            figure = growth_of(samples, backend, THIS, operation, most)
            yield Bar(
                f"{most:,} attachments against none, {backend}, {operation}",
                1.2,
                False,
                _known([figure]),
            )


def _of_last_look(samples: Samples) -> Iterator[Bar]:
    cases = samples.cases(last_look.NAME)
    most = max((case["attachments"] for case in cases), default=0)
    for operation in (last_look.DELETE, last_look.DELETE_MANY):
        what = operation + last_look.FILES
        grown = look_growth_of(samples, "postgresql", THIS, what)
        yield Bar(
            f"{most:,} attachments against none, postgresql, {what}", 1.2, False, _known([grown])
        )
    looks = (
        samples.median(last_look.NAME, THIS, case, last_look.PUT + last_look.LOOK)
        for case in cases
    )
    yield Bar(
        "the last look where no file is given up",
        0.1,
        False,
        [look * 1000 for look in _known(looks)],
        "ms",
    )


def _of_s3(samples: Samples) -> Iterator[Bar]:
    for case in samples.cases(s3.NAME):
        if case["size"] == GIB:
            yield Bar(
                f"S3, 1 GiB, {case['server']}: wall time to upload_fileobj's",
                1.3,
                False,
                _known([samples.ratio(s3.NAME, case, "seconds", THIS, s3.BOTO3)]),
            )
            yield Bar(
                f"server CPU per GiB, S3, {case['server']}",
                3,
                False,
                _known([samples.median(s3.NAME, THIS, case, "cpu")]),
                "s",
            )


def _of_downloads(samples: Samples) -> Iterator[Bar]:
    cases = samples.cases(downloads.NAME)
    of_a_gib = [case for case in cases if case["size"] == GIB]
    for server, target, what in (
        (downloads.SERVER, 1.5, "1 GiB download: wall time to a bare WSGI response's"),
        (downloads.ACCEL, 1.1, "1 GiB download by nginx (accel): wall time to that without Kinto"),
    ):
        ratios = (
            samples.ratio(downloads.NAME, case, "seconds", THIS, downloads.BARE)
            for case in of_a_gib
            if case["server"] == server
        )
        yield Bar(what, target, False, _known(ratios))
    memory = (samples.median(downloads.NAME, THIS, case, "memory") for case in cases)
    yield Bar("memory over idle, one download", DOWNLOAD / MIB, False, _mib(memory), "MiB")


def _of_resumable(samples: Samples) -> Iterator[Bar]:
    for case in samples.cases(resumable.NAME):
        if case["client"] == resumable.ONE_PATCH:
            ratio = samples.ratio(resumable.NAME, case, "seconds", THIS, resumable.PLAIN_UPLOAD)
            where = f"{case['storage']}, {case['server']}, {case['backend']}"
            what = f"tus in one PATCH, {where}: wall time to the plain upload's"
            yield Bar(what, 1.15, False, _known([ratio]))


def _of_gcloud(samples: Samples) -> Iterator[Bar]:
    cases = samples.cases(gcloud.NAME)
    large = [case for case in cases if case["size"] == GIB]
    yield Bar(
        "Google Cloud Storage, 1 GiB: wall time to upload_from_file's",
        1.3,
        False,
        _known(
            samples.ratio(gcloud.NAME, case, "seconds", THIS, gcloud.LIBRARY) for case in large
        ),
    )
    for uploads in (1, gcloud.AT_ONCE):
        memory = (
            samples.median(gcloud.NAME, THIS, case, "memory")
            for case in cases
            if case["uploads"] == uploads
        )
        yield Bar(
            f"Google Cloud Storage, memory over idle, {uploads} at a time",
            (ONE_UPLOAD + (uploads - 1) * FURTHER_UPLOAD) / MIB,
            False,
            _mib(memory),
            "MiB",
        )


def _known(figures: Iterable[float | None]) -> list[float]:
    return [figure for figure in figures if figure is not None]


def _mib(figures: Iterable[float | None]) -> list[float]:
    return [figure / MIB for figure in _known(figures)]
