"""One of the clients: what it asks for.

It has records of its own, and shares some with the others. It takes nothing for done but what was
acknowledged, and repeats what was not, as client libraries do.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from tests.chaos.figures import Figures
from tests.chaos.history import ABSENT, NO_FILE, Attempt, History
from tests.chaos.stores import Store
from tests.chaos.witness import BACKOFF, Ask, Names, Witness, sha256_of, shown_by, told
from tests.support.live.client import KIB, MIB, Answer, uri_of
from tests.support.tus import OFFSET_TYPE, TUS, checksum, metadata

_PAUSE = 0.1
# Of files, in bytes; the largest take more than one part on S3.
_SIZES = ((0, 2 * KIB), (10 * KIB, 200 * KIB), (MIB, 3 * MIB), (5 * MIB, 7 * MIB))
_SHARES = (50, 36, 11, 3)
# In one folder without random names.
_FILENAMES = ("a.txt", "a.txt", "b.bin", "c", "ü.txt")


class Pending:
    """A resumable upload that has begun, and gets on when the servers let it."""

    def __init__(
        self, history: History, attempt: Attempt, path: str, content: bytes, offset: int
    ) -> None:
        self.history = history
        self.attempt = attempt
        self.path = path
        self.content = content
        self.offset: int | None = offset
        """What the server has, ``None`` where that has to be asked for."""
        self.is_last_sent = False
        """Whether it may have become an attachment already."""


class ChaosClient(Witness):
    """Works in the thread that calls ``work()``. ``shared`` are the records of all clients,
    ``names`` what all of them have seen."""

    def __init__(
        self,
        number: int,
        seed: str,
        urls: Collection[str],
        store: Store,
        figures: Figures,
        shared: list[History],
        names: Names,
    ) -> None:
        rng = random.Random(f"{seed} {number}")  # noqa: S311
        super().__init__(f"client {number}", rng, urls, store, figures, names)
        self._shared = shared
        self._numbers = itertools.count(1)
        self._pending: list[Pending] = []
        self._own_collection = f"own-{number}"
        self._temporary = f"temporary-{number}"
        self._collections = (
            *[("b", self._own_collection)] * 5,
            *[("named", "c")] * 3,
            *[("default", self._own_collection)] * 2,
        )
        self._temporary_records = [History(uri_of(self._temporary, f"t{i}")) for i in range(3)]
        self._own = [self._new_record(*where) for where in self._collections]
        self.histories = [*self._own, *self._temporary_records]
        """Of all records that it has ever had for itself."""

    def prepare(self) -> None:
        """Create the collections."""
        self._clients[0].create_collections(self._own_collection, self._temporary)

    def work(self, stop: threading.Event) -> None:
        """Do one thing after the other."""
        operations: Mapping[Callable[[], None], int] = {
            self._upload_somewhere: 24,
            self._upload_in_pieces: 14,
            self._resume: 4,
            self._read_somewhere: 14,
            self._change_title: 6,
            self._detach: 7,
            self._delete: 8,
            self._copy_somewhere: 12,
            self._batch: 8,
            self._delete_many: 3,
            self._vanish: 3,
        }
        while not stop.is_set():
            (operation,) = self._rng.choices([*operations], [*operations.values()])
            name = operation.__name__.strip("_").replace("_", " ")
            self._figures.count(self._figures.operations, name)
            try:
                operation()
            except Exception as error:
                # Nothing that servers answer should lead to one.
                self._figures.violation("error in a client", f"{self.name}, {name}: {error!r}")
            stop.wait(self._rng.random() * _PAUSE)

    def finish(self, seconds: float) -> None:
        """Once nothing fails any more: end what was begun, and see whether everything works."""
        deadline = time.monotonic() + seconds
        while self._pending and time.monotonic() < deadline:
            self._resume()
        for pending in self._pending:
            text = f"{self.name}: {pending.path} at {pending.offset} of {len(pending.content)}"
            self._figures.violation("upload does not go on", text, pending.history)
        history = self._new_record("b", self._own_collection)
        self.histories.append(history)
        answer = None
        while (answer is None or not answer.ok) and time.monotonic() < deadline:
            answer = self._upload(history)
        if answer is None or not answer.ok:
            self._figures.violation("site does not recover", f"{self.name}: {told(answer)}")

    def look_at(self, history: History, seconds: float) -> None:
        """Once nothing fails and nobody writes any more: ask every server for the record."""
        deadline = time.monotonic() + seconds
        for client in self._clients:
            answer = None
            while (answer is None or answer.status_code == 503) and time.monotonic() < deadline:
                answer = self._ask(lambda _: client.request("GET", history.uri))  # noqa: B023
            self._observe(history, answer, time.monotonic())
            if answer is None or answer.status_code not in (200, 404):
                text = f"{history.uri}: {told(answer)}"
                self._figures.violation("record cannot be read", text, history)
            elif answer.ok and shown_by(answer) is not None and (problem := self._problem(answer)):
                self._figures.violation("wrong file", f"{history.uri}: {problem}", history)

    # What it does.

    def _upload_somewhere(self) -> None:
        self._upload(self._some_record())

    def _upload(self, history: History) -> Answer | None:
        content, filename = self._content(), self._filename()
        headers = {}
        if self._rng.random() < 0.2 and (current := self._get(history)) is not None:
            headers = {"If-Match": current.headers["ETag"]}
        answer = self._write(
            f"upload of {filename}",
            {history: sha256_of(content)},
            lambda client: client.attach(history.uri, content, filename, headers, title="t"),
            # What was lost before may have been written after all.
            refusals=(*self._missing(history), *((412,) if headers else ())),
        )
        if answer is not None and answer.status_code == 404:
            self._create_temporary(history)
        return answer

    def _upload_in_pieces(self) -> None:
        history, content = self._some_record(), self._content()
        first = content[: self._rng.choice((0, 0, len(content) // 2, len(content)))]
        pairs = {"filename": self._filename(), "data": {"title": "tus"}}
        if self._rng.random() < 0.3:
            pairs["sha256"] = sha256_of(content)
        headers = {
            **TUS,
            "Upload-Length": str(len(content)),
            "Upload-Metadata": metadata(**pairs),
            **({"Content-Type": OFFSET_TYPE} if first else {}),
        }
        attempt = history.begin(sha256_of(content), self.name, f"tus of {len(content):,} bytes")
        uri = f"{history.uri}/attachment"
        answer = self._ask(lambda client: client.request("POST", uri, first, headers))
        if answer is None or answer.status_code != 201:
            is_whole = len(first) == len(content)
            if answer is not None and answer.status_code == 404:
                self._create_temporary(history)
            refusals = self._missing(history)
            self._settle({history: attempt}, answer, refusals, is_harmless=not is_whole)
            return
        path = answer.headers["Location"].partition("/v1/")[2]
        offset = int(answer.headers["Upload-Offset"])
        pending = Pending(history, attempt, path, content, offset)
        if "Content-Location" in answer.headers:
            self._acknowledge(attempt)
        else:
            self._continue(pending, tries=12)

    def _resume(self) -> None:
        if self._pending:
            self._continue(self._pending.pop(0), tries=6)

    def _continue(self, pending: Pending, tries: int) -> None:
        """Send the rest, from where the server is; after so many failures, later."""
        while tries:
            if self._rng.random() < 0.01 and not pending.is_last_sent:
                self._ask(lambda client: client.request("DELETE", pending.path, headers=TUS))
                pending.attempt.refuse()
                return
            answer = self._send_piece(pending)
            if answer is not None and "Content-Location" in answer.headers:
                self._acknowledge(pending.attempt)
                return
            if answer is not None and answer.status_code in (200, 204):
                pending.offset = int(answer.headers["Upload-Offset"])
                continue
            pending.offset = None
            if answer is not None and answer.status_code not in (409, 423, 500, 503):
                # 404: its record was deleted; 410: it has expired.
                self._settle(
                    {pending.history: pending.attempt},
                    answer,
                    (404, 410),
                    is_lost=pending.is_last_sent,
                )
                return
            tries -= 1
            time.sleep(BACKOFF)
        self._pending.append(pending)

    def _send_piece(self, pending: Pending) -> Answer | None:
        """PATCH with the next piece, or HEAD."""
        if pending.offset is None:
            return self._ask(lambda client: client.request("HEAD", pending.path, headers=TUS))
        rest = pending.content[pending.offset :]
        piece = rest[: self._rng.choice((len(rest), max(1, len(rest) // 2), 64 * KIB))]
        headers = {**TUS, "Content-Type": OFFSET_TYPE, "Upload-Offset": str(pending.offset)}
        if self._rng.random() < 0.3:
            headers["Upload-Checksum"] = checksum(piece)
        pending.is_last_sent |= len(piece) == len(rest)
        return self._ask(lambda client: client.request("PATCH", pending.path, piece, headers))

    def _read_somewhere(self) -> None:
        self._read(self._some_record())

    def _read(self, history: History) -> None:
        """The file that the record shows has to be there, whenever anybody looks."""
        if (answer := self._get(history)) is None or shown_by(answer) is None:
            return
        if self._problem(answer) is None or (again := self._get(history)) is None:
            return
        # It may have been replaced between the two; what is shown twice must be there.
        if shown_by(again) == shown_by(answer) and (problem := self._problem(again)):
            self._figures.violation("wrong file", f"{history.uri}: {problem}", history)

    def _change_title(self) -> None:
        history = self._some_record()
        if history in self._shared:
            # Kinto reads the record, and writes all of it: what others write between is undone.
            return
        body = {"data": {"title": str(next(self._numbers))}}
        since = time.monotonic()
        answer = self._ask(lambda client: client.request("PATCH", history.uri, body))
        self._observe(history, answer, since)
        self._check_status(answer, (404, 409), history)

    def _detach(self) -> None:
        history = self._some_record()
        ways: list[tuple[str, str, Any]] = [
            ("DELETE", f"{history.uri}/attachment", None),
            ("PATCH", history.uri, {"data": {"attachment": None}}),
        ]
        if history not in self._temporary_records:
            ways.append(("PUT", history.uri, {"data": {"title": "without"}}))
        method, uri, body = self._rng.choice(ways)
        what = f"detach by {method}"
        send: Ask = lambda client: client.request(method, uri, body)  # noqa: E731
        self._write(what, {history: NO_FILE}, send, refusals=(404,))

    def _delete(self) -> None:
        history = self._some_record()
        send: Ask = lambda client: client.request("DELETE", history.uri)  # noqa: E731
        self._write("delete", {history: ABSENT}, send)

    def _delete_many(self) -> None:
        """The collection, or all records in it."""
        uri = f"buckets/b/collections/{self._temporary}" + self._rng.choice(("", "/records"))
        wanted = dict.fromkeys(self._temporary_records, ABSENT)
        self._write("delete of all", wanted, lambda client: client.request("DELETE", uri))

    def _copy_somewhere(self) -> None:
        source, target = self._some_record(), self._some_record()
        if source is target or target in self._temporary_records:
            return
        if (answer := self._get(source)) is None or (shown := shown_by(answer)) is None:
            return
        body = {"data": {"attachment": shown, "title": "copy"}}
        self._write(
            f"copy of {source.uri}",
            {target: shown["hash"]},
            lambda client: client.request("PUT", target.uri, body),
        )

    def _batch(self) -> None:
        """Some writes in one transaction, of which one may be refused."""
        histories = self._rng.sample(self._own, self._rng.randint(2, 4))
        sent, wanted = [], {}
        for history in histories:
            request, state = self._part_of_batch(history)
            sent.append({**request, "path": f"/v1/{request['path']}"})
            wanted[history] = state
        attempts = {
            history: history.begin(state, self.name, f"batch: {request['method']}")
            for (history, state), request in zip(wanted.items(), sent, strict=True)
            if state is not None
        }
        body = {"requests": sent}
        answer = self._ask(lambda client: client.request("POST", "batch", body))
        if answer is None or answer.status_code != 200:
            self._settle(attempts, answer)
            return
        responses = answer.json()["responses"]
        # Kinto aborts the transaction then, goes on in another one, and answers as if it did not.
        is_aborted = any(response["status"] == 409 for response in responses)
        for history, response in zip(histories, responses, strict=True):
            self._settle_part(history, attempts.get(history), response, is_aborted)

    def _part_of_batch(self, history: History) -> tuple[dict[str, Any], str | None]:
        """A request, and the state that it wants; ``None`` where it wants none, or is refused.

        Kinto takes no forms in a batch.
        """
        uri, title = history.uri, {"data": {"title": "batch"}}
        parts: list[tuple[dict[str, Any], str | None]] = [
            ({"method": "DELETE", "path": uri}, ABSENT),
            ({"method": "DELETE", "path": f"{uri}/attachment"}, NO_FILE),
            ({"method": "PATCH", "path": uri, "body": title}, None),
            (
                {"method": "PUT", "path": uri, "body": title, "headers": {"If-Match": '"1"'}},
                None,
            ),
        ]
        return self._rng.choice(parts)

    def _settle_part(
        self,
        history: History,
        attempt: Attempt | None,
        response: dict[str, Any],
        is_aborted: bool,
    ) -> None:
        status = response["status"]
        if status >= 500 and status != 503:
            self._figures.violation(str(status), f"{self.name}, in a batch: {response}", history)
        if attempt is None:
            return
        if status >= 500 or is_aborted:
            attempt.lose()
        elif status < 300 or (status == 404 and attempt.wanted == ABSENT):
            self._acknowledge(attempt)
        else:
            attempt.refuse()

    def _vanish(self) -> None:
        """In the middle of an upload."""
        history, content = self._some_record(), self._content()
        with suppress(OSError):
            client = self._rng.choice(self._clients)
            client.begin(history.uri, content, self._rng.randint(0, len(content))).reset()

    # What it has.

    def _some_record(self) -> History:
        kinds = (self._own, self._temporary_records, self._shared)
        (kind,) = self._rng.choices(kinds, (6, 1, 2))
        return self._rng.choice(kind)

    def _new_record(self, bucket: str, collection: str) -> History:
        record = f"{self.name.replace(' ', '-')}-{next(self._numbers)}"
        return History(uri_of(collection, record, bucket))

    def _give_up(self, history: History) -> None:
        """Have another record in the place of one whose state is unknown from now on."""
        if history in self._own:
            index = self._own.index(history)
            self._own[index] = self._new_record(*self._collections[index])
            self.histories.append(self._own[index])

    def _missing(self, history: History) -> tuple[int, ...]:
        """How an upload is refused where there may be no collection just now."""
        return (404,) if history in self._temporary_records else ()

    def _create_temporary(self, history: History) -> None:
        if history in self._temporary_records:
            uri = f"buckets/b/collections/{self._temporary}"
            self._ask(lambda client: client.request("PUT", uri, {}))

    def _content(self) -> bytes:
        (bounds,) = self._rng.choices(_SIZES, _SHARES)
        return self._rng.randbytes(self._rng.randint(*bounds))

    def _filename(self) -> str:
        return self._rng.choice(_FILENAMES)
