"""Takes over what kinto-attachment 0.x to 9.x left in Kinto's storage: ``kinto migrate``.

These versions kept one *link* for each upload: the relative name of the file, and the record that
it was attached to. Copies of that record, which publishing plugins made, had none. So every record
that shows the file becomes a holder of it, with the metadata that is found there, and the links
go. Until then no file of a link has a row, and without one ``References`` deletes nothing.
"""

from __future__ import annotations

import logging
from typing import Any

from kinto.core.storage.exceptions import BackendError
from kinto.core.storage.postgresql import PostgreSQLPluginMigration
from kinto.core.utils import msec_time, sqlalchemy
from pyramid.events import ApplicationCreated
from pyramid.settings import asbool

from kinto_attachment.database.scan import errors, is_postgresql
from kinto_attachment.migrations import sql as takeover
from kinto_attachment.settings import Settings

logger = logging.getLogger(__name__)

# How many of a kind are named in the log.
_EXAMPLES = 20
_CONNECT_SECONDS = 5


def register(config: Any, settings: Settings) -> None:
    """Have ``kinto migrate`` run the migration, and say at every start if it should."""
    readonly = asbool(config.get_settings().get("readonly", False))
    config.add_migration(LinksMigration(settings, readonly=readonly))
    config.add_subscriber(on_application_created, ApplicationCreated)


def on_application_created(event: Any) -> None:
    """Warn of links that wait. Whatever is wrong with the database does not stop the server."""
    try:
        waiting = waiting_links(event.app.registry.storage)
    except BackendError as error:
        logger.warning("Whether links of earlier versions wait is not known: %s", error)
        return
    if waiting:
        logger.warning(
            "%d attachments of an earlier version of kinto-attachment have not been taken over. "
            "None of their files is deleted until you run: kinto migrate --ini ...",
            waiting,
        )


def waiting_links(storage: Any) -> int:
    """How many links of earlier versions Kinto's ``storage`` still has.

    Raises Kinto's ``BackendError`` if the database cannot be asked.
    """
    if not is_postgresql(storage):
        # What was in memory has gone with the earlier version.
        return 0
    # A connection of its own: servers fork after the start, and must not share one of the pool.
    engine = sqlalchemy.create_engine(
        storage.client.session_factory.get_bind().url,
        poolclass=sqlalchemy.pool.NullPool,
        connect_args={"connect_timeout": _CONNECT_SECONDS},
    )
    with errors(), engine.connect() as connection:
        return _count_links(connection) or 0


def taken_over(connection: Any) -> int | None:
    """When links of earlier versions were taken over last, in milliseconds since 1970; ``None`` if
    there have never been any."""
    when: int | None = connection.execute(sqlalchemy.text(takeover.TAKEN_OVER)).scalar()
    return when


class LinksMigration(PostgreSQLPluginMigration):
    """What ``kinto migrate`` calls.

    It may run again, and while the server is up: others can read meanwhile, and who writes waits.
    Links that an earlier version wrote afterwards (a server that was not stopped yet, a way back)
    are taken over the next time.
    """

    name = "kinto_attachment"
    # Version 9 of the plugin registered 2.
    schema_version = 3

    def __init__(self, settings: Settings, *, readonly: bool = False) -> None:
        self._settings = settings
        self._readonly = readonly

    def initialize_schema(self, client: Any, dry_run: bool = False) -> None:
        """Take the links over; with ``dry_run`` only log what would be done.

        Raises Kinto's ``BackendError``, and nothing has changed then.
        """
        self.client = client
        if self._readonly:
            logger.error("Cannot take over attachments of earlier versions in readonly mode.")
            return
        with client.connect() as connection:
            links = _count_links(connection)
        if links is None:
            # A dry run before the first run: Kinto has not made its tables.
            logger.info("There are no attachments of earlier versions.")
        elif links or self.get_installed_version() < self.schema_version:
            self.migrate_schema(self.get_installed_version(), dry_run)
        else:
            logger.info("No attachments of earlier versions are left.")

    def migrate_schema(self, start_version: int, dry_run: bool) -> None:
        """One transaction, whatever ``start_version`` is: links are all that there is."""
        with self.client.connect(force_commit=True) as connection:
            if _count_links(connection):
                self._take_over(_Connection(connection), dry_run)
            if not dry_run:
                placeholders = {
                    "name": f"{self.name}_schema_version",
                    "value": str(self.schema_version),
                }
                connection.execute(sqlalchemy.text(takeover.REMEMBER_VERSION), placeholders)
        logger.info("Attachments of earlier versions: %s.", "simulated" if dry_run else "done")

    def _take_over(self, connection: _Connection, dry_run: bool) -> None:
        if not dry_run:
            connection.run(takeover.LOCK)
        # Temporary tables, which go with the transaction.
        bases = [*self._settings.base_urls, ""]
        for statement in takeover.PLAN:
            connection.run(statement, bases=bases)
        connection.run(takeover.PLAN_KEPT, kept_in=self._kept_in(connection))
        _report(connection)
        if not dry_run:
            for statement in (*takeover.APPLY, takeover.REMEMBER_TIME):
                connection.run(statement, now=msec_time())

    def _kept_in(self, connection: _Connection) -> list[str]:
        """The collections whose ``keep_old_files`` is for files that no record shows."""
        everywhere = self._settings.defaults
        kept = []
        for row in connection.run(takeover.COLLECTIONS_OF_UNREFERENCED):
            ids = (row.collection_uri or "").split("/")
            # "", "buckets", bucket, "collections", collection
            own = self._settings.for_collection(ids[2], ids[4]) if len(ids) > 4 else everywhere
            if own.keep_old_files:
                kept.append(row.collection_uri or "")
        return kept


class _Connection:
    """Runs statements that have some of the given placeholders, or none."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, statement: str, **placeholders: Any) -> Any:
        return self._connection.execute(sqlalchemy.text(statement), placeholders)


def _count_links(connection: Any) -> int | None:
    """``None`` if there are no tables."""
    if not connection.execute(sqlalchemy.text(takeover.HAS_TABLES)).scalar():
        return None
    count: int = connection.execute(sqlalchemy.text(takeover.COUNT_LINKS)).scalar()
    return count


def _report(connection: _Connection) -> None:
    counts = connection.run(takeover.COUNTS).one()
    logger.info("%d links: %d files, held by %d records.", counts.links, counts.files, counts.held)
    logger.info("%d files that no record shows any more are kept.", counts.kept)
    logger.info(
        "%d files that no record shows any more are left to kinto-attachment gc.",
        counts.unreferenced - counts.kept,
    )
    if counts.different:
        logger.warning(
            "%d records show a file with other metadata than most. They keep it, and theirs "
            "cannot be copied to other records:",
            counts.different,
        )
        for row in connection.run(takeover.DIFFERENT, limit=_EXAMPLES):
            logger.warning("  %s shows %s with %s", row.uri, row.name, row.metadata)
    if counts.waiting:
        logger.warning(
            "%d links are left as they are: records show their files under a base URL that is not "
            "known. Add these to kinto.attachment.former_base_urls, and migrate again:",
            counts.waiting,
        )
        for row in connection.run(takeover.UNKNOWN_BASES, limit=_EXAMPLES):
            logger.warning("  %s (%d records)", row.base, row.records)
