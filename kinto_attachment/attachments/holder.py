"""A holder: a record that references a file, or may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kinto_attachment.database.objects import Key, key


@dataclass(frozen=True)
class Holder:
    """Identifies a record."""

    bucket_id: str
    collection_id: str
    record_id: str

    @classmethod
    def at(cls, uri: str) -> Holder:
        """Parse a record's URI."""
        parent_id, _, record_id = uri.rpartition("/records/")
        return cls.under(parent_id, record_id)

    @classmethod
    def under(cls, parent_id: str, record_id: str) -> Holder:
        """Take a record as Kinto's storage has it."""
        _, _, bucket_id, _, collection_id = parent_id.split("/")
        return cls(bucket_id, collection_id, record_id)

    @classmethod
    def of(cls, ids: Mapping[str, str]) -> Holder:
        """Take the ids of a request's path, as in ``request.matchdict``."""
        return cls(ids["bucket_id"], ids["collection_id"], ids["id"])

    @property
    def parent_id(self) -> str:
        """The URI of the record's collection."""
        return f"/buckets/{self.bucket_id}/collections/{self.collection_id}"

    @property
    def key(self) -> Key:
        """The record's key in Kinto's storage."""
        return key("record", self.parent_id, self.record_id)

    @property
    def uri(self) -> str:
        """The record's URI."""
        return f"{self.parent_id}/records/{self.record_id}"
