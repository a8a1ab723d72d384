"""What ``kinto migrate`` does: migrate the links of versions 0.x to 9.x, create an index.

These versions kept one *link* for each upload: the relative name of the file, and the URI of the
record that it was attached to. Copies of the record, which publishing plugins made, had none. So
every record that references the file becomes a holder of it, with the metadata that it has, and
the links are deleted. Until then these files have no row, and ``References`` deletes none of them.
"""

from __future__ import annotations

import logging
from typing import Any

import transaction
from kinto.core.storage.exceptions import BackendError
from kinto.core.storage.postgresql import PostgreSQLPluginMigration
from kinto.core.utils import msec_time, sqlalchemy
from pyramid.events import ApplicationCreated
from pyramid.settings import asbool

from kinto_attachment.database import location_index
from kinto_attachment.database.scan import is_postgresql, unpooled
from kinto_attachment.migrations import sql
from kinto_attachment.migrations.site import SiteMigration
from kinto_attachment.settings import Settings

logger = logging.getLogger(__name__)

_EXAMPLES = 20
"""Records of a kind that the log names."""


def register(config: Any, settings: Settings) -> None:
    """Add the migration to ``kinto migrate``, and warn at every start if it has not run."""
    readonly = asbool(config.get_settings().get("readonly", False))
    config.add_migration(LinksMigration(settings, readonly=readonly))
    config.add_migration(SiteMigration(readonly=readonly))
    config.add_subscriber(on_application_created, ApplicationCreated)


def on_application_created(event: Any) -> None:
    """Warn of what is to be migrated. Errors of the database do not stop the server."""
    try:
        pending, has_index = _state(event.app.registry.storage)
    except BackendError as error:
        logger.warning("Whether links of earlier versions wait is not known: %s", error)
        return
    if not has_index:
        logger.warning(
            "The index of attachments' locations is missing. Until you run kinto migrate --ini "
            "..., files that records do not reference any more are left for kinto-attachment gc."
        )
    if pending:
        logger.warning(
            "%d attachments of an earlier version of kinto-attachment have not been taken over. "
            "None of their files is deleted until you run: kinto migrate --ini ...",
            pending,
        )


def pending_links(kinto_storage: Any) -> int:
    """Count the links that are still to be migrated. Raises Kinto's ``BackendError``."""
    return _state(kinto_storage)[0]


def _state(kinto_storage: Any) -> tuple[int, bool]:
    """Return how many links are to be migrated, and whether the index can be used."""
    if not is_postgresql(kinto_storage):
        # The memory backend has lost those of the earlier version.
        return 0, True
    # Servers fork after the start, and must not share a connection of the pool.
    with unpooled(kinto_storage.client) as connection:
        links = _count_links(connection)
        # Without tables, Kinto itself asks for kinto migrate.
        return links or 0, links is None or location_index.is_valid(connection)


def migrated_at(connection: Any) -> int | None:
    """Return when links were migrated last, in milliseconds since 1970; ``None`` if never."""
    when: int | None = _execute(connection, sql.LAST_MIGRATION).scalar()
    return when


