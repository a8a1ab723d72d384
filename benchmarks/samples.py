"""What was measured, run by run, and the medians and ratios of it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One measurement. ``case`` says of what (``{"size": 1024, "server": "waitress"}``),
    ``subject`` of whom: ``this`` plugin, the ``released`` one, ``plain`` Kinto, the ``limit``...
    """

    section: str
    subject: str
    run: int
    case: dict[str, Any]
    values: dict[str, float]


@dataclass
class Samples:
    """All that was measured on one machine."""

    machine: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def add(
        self, section: str, subject: str, run: int, case: dict[str, Any], **values: float
    ) -> None:
        self.samples.append(Sample(section, subject, run, case, values))

    def cases(self, section: str) -> list[dict[str, Any]]:
        """The cases of a section, each once, in the order in which they were measured first."""
        found: list[dict[str, Any]] = []
        for sample in self.samples:
            if sample.section == section and sample.case not in found:
                found.append(sample.case)
        return found

    def values(
        self, section: str, subject: str, case: dict[str, Any], value: str
    ) -> dict[int, float]:
        """What was measured in each run."""
        return {
            sample.run: sample.values[value]
            for sample in self.samples
            if (sample.section, sample.subject, sample.case) == (section, subject, case)
            and value in sample.values
        }

    def median(self, section: str, subject: str, case: dict[str, Any], value: str) -> float | None:
        """The median of all runs, ``None`` if it was not measured."""
        return median(self.values(section, subject, case, value))

    def ratio(
        self, section: str, case: dict[str, Any], value: str, subject: str, base: str
    ) -> float | None:
        """``subject`` to ``base``: the median of the ratios within a run."""
        above = self.values(section, subject, case, value)
        below = self.values(section, base, case, value)
        return median(quotients(above, below))

    def replace(self, section: str, other: Samples) -> None:
        """Take over a section that was measured anew."""
        kept = [sample for sample in self.samples if sample.section != section]
        self.samples = kept + [sample for sample in other.samples if sample.section == section]

    def to_json(self, path: Path) -> None:
        rows = [json.dumps(asdict(sample)) for sample in self.samples]
        machine = json.dumps(self.machine, indent=1)
        path.write_text(
            f'{{"machine": {machine},\n"samples": [\n' + ",\n".join(rows) + "\n]}\n",
            encoding="utf-8",
        )

    @classmethod
    def from_json(cls, path: Path) -> Samples:
        """Nothing at all if there is no such file."""
        if not path.exists():
            return cls()
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(content["machine"], [Sample(**sample) for sample in content["samples"]])


def median(values: dict[int, float]) -> float | None:
    return statistics.median(values.values()) if values else None


def quotients(above: dict[int, float], below: dict[int, float]) -> dict[int, float]:
    """The ratio within each run that has both."""
    return dict(_quotients(above, below))


def _quotients(above: dict[int, float], below: dict[int, float]) -> Iterator[tuple[int, float]]:
    for run, value in above.items():
        if below.get(run):
            yield run, value / below[run]


def percentile(values: list[float], share: float) -> float:
    """The smallest of the values that ``share`` (0 to 1) of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
