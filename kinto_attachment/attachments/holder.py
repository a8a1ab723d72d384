"""A record that may hold a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kinto_attachment.database.objects import Key, key


@dataclass(frozen=True)
class Holder:
    """A record that may hold a file."""

    bucket_id: str
    collection_id: str
    record_id: str

    @classmethod
    def at(cls, uri: str) -> Holder:
        """The record with that URI."""
        _, _, bucket_id, _, collection_id, _, record_id = uri.split("/")
        return cls(bucket_id, collection_id, record_id)

    @classmethod
    def of(cls, ids: Mapping[str, str]) -> Holder:
        """The record that a request's path names."""
        return cls(ids["bucket_id"], ids["collection_id"], ids["id"])

    @property
    def parent_id(self) -> str:
        """Under which Kinto's storage has the record."""
        return f"/buckets/{self.bucket_id}/collections/{self.collection_id}"

    @property
    def key(self) -> Key:
        """What Kinto's storage finds the record by."""
        return key("record", self.parent_id, self.record_id)

    @property
    def uri(self) -> str:
        return f"{self.parent_id}/records/{self.record_id}"
