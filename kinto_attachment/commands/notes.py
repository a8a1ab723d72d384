"""What several commands say of an inventory besides their own findings. None of it is a failure:
any client may write a record, and another program a folder.
"""

from __future__ import annotations

import shlex

from kinto_attachment.commands.inventory import Inventory
from kinto_attachment.commands.report import Report
from kinto_attachment.settings import Settings


def tell_of_folders(report: Report, inventory: Inventory) -> None:
    """Name the folders that may not be read."""
    for name, error in inventory.unreadable.items():
        report.finding(
            f"{name} is passed over: {error}",
            problem="unreadable folder",
            name=name,
            error=str(error),
        )


def tell_of_unknown_bases(report: Report, inventory: Inventory, settings: Settings) -> None:
    """Say which records show stored files under URLs that are not in the settings, and what to
    do."""
    for base, records in inventory.unknown_bases():
        report.finding(
            f"{records} records show files under {base!r}, which is no base URL of the settings."
            " If it was one: add it to kinto.attachment.former_base_urls, and run"
            f" kinto-attachment rebase --from {shlex.quote(base)}"
            f" --to {shlex.quote(settings.base_url)} --write",
            problem="unknown base URL",
            base=base,
            records=records,
        )
