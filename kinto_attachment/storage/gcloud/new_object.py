"""An object on its way to Google, that does not replace another one.

Google may have stored an object although it reported a failure, or says of a name that it is
taken because a request whose answer was lost has taken it. Such an object can be found: each
carries the mark of the upload that made it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kinto_attachment.storage.base import NewFile
from kinto_attachment.storage.gcloud.bucket import Bucket
from kinto_attachment.storage.gcloud.content import Buffer, encoded
from kinto_attachment.storage.gcloud.session import ApiError, GoogleError, Object, size_of
from kinto_attachment.storage.gcloud.upload import Upload

_MARK = "upload"
SHA256 = "sha256"
"""The name of the metadata that has ``NewFile.sha256``."""


def attributes_of(new: NewFile, default_acl: str) -> dict[str, str]:
    """Return the attributes of the object for ``new``; an empty ACL is none."""
    acl = default_acl if new.acl is None else new.acl
    attributes = {
        "contentType": new.content_type,
        "cacheControl": new.cache_control,
        "predefinedAcl": acl,
    }
    return {name: value for name, value in attributes.items() if value}


class NewObject:
    """Creates the object, and others on the way to it. Raises ``GoogleError``.

    What is created is compared with the CRC32C and the size in bytes of what was sent.
    """

    def __init__(
        self, bucket: Bucket, attributes: Mapping[str, Any], mark: str, sha256: str | None = None
    ) -> None:
        """``attributes`` are those of ``attributes_of()``; ``mark`` is the id of the upload;
        ``sha256`` is that of the content, if it is known."""
        self._bucket = bucket
        self._mark = mark
        metadata = {_MARK: mark} | ({SHA256: sha256} if sha256 else {})
        self._attributes = {**attributes, "metadata": metadata}
        # Nobody else may read what has not got its name yet. Without ACLs, the bucket decides.
        self._hidden_attributes = dict(self._attributes)
        if "predefinedAcl" in attributes:
            self._hidden_attributes["predefinedAcl"] = "projectPrivate"
        # Of these names: what Google has created, or may have although it reported a failure.
        self._created: set[str] = set()

    def insert(
        self, name: str, content: Buffer, crc32c: int, *, hidden: bool = False
    ) -> Object | None:
        """Store ``content``. Return the object, or ``None`` if the name is taken."""
        attributes = self._hidden_attributes if hidden else self._attributes
        return self._create(
            name,
            lambda: self._bucket.insert(name, content, crc32c, attributes),
            crc32c,
            len(content),
        )

    def start_upload(self, name: str, *, hidden: bool = False) -> Upload:
        """Start an upload to ``name``."""
        attributes = self._hidden_attributes if hidden else self._attributes
        return Upload(self._bucket, name, attributes)

    def finish_upload(
        self, upload: Upload, content: Buffer, crc32c: int, size: int
    ) -> Object | None:
        """Send the last chunk. Return the object, or ``None`` if the name is taken."""
        return self._create(upload.name, lambda: upload.finish(content, crc32c), crc32c, size)

    def compose(
        self,
        name: str,
        sources: Sequence[tuple[str, str]],
        crc32c: int,
        size: int,
        *,
        hidden: bool = False,
    ) -> Object | None:
        """Make an object of 1 to 32 others, given by name and generation. Return the object, or
        ``None`` if the name is taken. Raises ``ApiError`` 404 if a source is missing."""
        attributes = self._hidden_attributes if hidden else self._attributes
        return self._create(
            name, lambda: self._bucket.compose(name, sources, attributes), crc32c, size
        )

    def delete(self, name: str) -> None:
        """Delete the object ``name``, if this upload has made it."""
        own = self.own(name)
        if own is not None:
            self._bucket.delete(name, own["generation"])
        self._created.discard(name)

    def exists(self, name: str) -> bool:
        """Whether there is an object ``name``."""
        return self._bucket.get(name) is not None

    def own(self, name: str) -> Object | None:
        """Describe the object ``name``, if this upload has made it."""
        found = self._bucket.get(name)
        return found if self._is_own(found) else None

    def remove_created(self) -> None:
        """Remove what is not to stay, also what Google has created although it reported a
        failure."""
        with contextlib.ExitStack() as steps:  # each of them, whichever fails
            for name in [*self._created]:
                steps.callback(self.delete, name)

    def _create(
        self, name: str, request: Callable[[], Object | None], crc32c: int, size: int
    ) -> Object | None:
        self._created.add(name)
        try:
            created = request()
        except GoogleError as error:
            if not _may_be_done(error):
                if not error.may_have_happened:
                    self._created.discard(name)
                raise
            created = self._bucket.get(name)
            if not self._is_own(created):
                self._created.discard(name)
                # Google refuses with the same status what it does not allow at all.
                if created is None:
                    raise
                return None
        if created is None:
            # Only a later request has said that the object is there.
            created = self.own(name)
        if created is None:
            raise GoogleError(f"{name!r} is not there although it was stored")
        stored = created["name"], created["crc32c"], size_of(created)
        if stored != (name, encoded(crc32c), size):
            raise GoogleError(f"{name!r} was stored with other bytes than were sent")
        return created

    def _is_own(self, found: Object | None) -> bool:
        return found is not None and found.get("metadata", {}).get(_MARK) == self._mark


def _may_be_done(error: GoogleError) -> bool:
    """Whether an object is looked for in spite of the error: the precondition failed, or the
    upload session is over, or a source is gone, after an answer that was lost."""
    if not isinstance(error, ApiError):
        return False
    return error.status == 412 or error.status in (404, 410) and error.may_have_happened
