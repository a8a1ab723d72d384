"""A plugin that writes records with nothing but calls of Kinto's storage: nobody is notified.

It does what the header ``Silently`` of a request says, once the first change of it is known:
``copy FROM TO`` and ``delete URI`` (URIs of records), or ``restore`` (the records that the request
has deleted). A record that is missing is passed over.
"""

from __future__ import annotations

from typing import Any

from kinto.core.events import ACTIONS, ResourceChanged
from kinto.core.storage.exceptions import ObjectNotFoundError

HEADER = "Silently"


def includeme(config: Any) -> None:
    config.add_subscriber(on_change, ResourceChanged)


def on_change(event: Any) -> None:
    command, *uris = event.request.headers.get(HEADER, "nothing").split()
    storage = event.request.registry.storage
    if command == "copy":
        _copy(storage, *map(_where, uris))
    elif command == "delete":
        _delete(storage, _where(uris[0]))
    elif command == "restore" and event.payload["action"] == ACTIONS.DELETE.value:
        _restore(storage, event)


def _copy(storage: Any, source: dict[str, str], target: dict[str, str]) -> None:
    try:
        record = storage.get(**source)
    except ObjectNotFoundError:
        return
    del record["last_modified"]
    storage.update(**target, obj={**record, "id": target["object_id"]})


def _delete(storage: Any, where: dict[str, str]) -> None:
    try:
        storage.delete(**where)
    except ObjectNotFoundError:
        return


def _restore(storage: Any, event: Any) -> None:
    ids = event.payload
    parent_id = f"/buckets/{ids['bucket_id']}/collections/{ids['collection_id']}"
    for change in event.impacted_objects:
        record = {key: change["old"][key] for key in change["old"] if key != "last_modified"}
        storage.create(resource_name="record", parent_id=parent_id, obj=record)


def _where(uri: str) -> dict[str, str]:
    parent_id, _, record_id = uri.rpartition("/records/")
    return {"resource_name": "record", "parent_id": parent_id, "object_id": record_id}
