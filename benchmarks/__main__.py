"""``python -m benchmarks [SECTION...] [--runs N] [--quick]``: ``make bench`` calls it."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path

from benchmarks import (
    downloads,
    gcloud,
    growth,
    last_look,
    many,
    report,
    resumable,
    s3,
    size,
    small,
)
from benchmarks.machine import describe
from benchmarks.samples import Samples
from benchmarks.servers import Workbench

CHECKOUT = Path(__file__).resolve().parent.parent
SECTIONS = {
    section.NAME: section
    for section in (size, small, growth, last_look, s3, gcloud, many, resumable, downloads)
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--runs", type=int, default=3, help="medians are of that many")
    parser.add_argument("--quick", action="store_true", help="less of everything, to try it out")
    parser.add_argument("--alone", action="store_true", help="without the released plugin")
    parser.add_argument("--output", type=Path, help="folder of the results")
    parser.add_argument("--report", action="store_true", help="only table and plot, of the data")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    # Whoever stops it, also in the background, stops the servers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = CHECKOUT / "benchmarks" / "results"
    output = arguments.output or (CHECKOUT / "build" / "bench" if arguments.quick else results)
    output.mkdir(parents=True, exist_ok=True)
    data = output / "results.json"
    if not arguments.report:
        _measure(arguments, data)
    report.write(Samples.from_json(data), output)
    print((output / "results.rst").read_text())


def _measure(arguments: argparse.Namespace, data: Path) -> None:
    samples = Samples()
    environment, downloads = CHECKOUT / ".venv-released", CHECKOUT / "build" / "downloads"
    runs, quick, alone = arguments.runs, arguments.quick, arguments.alone
    with Workbench(samples, runs, quick, environment, downloads, alone) as bench:
        samples.machine = describe(bench)
        for name in arguments.sections or SECTIONS:
            start = time.monotonic()
            print(f"{name}...", flush=True)
            try:
                SECTIONS[name].measure(bench)
            finally:
                # What was measured before it failed, or before somebody interrupted it, counts.
                _save(samples, name, data)
            print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)


def _save(samples: Samples, section: str, data: Path) -> None:
    """Put what was measured of a section in the place of what was known of it."""
    known = Samples.from_json(data)
    known.machine = samples.machine
    known.replace(section, samples)
    known.to_json(data)


if __name__ == "__main__":
    main()
