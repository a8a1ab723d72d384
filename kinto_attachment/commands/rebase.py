"""Rewrite the locations of records after base_url has changed.

Locations that start with --from start with --to afterwards; either may be empty, for relative
locations. Records are written as by any client: they get a new timestamp, and history and other
plugins see them. It only tells what it would do, unless --write is given.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Iterable
from itertools import groupby, islice
from typing import Any

from kinto_attachment.attachments.holder import Holder
from kinto_attachment.commands import edits
from kinto_attachment.commands.options import base_url
from kinto_attachment.commands.report import Report, progress
from kinto_attachment.commands.site import Refused, Site
from kinto_attachment.database.objects import lock
from kinto_attachment.database.scan import records_with_attachment, snapshot
from kinto_attachment.http.multipart import FILE

logger = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--from",
        dest="former",
        type=base_url,
        metavar="URL",
        required=True,
        help="what locations start with now; empty: relative locations",
    )
    parser.add_argument(
        "--to",
        dest="base_url",
        type=base_url,
        metavar="URL",
        required=True,
        help="what they should start with: base_url of the settings, or empty",
    )
    parser.add_argument("--write", action="store_true", help="write; without it, only tell")


def run(site: Site, options: argparse.Namespace, report: Report) -> bool:
    """Rewrite locations, or report which; return whether nothing failed. Raises ``Refused``."""
    rebase = _Rebase(site, options.former, options.base_url)
    counts = {"records to write": 0}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as uris:
        with snapshot(site.kinto_storage) as connection:
            for uri, attachment in progress(records_with_attachment(connection), "records"):
                location = rebase.location(attachment)
                if location is not None:
                    uris.write(f"{json.dumps(uri)}\n")
                    counts["records to write"] += 1
                    former = attachment["location"]
                    sentence = f"{uri}: {former} -> {location}"
                    report.finding(sentence, record=uri, former=former, location=location)
        if options.write:
            uris.seek(0)
            rebase.write(map(json.loads, progress(uris, "written")))
            counts |= {"records written": rebase.written, "records that failed": rebase.failed}
    report.close(counts, ok=not rebase.failed)
    return not rebase.failed


class _Rebase:
    """Replaces ``former`` by ``base_url`` at the start of locations."""

    def __init__(self, site: Site, former: str, base_url: str) -> None:
        """Raises ``Refused`` if the server does not have ``base_url`` in its settings."""
        settings = site.settings
        known = {"", settings.base_url, settings.extra_base_url, *settings.former_base_urls}
        if base_url not in known:
            raise Refused(
                f"--to should be what kinto.attachment.base_url says ({settings.base_url!r}), or"
                f" empty: the server would not know its own files at {base_url!r}."
            )
        self._site = site
        self._former = former
        self._base_url = base_url
        self.written = 0
        self.failed = 0

    def location(self, attachment: dict[str, Any]) -> str | None:
        """Return the new location of an attachment, ``None`` if it stays."""
        location = attachment.get("location")
        if not isinstance(location, str) or not location.startswith(self._former):
            return None
        if self._former == "" and (location.startswith("/") or "://" in location):
            return None
        # Rewritten before: ``base_url`` may begin with ``former`` (/files/v2/ and /files/).
        if self._base_url.startswith(self._former) and location.startswith(self._base_url):
            return None
        return f"{self._base_url}{location.removeprefix(self._former)}"

    def write(self, uris: Iterable[str]) -> None:
        """Rewrite records, which come sorted by collection."""
        for _, group in groupby(map(Holder.at, uris), key=lambda holder: holder.parent_id):
            while batch := list(islice(group, edits.BATCH)):
                self._write_batch(batch)

    def _write_batch(self, holders: list[Holder]) -> None:
        written, failed = edits.apply(self._site.registry, holders, self._edit)
        self.written += written
        self.failed += len(failed)
        for holder, error in failed.items():
            logger.error("%s was not written.", holder.uri, exc_info=error)

    def _edit(self, request: Any, holder: Holder) -> bool:
        """Rewrite one record, unless its location does not need it any more."""
        record = lock(self._site.kinto_storage, **holder.key)
        attachment = (record or {}).get(FILE)
        if record is None or not isinstance(attachment, dict):
            return False
        location = self.location(attachment)
        if location is None:
            return False
        edits.update(
            request, holder, record, {**record, FILE: {**attachment, "location": location}}
        )
        return True
