"""Give the database its site id when ``kinto migrate`` runs: see ``attachments.site``."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

from kinto.core.storage.postgresql import PostgreSQLPluginMigration
from kinto.core.utils import sqlalchemy

logger = logging.getLogger(__name__)

_ADD = """
INSERT INTO metadata (name, value)
SELECT 'kinto_attachment_site', CAST(:site_id AS text)
 WHERE NOT EXISTS (SELECT FROM metadata WHERE name = 'kinto_attachment_site')
"""


class SiteMigration(PostgreSQLPluginMigration):
    """Adds a random id to Kinto's ``metadata``, if it has none."""

    name = "kinto_attachment_site"

    def __init__(self, *, readonly: bool = False) -> None:
        self._readonly = readonly

    def initialize_schema(self, client: Any, dry_run: bool = False) -> None:
        """Add the id, unless with ``dry_run``."""
        if self._readonly:
            logger.error("Cannot give the database a site id in readonly mode.")
        elif not dry_run:
            with client.connect(force_commit=True) as connection:
                connection.execute(sqlalchemy.text(_ADD), {"site_id": str(uuid4())})
