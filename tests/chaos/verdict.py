"""What must hold at the end, with everything running again."""

from __future__ import annotations

from collections.abc import Collection

from tests.chaos.client import ChaosClient
from tests.chaos.figures import Figures
from tests.chaos.history import History
from tests.chaos.logs import unexpected_errors
from tests.chaos.site import Site
from tests.support.live import verifier

_SECONDS = 10.0
# The plugin's own, not a file that somebody has uploaded.
_MARKER = ".kinto-attachment"


def judge(
    site: Site, clients: Collection[ChaosClient], shared: Collection[History], figures: Figures
) -> dict[str, object]:
    """Look for violations; return more figures."""
    first, *_ = clients
    histories = [*shared, *(each for client in clients for each in client.histories)]
    for history in histories:
        first.look_at(history, _SECONDS)
    left_over = len(verifier.leftovers(site.database, site.store.files))
    # What a killed server leaves under a name that is not random could be another program's.
    _, usage = site.command("gc", "--help")
    named = ("--foreign", "named") if "--foreign" in usage else ()
    _command(site, figures, "gc", "--delete", "--older-than", "0s", *named)
    _command(site, figures, "check", "--hash")
    kintos = _errors(site, figures)
    for problem in verifier.problems(site.database, site.store.files, [_MARKER]):
        figures.violation("inconsistent", problem)
    return {
        "records at the end": f"{len(histories):,}",
        "files at the end": f"{len(site.store.files.stored()):,}",
        "left over before gc": f"{left_over:,}",
        "Kinto's own 500s": f"{kintos:,}",
    }


def _errors(site: Site, figures: Figures) -> int:
    """Have a violation for every 500 that is not Kinto's own; return how many are."""
    kintos, others = unexpected_errors(site.logs)
    for traceback, count in others.items():
        for _ in range(count):
            figures.violation("500", traceback)
    answered = figures.answers["500"]
    for _ in range(answered - kintos - others.total()):
        figures.violation("500", "no log has it")
    return kintos


def _command(site: Site, figures: Figures, *arguments: str) -> None:
    status, output = site.command(*arguments)
    name = " ".join(arguments)
    print(f"\nkinto-attachment {name}: exit status {status}\n{output[-6000:]}", flush=True)
    if status:
        figures.violation(f"exit status of {arguments[0]}", f"{name}: {status}")
