"""The file storage of another ini file, as the target of a copy. Only its settings
``kinto.attachment.*`` count: no application is started, and no database opened.
"""

from __future__ import annotations

import configparser
import itertools
import os
from dataclasses import dataclass

from pyramid.exceptions import ConfigurationError

from kinto_attachment.attachments.site import MARKER, mark_site, marked_site
from kinto_attachment.commands.evidence import check_base_path
from kinto_attachment.commands.ini import read_ini
from kinto_attachment.commands.site import Refused
from kinto_attachment.settings import Settings
from kinto_attachment.storage import (
    LocalOptions,
    S3Options,
    StorageOptions,
)
from kinto_attachment.storage.files import Files, open_files


@dataclass(frozen=True)
class Target:
    """Where files are copied to, and how."""

    settings: Settings
    files: Files

    def belongs_to_site(self, site_ids: list[str]) -> bool:
        """Whether it is marked as the store of this site, which has these ids; a new one is not
        marked. Raises ``Refused``, ``StorageUnavailable``."""
        marks = [marked_site(files) for files in self.files.stores.values()]
        for marked in marks:
            if marked is not None and marked not in site_ids:
                raise Refused(
                    f"the target belongs to another database: its {MARKER} has the site id"
                    f" {marked}, the database {', '.join(site_ids) or 'none'}. Look at the storage"
                    " in the ini file of --to-ini. If no other server uses it, delete"
                    f" {MARKER} there."
                )
        return None not in marks

    def mark(self, site_id: str) -> None:
        """Mark it as the store of this site. Raises ``StorageUnavailable``."""
        for files in self.files.stores.values():
            mark_site(files, site_id)


def open_target(ini: str, source: Settings) -> Target:
    """Open the storage of an ini file, which is another one than that of ``source``.

    Raises ``Refused``, ``OSError``.
    """
    try:
        settings = Settings.from_kinto(read_ini(ini).get_settings())
        check_base_path(settings)
        for one, other in itertools.product(_places(source), _places(settings)):
            _check_place(one, other)
        files = open_files(settings.storage, settings.private_storage, settings.base_url)
        return Target(settings, files)
    except (ConfigurationError, ImportError, LookupError, Refused, ValueError) as error:
        raise Refused(f"--to-ini {ini}: {error}") from error
    except configparser.Error as error:
        raise Refused(f"--to-ini {ini} is no ini file: {error}") from error


def _places(settings: Settings) -> list[StorageOptions]:
    private = settings.private_storage
    return [settings.storage] if private is None else [settings.storage, private]


def _check_place(source: StorageOptions, target: StorageOptions) -> None:
    """Refuse a target that is the source, or inside it. Raises ``Refused``."""
    if isinstance(source, LocalOptions) and isinstance(target, LocalOptions):
        paths = [os.path.realpath(each.base_path) for each in (source, target)]
        if os.path.commonpath(paths) in paths:
            raise Refused(
                f"its folder of files ({paths[1]}) and that of the source ({paths[0]})"
                " are the same folder, or one is inside the other."
            )
    elif _place(source) == _place(target):
        raise Refused("it names the bucket that the files are in.")


def _place(options: StorageOptions) -> tuple[object, ...]:
    if isinstance(options, LocalOptions):
        return (options.base_path,)
    endpoint = options.endpoint if isinstance(options, S3Options) else options.endpoint_url
    return type(options), endpoint, options.bucket
