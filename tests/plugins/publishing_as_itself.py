"""A plugin that publishes as signing plugins do: what is written to a record is copied to the
collection ``published``, in the plugin's own name, with a request of its own."""

from __future__ import annotations

from typing import Any

from kinto.core.events import ACTIONS, ResourceChanged, notify_resource_event
from kinto.core.utils import build_request, instance_uri

PLUGIN = "plugin", "signer"


def includeme(config: Any) -> None:
    config.registry.published_by = []
    config.add_subscriber(on_record_changed, ResourceChanged, for_resources=("record",))


def on_record_changed(event: Any) -> None:
    request, payload = event.request, event.payload
    if payload["collection_id"] == "published":
        request.registry.published_by.append((payload["user_id"], request.prefixed_userid))
        return
    ids = {"bucket_id": payload["bucket_id"], "collection_id": "published"}
    parent = instance_uri(request, "collection", bucket_id=ids["bucket_id"], id="published")
    for change in event.impacted_objects:
        record = {**change["new"]}
        new = request.registry.storage.update(
            resource_name="record", parent_id=parent, object_id=record["id"], obj=record
        )
        own = build_request(request, {"method": "PUT", "path": f"{parent}/records/{new['id']}"})
        own.matchdict = {**ids, "id": new["id"]}
        own.bound_data = request.bound_data
        own.authn_type, own.selected_userid = PLUGIN
        own.current_resource_name = "record"
        notify_resource_event(own, parent, new["last_modified"], new, ACTIONS.UPDATE, old=record)
