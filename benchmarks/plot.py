"""The plot: one picture for each section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import growth, many, resumable, s3, size, small
from benchmarks.bars import STREAMING
from benchmarks.client import KIB, MIB
from benchmarks.samples import Samples
from benchmarks.servers import BACKENDS, PLAIN, RELEASED, THIS

_COLORS = {
    THIS: "tab:blue",
    RELEASED: "tab:red",
    PLAIN: "tab:gray",
    size.LIMIT: "black",
    s3.BOTO3: "tab:green",
    resumable.PLAIN_UPLOAD: "tab:cyan",
    resumable.TUS_SERVER: "tab:orange",
}
_STYLES = {"waitress": "-", STREAMING: "--"}


def plot(samples: Samples, path: Path) -> None:
    """Draw it as SVG. Text stays text, and the same data make the same file."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "results", "font.size": 9}):
        picture = Figure(figsize=(13, 16), layout="constrained")
        axes = picture.subplots(4, 2)
        _size(samples, axes[0][0], "seconds", "wall time (s)", 1)
        _size(samples, axes[0][1], "memory", "memory over idle (MiB)", MIB)
        _small(samples, axes[1][0])
        _growth(samples, axes[1][1])
        _s3(samples, axes[2][0])
        _many(samples, axes[2][1])
        _resumable(samples, axes[3][0])
        axes[3][1].set_axis_off()
        picture.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _size(samples: Samples, axes: Axes, value: str, label: str, unit: int) -> None:
    cases = [case for case in samples.cases(size.NAME) if case.get("bucket") == "b"]
    for server, style in _STYLES.items():
        for subject in (THIS, RELEASED):
            _line(
                axes,
                [
                    (case["size"], samples.median(size.NAME, subject, case, value))
                    for case in cases
                    if case["server"] == server
                ],
                unit,
                label=f"{subject}, {server}",
                color=_COLORS[subject],
                linestyle=style,
            )
    if value == "seconds":
        sizes = sorted({case["size"] for case in cases})
        limits = [
            (each, samples.median(size.NAME, size.LIMIT, {"size": each}, value)) for each in sizes
        ]
        _line(axes, limits, 1, label="limit", color=_COLORS[size.LIMIT], linestyle=":")
        axes.set_yscale("log")
    else:
        axes.set_yscale("symlog")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("size (bytes)")
    axes.set_ylabel(label)
    axes.set_title("One upload, local disk")
    _legend(axes)


def _small(samples: Samples, axes: Axes) -> None:
    cases = [case for case in samples.cases(small.NAME) if case["size"] == KIB]
    labels = []
    for number, case in enumerate(cases):
        labels.append(f"{case['backend']}\n{case['operation']}\n{case['clients']}")
        for offset, subject in ((-0.2, THIS), (0.2, RELEASED)):
            ratio = samples.ratio(small.NAME, case, "rate", subject, subject + small.PUT)
            label = subject if number == 0 else None
            axes.bar(number + offset, ratio or 0, 0.4, color=_COLORS[subject], label=label)
    axes.set_xticks(range(len(labels)), labels, fontsize=7)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_title("1 KiB: requests per second to those of a plain PUT (below: clients)")
    _legend(axes)


def _growth(samples: Samples, axes: Axes) -> None:
    for backend, style in zip(BACKENDS, ("-", "--"), strict=True):
        cases = [case for case in samples.cases(growth.NAME) if case["backend"] == backend]
        for subject in (THIS, RELEASED, PLAIN):
            operation = "put" if subject == PLAIN else "upload"
            points = [
                (case["attachments"], samples.median(growth.NAME, subject, case, operation))
                for case in cases
            ]
            label = f"{subject}, {operation}, {backend}"
            color = _COLORS[subject]
            _line(axes, points, 0.001, label=label, color=color, linestyle=style)
    axes.set_xscale("symlog", linthresh=1000)
    axes.set_yscale("log")
    axes.set_xlabel("attachments on the server")
    axes.set_ylabel("one upload (ms)")
    axes.set_title("Growth")
    _legend(axes)


def _s3(samples: Samples, axes: Axes) -> None:
    cases = samples.cases(s3.NAME)
    for server, style in _STYLES.items():
        points = [
            (case["size"], samples.median(s3.NAME, THIS, case, "seconds"))
            for case in cases
            if case["server"] == server
        ]
        _line(axes, points, 1, label=f"this, {server}", color=_COLORS[THIS], linestyle=style)
    points = [
        (case["size"], samples.median(s3.NAME, s3.BOTO3, case, "seconds"))
        for case in cases
        if case["server"] == STREAMING
    ]
    _line(axes, points, 1, label="boto3's upload_fileobj", color=_COLORS[s3.BOTO3])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("size (bytes)")
    axes.set_ylabel("wall time (s)")
    axes.set_title("S3")
    _legend(axes)


def _many(samples: Samples, axes: Axes) -> None:
    cases = samples.cases(many.NAME)
    labels = [f"{case['what']}\n{case['server']}" for case in cases]
    for number, case in enumerate(cases):
        for offset, subject in ((-0.2, THIS), (0.2, RELEASED)):
            memory = samples.median(many.NAME, subject, case, "memory")
            label = subject if number == 0 else None
            height = (memory or 0) / MIB
            axes.bar(number + offset, height, 0.4, color=_COLORS[subject], label=label)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yscale("symlog")
    axes.set_ylabel("memory over idle (MiB)")
    axes.set_title(f"{many.AT_ONCE} of 100 MiB at once (peak), {many.IN_A_ROW} in a row (after)")
    _legend(axes)


def _resumable(samples: Samples, axes: Axes) -> None:
    labels = []
    for number, case in enumerate(samples.cases(resumable.NAME)):
        labels.append("\n".join(case[key] for key in ("client", "storage", "server", "backend")))
        for offset, subject in (
            (-0.25, THIS),
            (0, resumable.PLAIN_UPLOAD),
            (0.25, resumable.TUS_SERVER),
        ):
            height = resumable.rate(samples, subject, case) or 0
            label = subject if number == 0 else None
            axes.bar(number + offset, height, 0.25, color=_COLORS[subject], label=label)
    axes.set_xticks(range(len(labels)), labels, fontsize=7)
    axes.set_ylabel("MiB/s")
    axes.set_title("500 MiB in chunks of 5 MiB by a tus client")
    _legend(axes)


def _line(axes: Axes, points: list[tuple[float, float | None]], unit: float, **style: Any) -> None:
    known = [(x, y / unit) for x, y in points if y is not None]
    if known:
        axes.plot(*zip(*known, strict=True), marker="o", markersize=3, **style)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
