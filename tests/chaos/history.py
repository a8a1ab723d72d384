"""What was asked of one record, what was acknowledged, and so what it may show."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

ABSENT = "no record"
NO_FILE = "no file"


@dataclass
class Attempt:
    """A request that is to leave the record in the state ``wanted``: ``ABSENT``, ``NO_FILE``, or
    the SHA-256 of a file. It takes effect once between ``start`` and ``end``, or never."""

    wanted: str
    who: str
    what: str
    start: float
    end: float = inf
    outcome: str = "in flight"

    def acknowledge(self) -> None:
        self._end("acknowledged")

    def refuse(self) -> None:
        """It was answered that nothing was changed."""
        self._end("refused")

    def lose(self) -> None:
        """It failed, and may have taken effect before; it does not any more."""
        self._end("lost")

    def give_up(self) -> None:
        """It may take effect at any time."""
        self.outcome = "given up"

    def _end(self, outcome: str) -> None:
        self.end = time.monotonic()
        self.outcome = outcome


@dataclass(eq=False)
class History:
    """All attempts on one record, by one client or by several at once."""

    uri: str
    attempts: list[Attempt] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.attempts.append(Attempt(ABSENT, "nobody", "nothing", -inf, -inf, "acknowledged"))

    def begin(self, wanted: str, who: str, what: str) -> Attempt:
        """To be called before the request is sent."""
        attempt = Attempt(wanted, who, what, time.monotonic())
        with self._lock:
            self.attempts.append(attempt)
        return attempt

    def possible(self, since: float | None = None) -> set[str]:
        """The states that the record may be in, or may have been in since then.

        An attempt counts unless it was refused, or one that began after its end was acknowledged.
        """
        since = time.monotonic() if since is None else since
        return {attempt.wanted for attempt in self._standing(since)}

    def last(self, count: int = 8) -> list[Attempt]:
        """The attempts of late, those that nobody heard of again included."""
        with self._lock:
            return self.attempts[-count:]

    def _standing(self, since: float) -> Iterator[Attempt]:
        with self._lock:
            attempts = list(self.attempts)
        overwritten = max(
            attempt.start
            for attempt in attempts
            if attempt.outcome == "acknowledged" and attempt.end <= since
        )
        for attempt in attempts:
            if attempt.outcome != "refused" and attempt.end >= overwritten:
                yield attempt
