"""Options that several commands have, and the types of their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from kinto_attachment.commands.patterns import name_pattern
from kinto_attachment.commands.scope import name_prefix
from kinto_attachment.settings import parsers

_Value = TypeVar("_Value")


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that leave out stored files."""
    parser.add_argument(
        "--older-than",
        metavar="AGE",
        type=age,
        default=timedelta(hours=24),
        help="leave alone files that nobody references but that are younger: they may be uploads"
        " in flight (default: 24h; a number and s, m, h, d or w)",
    )
    parser.add_argument(
        "--prefix",
        metavar="PREFIX",
        type=prefix,
        action="append",
        default=[],
        help="list only the files whose name starts with it, like 'main/', and hidden parts of"
        " uploads: where others fill the bucket; may be repeated",
    )
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        type=pattern,
        action="append",
        default=[],
        help="leave alone the files of a folder, like 'bundles', or whose name matches, like"
        " '*.zip'; may be repeated",
    )


def age(text: str) -> timedelta:
    """Parse a duration, as settings have it."""
    return _parsed(parsers.duration, text)


def base_url(text: str) -> str:
    """Parse a base URL, as settings have it."""
    return _parsed(parsers.base_url, text)


def file(text: str) -> Path:
    """Parse the path of a file to write."""
    path = Path(text)
    if not path.name or path.is_dir():
        raise argparse.ArgumentTypeError(f"should be a file, not {text!r}")
    return path


def pattern(text: str) -> str:
    """Parse a pattern of names of stored files."""
    return _parsed(name_pattern, text)


def prefix(text: str) -> str:
    """Parse how names of stored files start."""
    return _parsed(name_prefix, text)


def _parsed(parse: Callable[[str], _Value], text: str) -> _Value:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, not {text!r}") from None
