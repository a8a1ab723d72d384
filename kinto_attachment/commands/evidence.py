"""What speaks for deleting: that database and storage belong together, and that few files look
like orphans, or few records like those whose file is missing. Without it, ``gc`` and ``detach``
refuse before the first change.
"""

from __future__ import annotations

from pathlib import Path

from kinto_attachment.attachments.site import MARKER, marked_site, site_ids
from kinto_attachment.commands.inventory import Inventory
from kinto_attachment.commands.selection import Selection
from kinto_attachment.commands.site import Refused, Site
from kinto_attachment.database.scan import records_with_attachment, snapshot
from kinto_attachment.migrations import pending_links
from kinto_attachment.settings import Settings
from kinto_attachment.storage import LocalOptions

_FEW = 100
"""Strays, or missing files, that are never too many."""
_SHARE = 10
"""More than the files, or records, divided by this are too many."""


def check_settings(site: Site) -> None:
    """Refuse settings with which a command cannot know which files are the site's.

    Raises ``Refused``.
    """
    if pending := pending_links(site.kinto_storage):
        raise Refused(
            f"{pending} attachments of an earlier version of kinto-attachment have not been taken"
            " over: run kinto migrate first."
        )
    check_base_path(site.settings)


def check_base_path(settings: Settings) -> None:
    """Refuse a relative path. Raises ``Refused``."""
    for name, options in (
        ("base_path", settings.storage),
        ("private.base_path", settings.private_storage),
    ):
        if isinstance(options, LocalOptions) and not Path(options.base_path).is_absolute():
            raise Refused(
                f"kinto.attachment.{name} is relative ({options.base_path}): the folder depends on"
                " where a command is started. Write the whole path, like"
                f" {Path(options.base_path).absolute()}, or where the servers run."
            )


def check_site(site: Site, inventory: Inventory, *, deletes: bool) -> None:
    """Refuse a storage that is not known to be the database's, if gc ``deletes`` anything.

    Raises ``Refused``, ``StorageUnavailable``.
    """
    found = {prefix: marked_site(files) for prefix, files in site.files.stores.items()}
    marks = set(found.values()) - {None}
    if not inventory.site_ids and (marks or inventory.has_files()):
        raise Refused(
            "the database has no site id, though files are stored: run kinto migrate on the"
            " database that the servers use. If it is another one, or was not restored entirely,"
            " its records do not name these files."
        )
    if others := sorted(filter(None, marks.difference(inventory.site_ids))):
        raise Refused(
            f"the files belong to another database: {MARKER} in the file storage has the site id"
            f" {others[0]}, the database {', '.join(inventory.site_ids)}. Look at the storage and"
            " kinto.storage_url in the ini file. If the database was set up anew for these files,"
            f" delete {MARKER}: servers write it again."
        )
    unmarked = [prefix for prefix, mark in found.items() if mark is None]
    if deletes and any(map(inventory.has_only_strangers, unmarked)):
        raise Refused(
            "the database knows none of the stored files. Look at the storage and"
            " kinto.storage_url in the ini file, and whether the database was restored entirely."
            f" If they belong together, upload a file: servers then write {MARKER} there."
        )


def check_marks(site: Site) -> None:
    """Refuse a storage without the database's ``MARKER``: files may seem to be missing because
    their disk is not mounted, or the settings name another bucket.

    Raises ``Refused``, ``StorageUnavailable``.
    """
    with snapshot(site.kinto_storage) as connection:
        ids = site_ids(connection)
    if any(marked_site(files) not in ids for files in site.files.stores.values()):
        raise Refused(
            f"the file storage has no {MARKER} with the site id of the database: look at the"
            " storage in the ini file, and whether it is mounted and restored. If it is the one"
            f" that the servers use: restart them, and upload a file: they write {MARKER} again."
        )


def doubt_missing(site: Site, count: int) -> str | None:
    """Return why so many records whose file is missing, ``count`` of them, look like a mistake;
    ``None`` if they do not."""
    if count <= _FEW:
        return None
    with snapshot(site.kinto_storage) as connection:
        records = sum(1 for _ in records_with_attachment(connection))
    if count <= records // _SHARE:
        return None
    return (
        f"{count} of {records} records would lose their file. Look whether the storage is restored"
        " entirely. If it is, and there is no other backup: --allow-many."
    )


def doubt(selection: Selection, inventory: Inventory) -> str | None:
    """Return why so many strays look like a mistake, ``None`` if they do not."""
    strays, own = selection.count_strays(), inventory.count_own_files()
    if strays <= max(_FEW, own // _SHARE):
        return None
    return (
        f"the database knows nothing of {strays} of {own} files. Look at some of them, and at"
        " kinto.storage_url in the ini file. If no record needs them: --allow-many."
    )
