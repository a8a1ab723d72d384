"""A plugin of Kinto for the tests, with what it takes to look into a request of Kinto's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kinto.core import Service
from kinto.core.cornice.cors import get_cors_preflight_view
from kinto.core.events import ACTIONS, ResourceChanged
from kinto.core.storage.postgresql import PostgreSQLPluginMigration
from kinto.core.utils import sqlalchemy
from pyramid.security import NO_PERMISSION_REQUIRED

from tests.conftest import KintoApp

PATH = "/buckets/{bucket_id}/collections/{collection_id}/records/{id}/probe"


def includeme(config: Any) -> None:
    """Add a service below records, as kinto_attachment does; ``registry.probe`` is its view, and
    ``registry.probed`` has what the plugin hears of."""
    service = Service(name="probe", path=PATH)
    public = {"permission": NO_PERMISSION_REQUIRED}
    service.add_view("POST", lambda request: request.registry.probe(request), **public)
    service.add_view("OPTIONS", get_cors_preflight_view(service), **public)
    config.add_cornice_service(service)
    config.registry.probed = []
    config.registry.heartbeats["probe"] = lambda request: True
    config.registry.public_settings.add("probe.public")
    config.add_settings({"probe.public": "told"})
    config.add_migration(Migration(config.registry))
    config.add_subscriber(
        _on_collection_deleted,
        ResourceChanged,
        for_resources=("collection",),
        for_actions=(ACTIONS.DELETE,),
    )


class Migration(PostgreSQLPluginMigration):
    """Remembers how it was called, with which installed version."""

    name = "probe"
    schema_version = 3

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def initialize_schema(self, client: Any, dry_run: bool = False) -> None:
        self.client = client
        self._registry.probed.append((dry_run, self.get_installed_version()))
        statement = "INSERT INTO metadata (name, value) VALUES ('probe_schema_version', '3')"
        with client.connect(force_commit=True) as session:
            session.execute(sqlalchemy.text(statement))


def _on_collection_deleted(event: Any) -> None:
    parent_id = (
        f"/buckets/{event.payload['bucket_id']}/collections/{event.payload['collection_id']}"
    )
    storage = event.request.registry.storage
    records = storage.list_all(resource_name="record", parent_id=parent_id)
    event.request.registry.probed += [record["id"] for record in records]


def within(app: KintoApp, record: str, look: Callable[[Any], Any]) -> Any:
    """Return what ``look(request)`` returns in a view below the record with that URI, or raise
    what it raises; the request succeeds all the same."""
    outcome: dict[str, Any] = {}

    def view(request: Any) -> Any:
        # Kinto then knows the user, as it does in a view that needs a permission.
        _ = request.authenticated_userid
        try:
            outcome["value"] = look(request)
        except Exception as error:
            outcome["error"] = error
        return {}

    app.registry.probe = view
    app.post(f"/v1{record}/probe")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


@contextmanager
def listening(app: KintoApp, kind: type, hear: Callable[[Any], Any]) -> Iterator[list[Any]]:
    """What ``hear(event)`` returns for each event of that kind, but ``None``."""
    heard: list[Any] = []

    def handler(event: Any) -> None:
        if (told := hear(event)) is not None:
            heard.append(told)

    app.registry.registerHandler(handler, (kind,))
    try:
        yield heard
    finally:
        app.registry.unregisterHandler(handler, (kind,))
