"""Nodes are restarted, one after the other, while the site is in use."""

from __future__ import annotations

import itertools
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import requests

from tests.deploy.conftest import MIB, TAIL, Body, answer_on
from tests.support.forms import CONTENT_TYPE, file_part, form

on_the_disk = pytest.mark.parametrize("site", ["disk"], indirect=True)

TUS = {"Tus-Resumable": "1.0.0"}
# Of a request other than the long uploads: what waits for these to end takes longer.
LONGEST_SECONDS = 6.0
LONG_UPLOAD_SECONDS = 8.0
# Between the requests of a client: else the clients take the processor from all other tests. There
# are some hundred requests, and dozens while a node stops.
PAUSE_SECONDS = 0.5


class Load:
    """Clients that pause for a moment, each with a connection of its own that stays."""

    def __init__(self, site) -> None:
        self.answers: list[tuple[str, int | str, float]] = []
        self._site = site
        self._over = threading.Event()
        actions = 2 * (self._read, self._write, self._attach, self._resume)
        self._pauses = [threading.Lock() for _ in actions]
        self._threads = [
            threading.Thread(target=self._repeat, args=(f"client-{number}", action, pause))
            for number, (action, pause) in enumerate(zip(actions, self._pauses, strict=True))
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> list[tuple[str, int | str, float]]:
        return [each for each in self.answers if each[1] not in (200, 201, 204)]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Wait for the clients' requests, and hold back more: what comes goes to nodes in turn."""
        with ExitStack() as stack:
            for pause in self._pauses:
                stack.enter_context(pause)
            yield

    def _repeat(
        self,
        name: str,
        action: Callable[[requests.Session, str, int], None],
        pause: threading.Lock,
    ) -> None:
        with requests.Session() as session:
            session.auth = self._site.auth
            # They share no limit_conn.
            session.headers["X-Test-Client"] = f"192.0.2.1{name[-1]}"
            for number in itertools.count():
                if self._over.wait(PAUSE_SECONDS):
                    return
                with pause:
                    action(session, name, number)

    def _ask(self, session: requests.Session, method: str, path: str, **options: object) -> object:
        started = time.monotonic()
        try:
            url = f"{self._site.url}/v1/{path}"
            answer = session.request(method, url, timeout=60, **options)  # type: ignore[arg-type]
            status: int | str = answer.status_code
        except requests.RequestException as error:
            answer, status = None, repr(error)
        self.answers.append((f"{method} {path}", status, time.monotonic() - started))
        return answer

    def _read(self, session: requests.Session, name: str, number: int) -> None:
        self._ask(session, "GET", f"buckets/b/collections/c?{number}")

    def _write(self, session: requests.Session, name: str, number: int) -> None:
        data = {"data": {"number": number}}
        # No two clients in one collection: what both write in one millisecond is a conflict.
        self._ask(session, "PUT", f"buckets/b/collections/{name}/records/{number}", json=data)
        self._ask(session, "POST", f"buckets/b/collections/{name}/records", json=data)

    def _attach(self, session: requests.Session, name: str, number: int) -> None:
        self._ask(
            session,
            "POST",
            f"buckets/b/collections/{name}/records/r/attachment",
            data=form([file_part(b"x" * 100_000, "a.txt")]),
            headers={"Content-Type": CONTENT_TYPE},
        )

    def _resume(self, session: requests.Session, name: str, number: int) -> None:
        filename = b64encode(b"a.txt").decode()
        headers = {"Upload-Length": "3000", "Upload-Metadata": f"filename {filename}"}
        path = f"buckets/b/collections/{name}/records/r/attachment"
        created = self._ask(session, "POST", path, headers={**TUS, **headers})
        for offset in (0, 1000, 2000) if created is not None else ():
            location = created.headers.get("Location", "")  # type: ignore[attr-defined]
            headers = {
                "Content-Type": "application/offset+octet-stream",
                "Upload-Offset": str(offset),
            }
            upload = location.removeprefix(f"{self._site.url}/v1/")
            self._ask(session, "PATCH", upload, data=b"x" * 1000, headers={**TUS, **headers})


@contextmanager
def long_uploads(site, load: Load) -> Iterator[list[int]]:
    """An upload in flight on each node, which goes on for a while. Yields their statuses to be."""
    statuses: list[int] = []
    with load.paused():
        connections = [site.start_upload(8 * MIB, f"long-{number}") for number in range(2)]
        # Until nginx has passed them on.
        time.sleep(0.2)

    def finish(connection, number: int) -> None:
        # Not in one millisecond: two writes of a collection would be a conflict.
        time.sleep(LONG_UPLOAD_SECONDS + number / 2)
        connection.sendall(b"x" * (7 * MIB) + TAIL)
        statuses.append(answer_on(connection)[0])

    threads = [
        threading.Thread(target=finish, args=(connection, number))
        for number, connection in enumerate(connections)
    ]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        for thread in threads:
            thread.join()
        for connection in connections:
            connection.close()


@on_the_disk
def test_no_request_is_lost_while_the_nodes_are_restarted_in_turn(site):
    installation = site.installation
    for number in range(8):
        site.request("PUT", f"buckets/b/collections/client-{number}").raise_for_status()

    with Load(site) as load:
        time.sleep(1)
        for port in installation.nodes:
            with long_uploads(site, load) as statuses:
                time.sleep(1)
                stopped = time.monotonic()
                installation.node(port).stop()
                assert time.monotonic() - stopped > LONG_UPLOAD_SECONDS / 2
                installation.node(port).start()
                installation.wait_for(port)
            assert {*statuses} <= {200, 201}
            time.sleep(1)

    assert len(load.answers) > 200
    assert load.failed == []
    assert max(seconds for _, _, seconds in load.answers) < LONGEST_SECONDS
    assert site.upload(Body(1), "after").status_code == 201
