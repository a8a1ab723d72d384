"""List how many files records reference, and their bytes: by bucket, by collection, and in all.

A file counts once in each bucket and collection that has a record which references it, as for
quotas. Files that keep_old_files keeps are counted apart. Reads the plugin's rows only, and writes
nothing.
"""

from __future__ import annotations

import argparse

from kinto_attachment.attachments.lookup import FILES
from kinto_attachment.commands.report import Report
from kinto_attachment.commands.site import Site
from kinto_attachment.database.scan import snapshot
from kinto_attachment.database.usage import Usage, count_each, count_others
from kinto_attachment.migrations import pending_links
from kinto_attachment.settings import Quota

_SITE = ""
_NO_QUOTA = Quota(0, 0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add none: the command has no options of its own."""


def run(site: Site, options: argparse.Namespace, report: Report) -> bool:
    """Report the usage. Return true: there is nothing that could be wrong."""
    total = Usage(0, 0)
    quotas = site.settings.quotas
    with snapshot(site.kinto_storage) as connection:
        for uri, usage in count_each(connection, FILES):
            if uri == _SITE:
                total = usage
            else:
                _tell(report, uri, usage, quotas.get(uri, _NO_QUOTA))
        kept, unknown = count_others(connection, FILES)
    uploads = pending_links(site.kinto_storage)
    limits = quotas.get(_SITE, _NO_QUOTA).limits
    counts = {
        "files": total.files,
        "bytes": total.bytes,
        **{f"quota of {name}": limit for name, limit in limits.items()},
        "files kept": kept.files,
        "bytes kept": kept.bytes,
        "files of unknown size": unknown,
        # Of an earlier version: they are not counted yet.
        **({"uploads to take over": uploads} if uploads else {}),
    }
    report.close(counts, ok=True)
    return True


def _tell(report: Report, uri: str, usage: Usage, quota: Quota) -> None:
    report.finding(
        f"{uri}: {_of(usage.files, quota.files)} files, {_of(usage.bytes, quota.bytes)} bytes",
        uri=uri,
        files=usage.files,
        bytes=usage.bytes,
        **{f"quota_{name}": limit for name, limit in quota.limits.items()},
    )


def _of(used: int, limit: int) -> str:
    return f"{used:,} of {limit:,}" if limit else f"{used:,}"
