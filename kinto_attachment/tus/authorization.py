"""Which Kinto permission a request on a resumable upload needs: the one to attach its file."""

from __future__ import annotations

from typing import Any

from kinto_attachment.attachments.authorization import AttachmentContext, has_valid_id
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.tus.store import ResumableUpload, UploadStore


class UploadContext(AttachmentContext):
    """The record that a resumable upload is for, and the upload."""

    methods = ("HEAD", "PATCH", "DELETE", "POST")

    upload: ResumableUpload | None = None
    """The upload, ``None`` if it is unknown."""

    def __init__(self, request: Any, *, locked: bool = False) -> None:
        super().__init__(request, locked=locked)
        self.endpoint = self.endpoint.rsplit("/uploads/", 1)[0]

    def _required(self, request: Any) -> tuple[str, str]:
        if has_valid_id(request):
            store = UploadStore(request.registry.storage)
            record_uri = Holder.of(request.matchdict).uri
            self.upload = store.get(record_uri, request.matchdict["upload_id"])
        preconditions = self.upload.preconditions if self.upload else {}
        return self.required_to_attach(preconditions.get("If-None-Match"))
