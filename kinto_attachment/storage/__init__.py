"""The file storage: one interface, and a backend for each provider. Knows nothing of Kinto."""

from __future__ import annotations

from kinto_attachment.storage.base import (
    FileStorage,
    FileTooLargeForStorage,
    StorageUnavailable,
    StoredFile,
)
from kinto_attachment.storage.cleanup import best_effort
from kinto_attachment.storage.options import (
    GCloudOptions,
    LocalOptions,
    S3Options,
    StorageOptions,
)
from kinto_attachment.storage.resumable import IncompleteUpload, ResumableFile, State
from kinto_attachment.storage.staged import NewFile, StagedFile

__all__ = [
    "FileStorage",
    "FileTooLargeForStorage",
    "GCloudOptions",
    "IncompleteUpload",
    "LocalOptions",
    "NewFile",
    "ResumableFile",
    "S3Options",
    "StagedFile",
    "State",
    "StorageOptions",
    "StorageUnavailable",
    "StoredFile",
    "best_effort",
    "open_storage",
]


def open_storage(options: StorageOptions, base_url: str = "") -> FileStorage:
    """Return the storage of ``options``, whose files are served below ``base_url``.

    Imports only the provider that is chosen: a server with local files needs no boto3. Raises
    ``ImportError`` if that of Google, an extra of this package, is not installed.
    """
    if isinstance(options, S3Options):
        from kinto_attachment.storage.s3 import S3Storage

        return S3Storage(options, base_url)
    if isinstance(options, GCloudOptions):
        from kinto_attachment.storage.gcloud import GCloudStorage

        return GCloudStorage(options, base_url)
    from kinto_attachment.storage.local import LocalStorage

    return LocalStorage(options.base_path, base_url)
