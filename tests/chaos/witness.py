"""What a client makes of the answers: what was acknowledged, and what contradicts it."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.chaos.figures import Figures, at
from tests.chaos.history import ABSENT, NO_FILE, Attempt, History
from tests.chaos.stores import Store
from tests.support.live.client import Answer, Client
from tests.support.live.verifier import BASE_URL, described

Ask = Callable[[Client], Answer]

BACKOFF = 0.5
"""Seconds before what failed is tried again."""

_KINDS = {ABSENT: "deleted", NO_FILE: "detached"}


class Names:
    """Which file each location has shown: caches know them for ever."""

    def __init__(self) -> None:
        self._hashes: dict[str, str] = {}

    def is_still(self, location: str, sha256: str) -> bool:
        return self._hashes.setdefault(location, sha256) == sha256


class Witness:
    """Asks any of the servers at ``urls``, and enters what they answer in histories.

    ``names`` is what all clients have seen.
    """

    def __init__(
        self,
        name: str,
        rng: random.Random,
        urls: Collection[str],
        store: Store,
        figures: Figures,
        names: Names,
    ) -> None:
        self.name = name
        self._rng = rng
        self._clients = [Client(url) for url in urls]
        self._store = store
        self._figures = figures
        self._names = names
        self._is_late = False

    def _give_up(self, history: History) -> None:
        """Write no more to a record: what was not answered in time may still happen to it."""
        raise NotImplementedError

    def _ask(self, ask: Ask) -> Answer | None:
        """Ask any of the servers; ``None`` is no answer."""
        figures = self._figures
        try:
            answer = ask(self._rng.choice(self._clients))
        except requests.RequestException as error:
            is_late = isinstance(error, requests.ReadTimeout)
            figures.count(figures.answers, "too late" if is_late else "none")
            self._is_late = is_late
            time.sleep(BACKOFF * self._rng.random())
            return None
        self._is_late = False
        figures.count(figures.answers, str(answer.status_code))
        if answer.status_code == 500:
            # Whose it is, the logs say in the end.
            figures.note(f"{self.name}: {told(answer)}")
        elif answer.status_code > 500 and answer.status_code != 503:
            figures.violation(str(answer.status_code), f"{self.name}: {told(answer)}")
        return answer

    def _write(
        self,
        what: str,
        wanted: Mapping[History, str],
        send: Ask,
        refusals: Collection[int] = (),
    ) -> Answer | None:
        """Have records in the states that are wanted; what fails may be repeated."""
        while True:
            attempts = {
                history: history.begin(state, self.name, what) for history, state in wanted.items()
            }
            answer = self._ask(send)
            self._settle(attempts, answer, refusals)
            is_lost = answer is None or answer.status_code == 503
            if not is_lost or self._rng.random() < 0.5:
                return answer
            time.sleep(BACKOFF * self._rng.random())

    def _settle(
        self,
        attempts: Mapping[History, Attempt],
        answer: Answer | None,
        refusals: Collection[int] = (),
        is_harmless: bool = False,
        is_lost: bool = False,
    ) -> None:
        """Enter the answer: ``refusals`` are statuses besides 409 to be expected. A request that
        failed changes nothing if it is harmless; one that was refused may have if it is lost."""
        for history, attempt in attempts.items():
            if answer is None or answer.status_code >= 500:
                if answer is None and self._is_late:
                    attempt.give_up()
                    self._give_up(history)
                elif is_harmless:
                    attempt.refuse()
                else:
                    attempt.lose()
            elif answer.ok:
                self._acknowledge(attempt)
            elif answer.status_code == 404 and attempt.wanted == ABSENT:
                self._check(history, ABSENT, attempt.start)
                self._acknowledge(attempt)
            elif is_lost:
                attempt.lose()
            else:
                attempt.refuse()
        is_deletion = all(attempt.wanted == ABSENT for attempt in attempts.values())
        expected = (404, 409, *refusals) if is_deletion else (409, *refusals)
        self._check_status(answer, expected, next(iter(attempts), None))

    def _check_status(
        self, answer: Answer | None, expected: Collection[int], history: History | None
    ) -> None:
        if answer is None or answer.ok or answer.status_code >= 500:
            return
        if answer.status_code not in expected:
            text = f"{self.name}: {told(answer)}"
            self._figures.violation("unexpected refusal", text, history)

    def _acknowledge(self, attempt: Attempt) -> None:
        attempt.acknowledge()
        self._figures.count(self._figures.acknowledged, _KINDS.get(attempt.wanted, "file"))

    def _get(self, history: History) -> Answer | None:
        """The record, ``None`` if there is none or no answer."""
        since = time.monotonic()
        answer = self._ask(lambda client: client.request("GET", history.uri))
        self._observe(history, answer, since)
        self._check_status(answer, (404,), history)
        return answer if answer is not None and answer.ok else None

    def _observe(self, history: History, answer: Answer | None, since: float) -> None:
        if answer is not None and answer.ok:
            shown = shown_by(answer)
            self._check(history, NO_FILE if shown is None else shown["hash"], since)
            if shown is not None and not self._names.is_still(shown["location"], shown["hash"]):
                text = f"{history.uri}: {shown['location']} was another file's"
                self._figures.violation("name used again", text, history)
        elif answer is not None and answer.status_code == 404:
            self._check(history, ABSENT, since)

    def _check(self, history: History, state: str, since: float) -> None:
        possible = history.possible(since)
        if state not in possible:
            names = sorted(each[:12] for each in possible)
            text = (
                f"{history.uri}: {self.name} sees {state[:12]} since {at(since)}, but acknowledged"
                f" was {', '.join(names)}"
            )
            self._figures.violation("not what was acknowledged", text, history)

    def _problem(self, answer: Answer) -> str | None:
        attachment = shown_by(answer)
        assert attachment is not None
        name = attachment["location"].removeprefix(BASE_URL)
        content = self._store.read(name)
        if content is None:
            return f"shows {name}, which is missing"
        if described(content) != (attachment["size"], attachment["hash"]):
            return f"shows {name} as {attachment}, but it is {described(content)}"
        return None


def shown_by(answer: Answer) -> dict[str, Any] | None:
    """The attachment that a record shows."""
    attachment: dict[str, Any] | None = answer.json()["data"].get("attachment")
    return attachment


def told(answer: Answer | None) -> str:
    if answer is None:
        return "no answer"
    request = answer.request
    path = urlsplit(str(request.url)).path
    return f"{request.method} {path}: {answer.status_code} {answer.text[:500]}"


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
