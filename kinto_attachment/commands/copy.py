"""Copy all files to the storage of another ini file.

Every file that a row or a record knows is copied under exactly its name, those that keep_old_files
has kept included; foreign and unreferenced files are not. The source stays as it is. Of the other
ini file, only the settings kinto.attachment.* count: records and rows stay in the database of
--ini. A second run copies what is still missing, and brings back nothing that was deleted since.
"""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import closing

from kinto_attachment.commands import evidence
from kinto_attachment.commands.batches import batches
from kinto_attachment.commands.inventory import FOREIGN, Inventory
from kinto_attachment.commands.notes import tell_of_folders, tell_of_unknown_bases
from kinto_attachment.commands.patterns import Patterns
from kinto_attachment.commands.plan import Plan, make_plan
from kinto_attachment.commands.report import Report, progress
from kinto_attachment.commands.site import Site
from kinto_attachment.commands.target import open_target
from kinto_attachment.commands.transfer import BYTES, FAILED, PROBLEMS, Transfer

_REFUSED = "names that the target cannot have"
_UNTRIED = "files not tried"
_MAX_FAILURES = 50
"""Failures in a row after which the other files are not tried."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--to-ini",
        metavar="FILE",
        required=True,
        help="ini file with the settings of the storage to copy to",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="tell what would be copied, and write nothing"
    )


def run(site: Site, options: argparse.Namespace, report: Report) -> bool:
    """Copy files, or report which; return whether the target has all of them then.

    Raises ``Refused`` before it writes anything.
    """
    evidence.check_settings(site)
    target = open_target(options.to_ini, site.settings)
    with site.inventory(Patterns([])) as inventory:
        evidence.check_site(site, inventory, deletes=False)
        is_marked = target.belongs_to_site(inventory.site_ids)
        tell_of_folders(report, inventory)
        tell_of_unknown_bases(report, inventory, site.settings)
        others = _tell_of_others(report, inventory, by_name=options.dry_run)
        counts = {**inventory.counts(), "files left out": others}
        if not options.dry_run:
            if inventory.site_ids and not is_marked:
                target.mark(inventory.site_ids[0])
            counts["rows added for kept files"] = _add_rows(site, inventory)
        with make_plan(progress(inventory.known_files(), "names"), target.files) as plan:
            counts[_REFUSED] = _tell_of_refused(report, plan)
            transfer = Transfer(site, target, dry_run=options.dry_run)
            counts |= _transfer(report, plan, transfer)
    ok = not any(counts.get(title) for title in (_REFUSED, _UNTRIED, *PROBLEMS))
    report.close(counts, ok=ok)
    return ok


def _tell_of_others(report: Report, inventory: Inventory, *, by_name: bool) -> int:
    """Tell which stored files are not copied, or only how many; return how many."""
    count = size = 0
    for file in inventory.unknown_files():
        count, size = count + 1, size + file.size
        if by_name:
            reason = "is foreign" if file.kind == FOREIGN else "is referenced by no record"
            report.finding(
                f"{file.name} would not be copied: it {reason} ({file.size:,} bytes)",
                name=file.name,
                size=file.size,
                kind=file.kind,
                copied=False,
            )
    if count and not by_name:
        report.finding(
            f"{count:,} files that no row and no record knows are not copied ({size:,} bytes);"
            " --dry-run names them",
            left=count,
            size=size,
        )
    return count


def _add_rows(site: Site, inventory: Inventory) -> int:
    """Write rows for files that an earlier version has kept: their dates are new at the target,
    where ``gc`` would take them for strays. Return how many."""
    count = 0
    for batch in batches(inventory.kept_without_row()):
        since = {file.name: round(file.modified.timestamp() * 1000) for file in batch}
        with site.references() as references:
            count += references.add_kept(since)
    return count


def _tell_of_refused(report: Report, plan: Plan) -> int:
    """Name the files whose name the target cannot have; return how many."""
    count = 0
    for name, reason in plan.refused():
        count += 1
        report.finding(
            f"{name} cannot be stored at the target: it {reason}",
            problem="name",
            name=name,
            reason=reason,
        )
    return count


def _transfer(report: Report, plan: Plan, transfer: Transfer) -> dict[str, int]:
    """Transfer the files of the plan; return the counts."""
    total, failures, unknown = plan.count_accepted(), 0, 0
    counts = Counter(dict.fromkeys(transfer.titles, 0))
    with closing(transfer.all(plan.accepted())) as outcomes:
        for done, outcome in enumerate(progress(outcomes, "files", total), 1):
            counts[outcome.title] += 1
            if outcome.title in BYTES:
                counts[BYTES[outcome.title]] += outcome.size
            unknown += not outcome.hash_is_known
            if outcome.sentence:
                report.finding(
                    outcome.sentence,
                    problem=PROBLEMS.get(outcome.title),
                    name=outcome.name,
                    size=outcome.size,
                    text=outcome.sentence,
                )
            failures = failures + 1 if outcome.title == FAILED else 0
            if failures == _MAX_FAILURES and done < total:
                counts[_UNTRIED] = total - done
                sentence = f"{failures} files in a row failed: {total - done:,} were not tried"
                report.finding(sentence, problem="untried", left=total - done)
                break
    if unknown:
        report.finding(
            f"{unknown:,} files have no SHA-256 in the database: those of source and target were"
            " compared",
            compared=unknown,
        )
    return counts
