"""Delete stored files that no record references.

References are read from the records of all buckets, whatever base URL their locations have. These
files stay: younger than --older-than; kept by keep_old_files (but see --kept-older-than); foreign,
with a name that this plugin does not give (but see --foreign); named by --exclude; outside of
--prefix. It only tells what it would do, unless --delete is given. --mark notes the orphans, for a
later run with --delete --marked-for 7d.
"""

from __future__ import annotations

import argparse

from kinto_attachment.commands import evidence
from kinto_attachment.commands.deletion import Deletion, DryRun
from kinto_attachment.commands.marks import mark, unmark
from kinto_attachment.commands.notes import tell_of_folders, tell_of_unknown_bases
from kinto_attachment.commands.options import add_file_options, age, pattern
from kinto_attachment.commands.patterns import Patterns
from kinto_attachment.commands.report import Report
from kinto_attachment.commands.scope import Scope
from kinto_attachment.commands.selection import Selection
from kinto_attachment.commands.site import Refused, Site
from kinto_attachment.tus.store import UploadStore


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--delete", action="store_true", help="delete; without it, only tell")
    parser.add_argument(
        "--kept-older-than",
        metavar="AGE",
        type=age,
        help="delete also files that keep_old_files has kept for longer than that (30d)",
    )
    parser.add_argument(
        "--foreign",
        metavar="PATTERN",
        type=pattern,
        action="append",
        default=[],
        help="delete also foreign files that no record references, if they are in this folder or"
        " their name matches; may be repeated",
    )
    parser.add_argument(
        "--mark", action="store_true", help="note the orphans, for a later run with --marked-for"
    )
    parser.add_argument(
        "--marked-for",
        metavar="AGE",
        type=age,
        help="delete only what --mark has noted so long ago (7d), and no run since has found in"
        " use",
    )
    parser.add_argument(
        "--allow-many",
        action="store_true",
        help="delete also if the database knows nothing of more than 100 orphans, and more than a"
        " tenth of the files",
    )
    add_file_options(parser)


def run(site: Site, options: argparse.Namespace, report: Report) -> bool:
    """Delete, or report what would be deleted; return whether nothing failed.

    Raises ``Refused`` before it deletes anything.
    """
    if options.mark and options.delete and options.marked_for is None:
        raise Refused("--mark with --delete needs --marked-for, like --marked-for 7d.")
    evidence.check_settings(site)
    excluded = Patterns(options.exclude)
    with site.inventory(excluded, Scope(options.prefix)) as inventory:
        selection = Selection(inventory, site.files, options)
        evidence.check_site(site, inventory, deletes=not selection.is_empty())
        doubt = None if options.allow_many else evidence.doubt(selection, inventory)
        if doubt and options.delete:
            raise Refused(doubt)
        tell_of_folders(report, inventory)
        tell_of_unknown_bases(report, inventory, site.settings)
        if doubt:
            report.finding(f"--delete would be refused: {doubt}", problem="doubt", text=doubt)
        counts = {**inventory.counts(selection.before), **excluded.counts()}
        if options.mark or options.delete:
            counts["marks removed"] = unmark(site.kinto_storage, inventory.stale_marks())
        if options.mark:
            counts["files marked"] = mark(site.kinto_storage, selection.unmarked())
        collection = Deletion(site, report) if options.delete else DryRun(report)
        collection.terminate_uploads(UploadStore(site.kinto_storage).expired())
        collection.delete_files(selection.deletable())
        collection.leave_files(selection.left())
        collection.forget_rows(inventory.gone(selection.before))
        collection.abort_uploads(selection.uploads())
    counts |= collection.counts
    report.close(counts, ok=not collection.failed)
    return not collection.failed
