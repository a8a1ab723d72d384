"""Where the bytes of files are, and what every backend promises. Knows nothing of Kinto."""

from __future__ import annotations

from kinto_attachment.storage.base import FileStorage, StagedFile, StorageUnavailable, StoredFile
from kinto_attachment.storage.resumable import IncompleteUpload, ResumableFile

__all__ = [
    "FileStorage",
    "IncompleteUpload",
    "ResumableFile",
    "StagedFile",
    "StorageUnavailable",
    "StoredFile",
]
