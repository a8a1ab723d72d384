"""A Kinto that runs, with its database and its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from tests.conftest import KintoDatabase
from tests.support.live import verifier
from tests.support.live.client import Client
from tests.support.live.verifier import Files
from tests.support.servers import forked
from tests.support.servers.kinto import LiveKinto


class Site:
    """``client`` talks to it; ``server`` is the one that runs now."""

    def __init__(
        self,
        start: Callable[[], LiveKinto],
        database: KintoDatabase,
        files: Files | Callable[[LiveKinto], Files],
    ) -> None:
        """``start`` starts the server; ``files`` may depend on its process."""
        self.database = database
        self.server = start()
        self.client = Client(self.server.url)
        self.files: Files = files(self.server) if callable(files) else files
        self._start = start
        self._log_start = 0

    def kill(self) -> None:
        """SIGKILL to the arbiter and all workers, and start again."""
        self.server.close()
        self.server = self._start()
        self._log_start = 0
        self.client = Client(self.server.url)

    def close(self) -> None:
        self.server.close()

    def clean(self) -> None:
        """Remove all objects and files."""
        self.database.clean()
        self.files.clean()
        self._log_start = self.server.log.stat().st_size

    def log(self) -> str:
        """What the server has printed since it was clean."""
        return self.server.log.read_bytes()[self._log_start :].decode(errors="replace")

    def gc(self, *options: str) -> set[str]:
        """Have the command delete every orphan, however young; return their names."""
        command = ["-m", "kinto_attachment.commands", "--ini", str(self.server.ini)]
        answer = forked.run([*command, "gc", "--delete", "--older-than", "0s", "--json", *options])
        answer.check_returncode()
        return {finding["name"] for finding in json.loads(answer.stdout)["findings"]}

    def leftovers(self) -> list[str]:
        """What is stored although no record references it."""
        return verifier.leftovers(self.database, self.files)

    def assert_consistent(self, expected_leftovers: Collection[str] = ()) -> None:
        """Every file is where its record says, and no other one; see ``verifier``."""
        verifier.assert_consistent(self.database, self.files, expected_leftovers)

    def assert_shows(self, uri: str, content: bytes) -> None:
        """The record shows a file with that content."""
        location = self.client.record(uri)["attachment"]["location"]
        name = location.removeprefix(verifier.BASE_URL)
        assert self.files.stored().get(name) == verifier.described(content)
