"""Make the files of a collection private that were uploaded before it became private.

Each file is copied to the store of private files under a new random name, and the records that
reference it are written as by any client: they get a new timestamp, and history and other plugins
see them. The public file is then deleted, unless records of other collections reference it or
keep_old_files keeps it: the output names it. It only tells what it would do, unless --write is
given.
"""

from __future__ import annotations

import argparse

from kinto_attachment.commands import relocation
from kinto_attachment.commands.report import Report
from kinto_attachment.commands.site import Site


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    relocation.add_options(parser)


def run(site: Site, options: argparse.Namespace, report: Report) -> bool:
    """Move files, or report which; return whether nothing failed. Raises ``Refused``."""
    return relocation.run(site, options, report, private=True)
