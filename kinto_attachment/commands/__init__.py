"""The ``kinto-attachment`` command: checks and cleans up all records, rows and files of a server.

It loads the application of an ini file as ``kinto migrate`` does (but for ``preflight``), and may
run beside servers.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kinto.core.storage.exceptions import BackendError
from pyramid.exceptions import ConfigurationError
from pyramid.paster import bootstrap

from kinto_attachment.commands import (
    check,
    copy,
    detach,
    gc,
    preflight,
    publish,
    rebase,
    restore,
    textfile,
    usage,
    withdraw,
)
from kinto_attachment.commands.ini import starting
from kinto_attachment.commands.options import file
from kinto_attachment.commands.report import PrintableFormatter, Report, printable
from kinto_attachment.commands.site import Refused, Site
from kinto_attachment.storage import StorageUnavailable

logger = logging.getLogger(__name__)

_EPILOG = """\
Exit status: 0 if all is well, 1 if something is wrong, 2 if the command could not do its work,
130 if it was interrupted.
"""
_INTERRUPTED = 128 + signal.SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in ``arguments``, by default the process's; return the exit status."""
    options = _parser().parse_args(arguments)
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # Kinto empties the folder at its start: that of the servers' metrics.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    started = time.time()
    try:
        status, counts = _run(options)
    except KeyboardInterrupt:
        # The metrics stay those of the last run that has ended.
        print("kinto-attachment: interrupted", file=sys.stderr)
        return _INTERRUPTED
    if getattr(options, "metrics", None) is not None:
        try:
            textfile.write(options.metrics, options.command, counts, status, started)
        except OSError as error:
            return _failed(error)
    return status


def _run(options: argparse.Namespace) -> tuple[int, dict[str, int] | None]:
    """Run the command; return the exit status, and its counts if it has done its work."""
    try:
        with options.open_site(options.ini) as site:
            report = Report(options.command, as_json=options.json)
            ok: bool = options.run(site, options, report)
    except (BackendError, ConfigurationError, OSError, Refused, StorageUnavailable) as error:
        return _failed(error), None
    except Exception:
        # Python's own status, 1, would say that something was found.
        logger.exception("The command failed.")
        return 2, None
    return 0 if ok else 1, report.counts


def _failed(error: Exception) -> int:
    # PostgreSQL's have several lines.
    sentence = " ".join(line.strip() for line in str(error).strip().split("\n"))
    print(printable(f"kinto-attachment: {sentence}"), file=sys.stderr)
    return 2


@contextmanager
def _open_site(ini: str) -> Iterator[Site]:
    """Load the application of an ini file. Raises ``Refused``, ``BackendError``, ``OSError``, and
    ``ConfigurationError``."""
    with starting(ini):
        environment = bootstrap(ini, options={"command": "kinto-attachment"})
    with environment:
        yield Site(environment["registry"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kinto-attachment",
        description="Look after the files that are attached to Kinto records.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--ini",
        metavar="FILE",
        default=os.environ.get("KINTO_INI", "config/kinto.ini"),
        help="settings of the Kinto server (default: $KINTO_INI, or config/kinto.ini)",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (check, copy, detach, gc, preflight, publish, rebase, restore, usage, withdraw):
        _add_command(commands, module)
    return parser


def _add_command(commands: Any, module: Any) -> None:
    """Add a command, which its module documents, adds options to and runs."""
    summary, _, rest = module.__doc__.partition("\n\n")
    name = module.__name__.rpartition(".")[2]
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary}\n\n{rest}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--json", action="store_true", help="answer in JSON")
    if name in textfile.GAUGES:
        command.add_argument(
            "--metrics",
            metavar="FILE",
            type=file,
            help="replace this file with the outcome, for node_exporter's textfile collector",
        )
    module.add_options(command)
    # One command works where the application does not start.
    command.set_defaults(run=module.run, open_site=getattr(module, "open_site", _open_site))
