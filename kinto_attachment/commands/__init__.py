"""The ``kinto-attachment`` command: looks at records, rows and files as a whole, and mends.

It opens the application of an ini file as ``kinto migrate`` does, beside running servers.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from kinto.core.storage.exceptions import BackendError
from pyramid.exceptions import ConfigurationError
from pyramid.paster import bootstrap

from kinto_attachment.commands import check, gc, rebase
from kinto_attachment.commands.report import Report
from kinto_attachment.commands.site import Refused, Site
from kinto_attachment.settings.schema import base_url, duration
from kinto_attachment.storage import StorageUnavailable

_EPILOG = """\
Exit status: 0 if all is well, 1 if something is wrong, 2 if the command could not do its work.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of ``arguments`` (those of the process). Returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        with bootstrap(options.ini, options={"command": "kinto-attachment"}) as environment:
            site = Site(environment["registry"])
            report = Report(options.command, as_json=options.json)
            ok: bool = options.run(site, options, report)
    except (
        BackendError,
        ConfigurationError,
        OSError,
        Refused,
        StorageUnavailable,
    ) as error:
        print(f"kinto-attachment: {error}", file=sys.stderr)
        return 2
    return 0 if ok else 1


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

    command = _command(commands, "check", check)
    command.add_argument(
        "--hash", action="store_true", help="read every file, and compare its SHA-256"
    )
    command.add_argument(
        "--repair",
        action="store_true",
        help="make the plugin's rows match the records; files and records are not touched",
    )
    _add_file_options(command)

    command = _command(commands, "gc", gc)
    command.add_argument("--delete", action="store_true", help="delete; without it, only tell")
    command.add_argument(
        "--kept-older-than",
        metavar="AGE",
        type=_age,
        help="delete also files that keep_old_files has kept for longer than that (30d)",
    )
    _add_file_options(command)

    command = _command(commands, "rebase", rebase)
    command.add_argument(
        "--from",
        dest="former",
        type=_base_url,
        metavar="URL",
        required=True,
        help="what locations start with now; empty: relative locations",
    )
    command.add_argument(
        "--to",
        dest="base_url",
        type=_base_url,
        metavar="URL",
        required=True,
        help="what they should start with: base_url of the settings, or empty",
    )
    command.add_argument("--write", action="store_true", help="write; without it, only tell")
    return parser


def _command(commands: Any, name: str, module: Any) -> argparse.ArgumentParser:
    summary, _, rest = module.__doc__.partition("\n\n")
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary}\n\n{rest}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--json", action="store_true", help="answer in JSON")
    command.set_defaults(run=module.run)
    return command


def _add_file_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--older-than",
        metavar="AGE",
        type=_age,
        default=timedelta(hours=24),
        help="leave alone files that nobody references but that are younger: they may be uploads"
        " in flight (default: 24h; a number and s, m, h, d or w)",
    )
    command.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave alone files whose name matches, like 'bundles/*'; may be repeated",
    )


def _age(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, not {text!r}") from None


def _base_url(text: str) -> str:
    try:
        return base_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, not {text!r}") from None
