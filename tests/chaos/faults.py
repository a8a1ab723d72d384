"""What is done to the site while the clients work.

Two threads: one lets something fail for some seconds, the other ends processes. So a worker may be
killed, or a server started, while the database is away.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.chaos.figures import Figures
from tests.chaos.site import Node, Site
from tests.chaos.stores import Outage

# In seconds.
_OUTAGE = (0.5, 5.0)
_BETWEEN_OUTAGES = (2.0, 7.0)
_BETWEEN_ENDS = (1.0, 7.0)
# Longer than any upload is on its way here.
_GC = ("gc", "--delete", "--older-than", "120s")


class Faults:
    def __init__(self, site: Site, figures: Figures, seed: str) -> None:
        self._site = site
        self._figures = figures
        self._outages_rng = random.Random(f"{seed} outages")  # noqa: S311
        self._ends_rng = random.Random(f"{seed} ends")  # noqa: S311

    def let_things_fail(self, stop: threading.Event) -> None:
        """One thing at a time; all work again when it returns."""
        outages: Mapping[str, tuple[Outage, float]] = {
            "database stopped hard": (self._site.without_database, 1.0),
            "answer to a commit lost": (self._losing_a_commit, 2.0),
            **{
                # All faults of the store together as often as two of the others.
                name: (outage, 2.0 / len(self._site.store.outages))
                for name, outage in self._site.store.outages.items()
            },
        }
        rng = self._outages_rng
        names, weights = [*outages], [weight for _, weight in outages.values()]
        while not stop.wait(rng.uniform(*_BETWEEN_OUTAGES)):
            (name,) = rng.choices(names, weights)
            outage, _ = outages[name]
            self._count(name)
            with outage():
                stop.wait(rng.uniform(*_OUTAGE))
            self._figures.event(f"{name}: over")

    def end_processes(self, stop: threading.Event) -> None:
        """One after the other; all servers run when it returns."""
        ends: Mapping[str, tuple[Callable[[Node], None], int]] = {
            "worker killed": (self._kill_worker, 8),
            "server killed": (self._kill_server, 2),
            "servers restarted in turn": (self._restart_in_turn, 1),
            "gc": (self._collect, 2),
        }
        rng = self._ends_rng
        while not stop.wait(rng.uniform(*_BETWEEN_ENDS)):
            (name,) = rng.choices([*ends], [weight for _, weight in ends.values()])
            end, _ = ends[name]
            self._count(name)
            end(rng.choice(self._site.nodes))
            self._figures.event(f"{name}: over")

    def _count(self, name: str) -> None:
        self._figures.count(self._figures.faults, name)
        self._figures.event(name)

    @contextmanager
    def _losing_a_commit(self) -> Iterator[None]:
        # The next one, not all of them for as long.
        self._site.relay.lose_the_answer_to_the_next_commit()
        yield

    def _kill_worker(self, node: Node) -> None:
        node.kill_worker(self._ends_rng)

    def _kill_server(self, node: Node) -> None:
        node.kill()
        node.start()

    def _restart_in_turn(self, _: Node) -> None:
        for node in self._site.nodes:
            node.stop()
            node.start()

    def _collect(self, _: Node) -> None:
        # It may fail as anything may: what is left over stays.
        self._site.command(*_GC)
