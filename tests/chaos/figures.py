"""What happened, counted, and what must not have happened, told as it does."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from math import isinf

from tests.chaos.history import History

_SHOWN = 10
_AROUND = 15.0


class Figures:
    """May be written by all threads."""

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self._events: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def count(self, counter: Counter[str], what: str) -> None:
        with self._lock:
            counter[what] += 1

    def event(self, text: str) -> None:
        """Remember that something was done to the site: violations are told with what was."""
        with self._lock:
            self._events.append((time.monotonic(), text))

    def note(self, text: str) -> None:
        """Print what has just happened."""
        print(f"{at(time.monotonic())} {text}", flush=True)

    def violation(self, kind: str, text: str, history: History | None = None) -> None:
        """Print it, with what was done to the record and to the site of late."""
        with self._lock:
            self.violations[kind] += 1
            if self.violations[kind] > _SHOWN:
                return
            now = time.monotonic()
            lines = [f"{at(now)} VIOLATION, {kind}: {text}"]
            for moment, event in self._events:
                if now - moment < _AROUND:
                    lines.append(f"    {at(moment)} site: {event}")
            for attempt in history.last() if history else ():
                ended = "" if attempt.outcome == "in flight" else f" {at(attempt.end)}"
                lines.append(
                    f"    {at(attempt.start)} {attempt.who}: {attempt.what} ->"
                    f" {attempt.wanted[:12]}: {attempt.outcome}{ended}"
                )
            print("\n".join(lines), flush=True)

    def table(self, more: Mapping[str, object]) -> str:
        """All of it for people."""
        rows: list[tuple[str, object]] = [
            ("operations", self._sum(self.operations)),
            ("acknowledged", self._sum(self.acknowledged)),
            ("faults injected", self._sum(self.faults)),
            ("answers", self._sum(self.answers)),
            *more.items(),
            ("violations", self._sum(self.violations)),
        ]
        return "\n".join(f"{name:<16} {value}" for name, value in rows)

    @staticmethod
    def _sum(counter: Counter[str]) -> str:
        parts = ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items()))
        return f"{counter.total():,}" + (f" ({parts})" if parts else "")


def at(moment: float) -> str:
    """As the servers' logs have it. Attempts have the time of a clock that nobody sets."""
    if isinf(moment):
        return "ever"
    clock = time.time() - time.monotonic() + moment
    return time.strftime("%H:%M:%S", time.localtime(clock)) + f",{int(clock % 1 * 1000):03}"
