"""Clients that upload, replace, delete and read, and know what the site has to have."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.support.forms import CONTENT_TYPE, file_part, form

SITE = "http://127.0.0.1"
HOST = "kinto.example.org"
BUCKET = "blog"
# The last one has private files.
COLLECTIONS = ("posts", "pages", "pictures", "drafts")

_RECORDS = 12
_LARGEST = 300_000
_TIMEOUT = 120.0
_DONE = (200, 201, 204)
_TUS = {"Tus-Resumable": "1.0.0"}
# After an answer that is none: the site has the time to come back.
_PAUSE = 0.2


@dataclass
class Phase:
    """What clients have seen while something happened."""

    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0


class Site:
    """The site through nginx, for one client with a connection of its own."""

    def __init__(self, password: str) -> None:
        self._session = requests.Session()
        self._session.auth = ("admin", password)
        self._session.headers["Host"] = HOST

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request to ``path``, below the site."""
        return self._session.request(method, f"{SITE}{path}", timeout=_TIMEOUT, **options)

    def create_collections(self) -> None:
        """Create bucket and collections."""
        paths = [f"/v1/buckets/{BUCKET}", *map(collection, COLLECTIONS)]
        for path in paths:
            self.ask("PUT", path).raise_for_status()


def collection(name: str) -> str:
    """Its path."""
    return f"/v1/buckets/{BUCKET}/collections/{name}"


class Client:
    """One that has a collection to itself.

    ``known`` has the SHA-256 that the file of a record may have, and ``None`` if it may have
    none: more than one after a request that was not answered.
    """

    def __init__(self, name: str, password: str, load: Load) -> None:
        self.known: dict[str, set[str | None]] = {}
        self._path = collection(name)
        self._random = random.Random(name)  # noqa: S311 - no secret
        self._site = Site(password)
        self._load = load

    def work(self) -> None:
        """Do one thing after the other."""
        actions = (self._attach, self._attach, self._resume, self._delete, self._look)
        while not self._load.over.is_set():
            record = f"r{self._random.randrange(_RECORDS)}"
            self._random.choice(actions)(record)

    def verify(self) -> list[str]:
        """Read every record and its file. Returns a sentence for each that is wrong."""
        found = (self._problem(record) for record in sorted(self.known))
        return [problem for problem in found if problem]

    def _attach(self, record: str) -> None:
        content = self._content()
        body = form([file_part(content, f"{record}.txt")])
        self._maybe(record, _sha256(content))
        path = f"{self._record(record)}/attachment"
        if self._ask("POST", path, {"Content-Type": CONTENT_TYPE}, body) is not None:
            self.known[record] = {_sha256(content)}

    def _resume(self, record: str) -> None:
        content = self._content()
        name = b64encode(f"{record}.txt".encode()).decode()
        headers = {"Upload-Length": str(len(content)), "Upload-Metadata": f"filename {name}"}
        created = self._ask("POST", f"{self._record(record)}/attachment", {**_TUS, **headers})
        if created is None:
            return
        path = urlsplit(created.headers["Location"]).path
        step = len(content) // 3 + 1
        for offset in range(0, len(content), step):
            headers = {
                "Content-Type": "application/offset+octet-stream",
                "Upload-Offset": str(offset),
            }
            chunk = content[offset : offset + step]
            if offset + step >= len(content):
                self._maybe(record, _sha256(content))
            if self._ask("PATCH", path, {**_TUS, **headers}, chunk) is None:
                return
        self.known[record] = {_sha256(content)}

    def _delete(self, record: str) -> None:
        if self.known.get(record, {None}) == {None}:
            return
        self._maybe(record, None)
        if self._ask("DELETE", self._record(record), missing_is_well=True) is not None:
            self.known[record] = {None}

    def _look(self, record: str) -> None:
        if record not in self.known:
            return
        problem = self._problem(record)
        if problem:
            self._load.problems.append(problem)

    def _maybe(self, record: str, sha256: str | None) -> None:
        self.known.setdefault(record, {None}).add(sha256)

    def _problem(self, record: str) -> str | None:
        """What is wrong with a record; what one could not find out is not."""
        known = self.known[record]
        answer = self._ask("GET", self._record(record), missing_is_well=True)
        if answer is None:
            return None
        if answer.status_code == 404:
            sha256 = None
        else:
            attachment = answer.json()["data"]["attachment"]
            sha256 = attachment["hash"]
            path = urlsplit(attachment["location"]).path
            file = self._ask("GET", path)
            if file is None:
                return None
            if _sha256(file.content) != sha256:
                return f"{self._record(record)}: the file is another one than the record says"
        if sha256 not in known:
            return f"{self._record(record)}: {sha256} in place of {known}"
        self.known[record] = {sha256}
        return None

    def _ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
        *,
        missing_is_well: bool = False,
    ) -> requests.Response | None:
        """The answer, or ``None`` if it failed."""
        started = time.monotonic()
        try:
            answer = self._site.ask(method, path, headers=headers, data=data)
        except requests.RequestException as error:
            self._load.note(time.monotonic() - started, type(error).__name__)
        else:
            well = answer.status_code in _DONE or (missing_is_well and answer.status_code == 404)
            failure = None if well else str(answer.status_code)
            self._load.note(time.monotonic() - started, failure)
            if well:
                return answer
        time.sleep(_PAUSE)
        return None

    def _content(self) -> bytes:
        return self._random.randbytes(self._random.randrange(1, _LARGEST))

    def _record(self, record: str) -> str:
        return f"{self._path}/records/{record}"


class Load:
    """All clients. ``problems`` has a sentence for each file that was lost or is another one."""

    def __init__(self, password: str) -> None:
        self.problems: list[str] = []
        self.over = threading.Event()
        self._phase = Phase()
        self._lock = threading.Lock()
        self._clients = [Client(name, password, self) for name in COLLECTIONS]

    @contextmanager
    def running(self) -> Iterator[Phase]:
        """The clients work meanwhile. Yields what they see."""
        self.over.clear()
        self._phase = Phase()
        threads = [threading.Thread(target=client.work) for client in self._clients]
        for thread in threads:
            thread.start()
        try:
            yield self._phase
        finally:
            self.over.set()
            for thread in threads:
                thread.join()

    def verify(self) -> int:
        """Read everything that was acknowledged. Returns the number of files that are there."""
        self._phase = Phase()
        for client in self._clients:
            self.problems.extend(client.verify())
        if self._phase.failed:
            self.problems.append(f"Not everything could be read: {dict(self._phase.failed)}")
        return sum(
            hashes != {None} for client in self._clients for hashes in client.known.values()
        )

    def note(self, seconds: float, failure: str | None) -> None:
        """A request has taken so long, and failed for that reason."""
        with self._lock:
            self._phase.requests += 1
            self._phase.longest = max(self._phase.longest, seconds)
            if failure is not None:
                self._phase.failed[failure] += 1


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
