"""Buckets and the objects in them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import Any

from tests.support.servers.gcs.checks import (
    check_conditions,
    check_custom_time,
    check_name,
    check_properties,
    number,
)
from tests.support.servers.gcs.content import Content
from tests.support.servers.gcs.errors import (
    GcsError,
    invalid,
    missing_object,
    precondition_failed,
    rate_limited,
)

_MAX_SOURCES = 32
_ACLS = (
    "authenticatedRead",
    "bucketOwnerFullControl",
    "bucketOwnerRead",
    "private",
    "projectPrivate",
    "publicRead",
)


@dataclass
class Switches:
    """What a bucket or a project can be told to be, as administrators do, and what a real server
    does now and then. They hold for all buckets if nothing else is said."""

    anonymous: bool = True
    """Requests without credentials may do everything. (Readers at ``/{bucket}/{object}`` never
    may.)"""
    allows_get_bucket: bool = False
    permissions: set[str] | None = None
    """Those that the caller has on the bucket; ``None`` is all of them. Only told, not checked."""
    public_bucket: bool = False
    """Everybody may read the objects of the bucket ``tests``, whatever their ACL."""
    public_access_prevention: bool = False
    uniform_access: bool = False
    """Buckets have no ACLs, those included that were not created so."""
    versioning: bool = False
    """Generations that were overwritten or deleted are kept, and readable."""
    one_write_per_second: bool = False
    """429 for a second write of one name within a second."""
    retention: timedelta | None = None
    """How old an object must be before it may be deleted or overwritten."""
    acknowledges: Callable[[int], int] | None = None
    """How many bytes of a chunk are kept, of those sent that were not kept before."""

    def reset(self) -> None:
        for each in fields(Switches):
            setattr(self, each.name, each.default)


@dataclass
class StoredObject:
    """One generation of an object."""

    bucket: str
    name: str
    data: Content
    properties: dict[str, Any]
    """What a client may set, as in the JSON API: ``contentType``, ``metadata``..."""
    acl: str | None
    """The predefined ACL that was asked for."""
    generation: int
    created: datetime
    component_count: int | None = None
    metageneration: int = 1
    updated: datetime | None = None

    @property
    def content(self) -> bytes:
        return self.data.all()

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def crc32c(self) -> str:
        return self.data.crc32c

    @property
    def content_type(self) -> str | None:
        return self.properties.get("contentType")

    @property
    def cache_control(self) -> str | None:
        return self.properties.get("cacheControl")

    @property
    def metadata(self) -> dict[str, str]:
        return self.properties.get("metadata", {})

    @property
    def md5(self) -> str | None:
        return None if self.component_count else self.data.md5


class Bucket:
    """The objects of a bucket. Callers hold ``lock`` around what belongs together."""

    def __init__(self, name: str, switches: Switches, uniform_access: bool = False) -> None:
        self.name = name
        self.switches = switches
        self.lock = threading.RLock()
        self.live: dict[str, StoredObject] = {}
        self.archived: dict[tuple[str, int], StoredObject] = {}
        self.acl: str | None = None
        """The predefined ACL that it was created with."""
        self._uniform_access = uniform_access
        self._written: dict[str, float] = {}
        self._generation = 0

    @property
    def uniform_access(self) -> bool:
        return self._uniform_access or self.switches.uniform_access

    def clear(self) -> None:
        self.live.clear()
        self.archived.clear()
        self._written.clear()

    def find(self, name: str, generation: str | None = None) -> StoredObject:
        """Return an object, the live generation by default. Raises ``GcsError`` (404)."""
        found = self.live.get(name)
        if generation is not None and (found is None or str(found.generation) != generation):
            found = self.archived.get((name, number("generation", generation)))
        if found is None:
            raise missing_object(self.name, name)
        return found

    def check_acl(self, acl: str | None, *, is_start: bool = False) -> None:
        """Raise ``GcsError`` for a predefined ACL that is unknown, or not allowed here.

        What public access prevention says to a session is said after its last byte.
        """
        if acl is None:
            return
        if acl not in _ACLS:
            raise invalid(f"Invalid argument: predefined ACL {acl!r}.")
        if self.uniform_access:
            raise invalid(
                "Cannot insert legacy ACL for an object when uniform bucket-level access is "
                "enabled. Read more at "
                "https://cloud.google.com/storage/docs/uniform-bucket-level-access"
            )
        if (
            not is_start
            and self.switches.public_access_prevention
            and acl in ("publicRead", "authenticatedRead")
        ):
            raise GcsError(
                412,
                "conditionNotMet",
                "The member bindings allUsers and allAuthenticatedUsers are not allowed since "
                "public access prevention is enforced.",
            )

    def put(
        self,
        name: str,
        data: Content,
        properties: dict[str, Any],
        acl: str | None,
        conditions: Mapping[str, str],
        component_count: int | None = None,
    ) -> StoredObject:
        """Make an object live, or raise ``GcsError``."""
        check_name(name)
        self.check_acl(acl)
        with self.lock:
            previous = self.live.get(name)
            check_conditions(conditions, previous)
            if previous is not None:
                self._check_is_free(previous)
            self._count_write(name)
            if previous is not None:
                self._archive(previous)
            self._generation = max(self._generation + 1, time.time_ns() // 1000)
            stored = StoredObject(
                self.name,
                name,
                data,
                {"contentType": "application/octet-stream", **properties}
                if component_count is None
                else properties,
                acl,
                self._generation,
                datetime.now(timezone.utc),
                component_count,
            )
            self.live[name] = stored
            return stored

    def patch(
        self, name: str, changes: Mapping[str, Any], query: Mapping[str, str]
    ) -> StoredObject:
        """Change the properties of an object; ``None`` removes one."""
        acl = query.get("predefinedAcl")
        self.check_acl(acl)
        checked = check_properties(changes)
        with self.lock:
            stored = self.find(name, query.get("generation"))
            check_conditions(query, stored)
            check_custom_time(stored.properties.get("customTime"), changes)
            self._count_write(name)
            metadata = {**stored.metadata, **(checked.pop("metadata", None) or {})}
            properties = {**stored.properties, **checked, "metadata": metadata}
            if "metadata" in changes and changes["metadata"] is None:
                properties.pop("metadata")
            properties["metadata"] = {
                key: value
                for key, value in properties.get("metadata", {}).items()
                if value is not None
            }
            stored.properties = {
                key: value for key, value in properties.items() if value not in (None, {})
            }
            stored.acl = acl or stored.acl
            stored.metageneration += 1
            stored.updated = datetime.now(timezone.utc)
            return stored

    def delete(self, name: str, query: Mapping[str, str]) -> None:
        with self.lock:
            stored = self.find(name, query.get("generation"))
            check_conditions(query, stored)
            self._check_is_free(stored)
            if self.live.get(name) is not stored:
                del self.archived[name, stored.generation]
                return
            del self.live[name]
            # A generation that was named goes for good.
            if "generation" not in query:
                self._archive(stored)

    def compose(
        self,
        name: str,
        sources: Any,
        properties: dict[str, Any],
        acl: str | None,
        conditions: Mapping[str, str],
    ) -> StoredObject:
        """Concatenate objects. Their properties and ACLs are not taken over."""
        if not isinstance(sources, list) or not sources:
            raise invalid("You must provide at least one source component.", "required")
        if len(sources) > _MAX_SOURCES:
            raise invalid(
                f"The number of source components provided ({len(sources)}) exceeds the maximum "
                f"({_MAX_SOURCES})"
            )
        with self.lock:
            found = [self._source(source) for source in sources]
            count = sum(stored.component_count or 1 for stored in found)
            content = Content.composed(stored.data for stored in found)
            return self.put(name, content, properties, acl, conditions, count)

    def _source(self, source: Any) -> StoredObject:
        if not isinstance(source, dict) or not isinstance(source.get("name"), str):
            raise invalid("Required", "required")
        generation = source.get("generation")
        stored = self.find(source["name"], None if generation is None else str(generation))
        wanted = (source.get("objectPreconditions") or {}).get("ifGenerationMatch")
        if wanted is not None and str(wanted) != str(stored.generation):
            raise precondition_failed()
        return stored

    def _archive(self, stored: StoredObject) -> None:
        if self.switches.versioning:
            self.archived[stored.name, stored.generation] = stored

    def _check_is_free(self, stored: StoredObject) -> None:
        which = f"Object '{self.name}/{stored.name}'"
        for flag, kind in (("temporaryHold", "Temporary"), ("eventBasedHold", "Event-Based")):
            if stored.properties.get(flag):
                raise GcsError(
                    403,
                    "forbidden",
                    f"{which} is under active {kind} hold and cannot be deleted, overwritten or "
                    "archived until hold is removed.",
                )
        if self.switches.retention is None:
            return
        until = stored.created + self.switches.retention
        if until > datetime.now(timezone.utc):
            raise GcsError(
                403,
                "retentionPolicyNotMet",
                f"{which} is subject to bucket's retention policy or object retention and cannot "
                f"be deleted or overwritten until {until.isoformat()}",
            )

    def _count_write(self, name: str) -> None:
        now = time.monotonic()
        if self.switches.one_write_per_second and now - self._written.get(name, -1) < 1:
            raise rate_limited(self.name, name)
        self._written[name] = now
