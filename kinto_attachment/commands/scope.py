"""Which part of the storage a command looks at: all, or what is below a prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kinto_attachment.storage import FileStorage, StoredFile, names
from kinto_attachment.storage.base import OnUnreadable

# How the names of hidden parts start, whatever folder the file will be in.
_HIDDEN = "."


class Scope:
    """Files whose names start with one of ``prefixes``, and the hidden parts of uploads; without
    prefixes, all files."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        # Those that another one covers are left out: nothing is listed twice.
        self._prefixes: list[str] = []
        for prefix in sorted(prefixes):
            if not self._prefixes or not prefix.startswith(self._prefixes[-1]):
                self._prefixes.append(prefix)

    def covers(self, name: str) -> bool:
        """Whether a file of this name is looked at, if it is stored."""
        return not self._prefixes or self._has_prefix(name) or names.is_part(name)

    def list(self, files: FileStorage, on_unreadable: OnUnreadable) -> Iterator[StoredFile]:
        """Yield these files. Raises ``StorageUnavailable``."""
        for prefix in self._prefixes or [""]:
            yield from files.list(on_unreadable, prefix)
        if self._prefixes:
            for file in files.list(on_unreadable, _HIDDEN):
                if names.is_part(file.name) and not self._has_prefix(file.name):
                    yield file

    def _has_prefix(self, name: str) -> bool:
        return name.startswith(tuple(self._prefixes))


def name_prefix(text: str) -> str:
    """Return how names of stored files start.

    Raises ``ValueError`` if none can start so.
    """
    *folders, _ = text.split("/")
    if not text or "\0" in text or {"", ".", ".."}.intersection(folders):
        raise ValueError("should be how names of stored files start, like main/")
    return text