class LinksMigration(PostgreSQLPluginMigration):
    """Migrates links to rows.

    May run while the server is up: requests that write then wait, others do not. May run again, to
    migrate links that an earlier version wrote afterwards (before it was stopped, or after a way
    back).
    """

    name = "kinto_attachment"
    # Version 9 of the plugin registered 2.
    schema_version = 4

    def __init__(self, settings: Settings, *, readonly: bool = False) -> None:
        self._settings = settings
        self._readonly = readonly

    def initialize_schema(self, client: Any, dry_run: bool = False) -> None:
        """Migrate the links; with ``dry_run``, only log what would be done.

        Raises Kinto's ``BackendError``; then nothing has changed.
        """
        self.client = client
        if self._readonly:
            logger.error("Cannot take over attachments of earlier versions in readonly mode.")
            return
        with client.connect(force_commit=True) as connection:
            links = _count_links(connection)
        if links is None:
            # A dry run before the first run: Kinto has not made its tables.
            logger.info("There are no attachments of earlier versions.")
        elif links or self.get_installed_version() < self.schema_version:
            self.migrate_schema(self.get_installed_version(), dry_run)
        else:
            logger.info("No attachments of earlier versions are left.")
        if links is not None and not dry_run:
            self._create_index()

    def migrate_schema(self, start_version: int, dry_run: bool) -> None:
        """Migrate in one transaction, whatever ``start_version`` is: all versions had links."""
        with self.client.connect(force_commit=True) as connection:
            if _count_links(connection):
                self._migrate(connection, dry_run)
            if not dry_run:
                _execute(connection, sql.ADD_LOCATIONS)
                name = f"{self.name}_schema_version"
                _execute(connection, sql.STORE_VERSION, name=name, value=str(self.schema_version))
        logger.info("Attachments of earlier versions: %s.", "simulated" if dry_run else "done")

    def _create_index(self) -> None:
        # PostgreSQL waits for every open transaction, also one of this thread that only read.
        transaction.abort()
        try:
            location_index.create(self.client)
        except BackendError as error:
            logger.error(
                "The index of attachments' locations was not created, run kinto migrate again: %s",
                error,
            )

    def _migrate(self, connection: Any, dry_run: bool) -> None:
        if not dry_run:
            _execute(connection, sql.LOCK)
        # Temporary tables, which PostgreSQL drops at the end of the transaction.
        bases = [*self._settings.base_urls, ""]
        for statement in sql.PLAN:
            _execute(connection, statement, bases=bases)
        _execute(connection, sql.PLAN_KEPT, kept_in=self._kept_in(connection))
        _log(connection)
        if not dry_run:
            for statement in (*sql.APPLY, sql.STORE_TIME):
                _execute(connection, statement, now=msec_time())

    def _kept_in(self, connection: Any) -> list[str]:
        """Return the URIs of collections that keep old files; empty for links without one."""
        defaults = self._settings.defaults
        kept = []
        for row in _execute(connection, sql.COLLECTIONS_OF_ORPHANS):
            ids = (row.collection_uri or "").split("/")
            # "", "buckets", bucket, "collections", collection
            own = self._settings.for_collection(ids[2], ids[4]) if len(ids) > 4 else defaults
            if own.keep_old_files:
                kept.append(row.collection_uri or "")
        return kept


def _execute(connection: Any, statement: str, **parameters: Any) -> Any:
    """Execute a statement, which may have only some of the parameters."""
    return connection.execute(sqlalchemy.text(statement), parameters)


def _count_links(connection: Any) -> int | None:
    """Count the links to migrate; ``None`` if Kinto has not created its tables."""
    if not _execute(connection, sql.HAS_TABLES).scalar():
        return None
    count: int = _execute(connection, sql.COUNT_LINKS).scalar()
    return count


def _log(connection: Any) -> None:
    # Clients wrote what is quoted: repr() escapes what would move the cursor.
    counts = _execute(connection, sql.COUNTS).one()
    logger.info("%d links: %d files, held by %d records.", counts.links, counts.files, counts.held)
    logger.info("%d files that no record shows any more are kept.", counts.kept)
    logger.info(
        "%d files that no record shows any more are left to kinto-attachment gc.",
        counts.orphans - counts.kept,
    )
    if counts.different:
        logger.warning(
            "%d records show a file with other metadata than most. They keep it, and theirs "
            "cannot be copied to other records:",
            counts.different,
        )
        for row in _execute(connection, sql.DIFFERENT, limit=_EXAMPLES):
            logger.warning("  %r shows %r with %r", row.uri, row.name, row.metadata)
    if counts.pending:
        logger.warning(
            "%d links are left as they are: records show their files under a base URL that is not "
            "known. Add these to kinto.attachment.former_base_urls, and migrate again:",
            counts.pending,
        )
        for row in _execute(connection, sql.UNKNOWN_BASES, limit=_EXAMPLES):
            logger.warning("  %r (%d records)", row.base, row.records)
