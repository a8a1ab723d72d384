"""What a site must show: a model of its records, files and resumable uploads, in a few dicts.

The model knows nothing of rows. A file must be there while a record shows it, whoever wrote that
record; when no record shows it any more, it must go, unless something has happened that may leave
it (``may_stay``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from kinto_attachment.attachments.locations import may_be_same_file, names_in
from tests.model.known import KNOWN

Attachment = dict[str, Any]

MARKER = ".kinto-attachment"
"""What the plugin itself stores beside the files."""


@dataclass
class Upload:
    """A resumable upload that has begun."""

    uri: str
    path: str
    content: bytes
    length_known: bool
    sent: int = 0
    has_expired: bool = False
    was_killed: bool = False


class Expected:
    """What there must be. Rules change ``records``; ``settle()`` concludes what becomes of the
    files."""

    def __init__(self) -> None:
        self.collections: set[str] = set()
        self.records: dict[str, Attachment | None] = {}
        """What the records show, by their URIs."""
        self.uploads: dict[str, Upload] = {}
        """Those that are not done."""
        self.files: dict[str, bytes] = {}
        """All that were ever stored, by their names."""
        self.shows: dict[str, str] = {}
        """The names of the files that records show, as of the last ``settle()``."""
        self.kept: set[str] = set()
        """Names of files that nobody shows, and that must stay."""
        self.may_stay: set[str] = set()
        """Names of files that may stay when nobody shows them."""
        self.may_be_kept: set[str] = set()
        """Names of files that a record has shown whose collection keeps old files."""
        self.history: list[Attachment] = []
        """What any record has shown, the oldest first."""
        self._known: list[Attachment] = []
        self._sent: dict[str, bytes] = {}
        self._names: dict[str, str] = {}
        self._given: set[str] = set()
        self._fresh: set[str] = set()
        """Names of files that the current step has stored,"""
        self._stored: set[str] = set()
        """and of those that were there before it."""
        self._settled: dict[str, Attachment | None] = {}

    def content(self, kind: str) -> bytes:
        """The bytes of a new file: ``new`` ones that no other has, or those of all of that
        kind."""
        content = f"{len(self._sent)}".encode() if kind == "new" else kind.encode()
        self._sent[_digest(content)] = content
        return content

    def content_of(self, attachment: Attachment) -> bytes:
        """The bytes of the file that a client has attached."""
        return self._sent[attachment["hash"]]

    def attached(self, uri: str, attachment: Attachment, base_url: str) -> None:
        """A new file was attached to a record."""
        self.learn(attachment, base_url)
        self.records[uri] = attachment

    def learn(self, attachment: Attachment, base_url: str) -> None:
        """A new file was stored."""
        location = attachment["location"]
        assert location.startswith(base_url)
        name = location.removeprefix(base_url)
        is_new = name not in self._given or "names" in KNOWN
        assert is_new, f"{name} was the name of another file before"
        self._given.add(name)
        self._fresh.add(name)
        content = self._sent[attachment["hash"]]
        assert attachment["size"] == len(content)
        self.files[name] = content
        self._names[location] = name
        self.history.append(attachment)
        self._known.append(attachment)

    def adopt(self, records: dict[str, Attachment | None], base_url: str) -> None:
        """Take the records as they are, after something that may have happened in part."""
        for attachment in records.values():
            if attachment in (None, *self.records.values(), *self._known):
                continue
            location = attachment["location"]
            # What a client claims under another host is none of the plugin's.
            if location.startswith(base_url) and "://" not in location.removeprefix(base_url):
                self.learn(attachment, base_url)
        self.may_stay.update(self.shows.values())
        self.records = dict(records)

    def is_known(self, attachment: Attachment | None) -> bool:
        """Whether that is what the plugin itself wrote of a file."""
        return attachment in self._known

    def name_of(self, attachment: Attachment | None) -> str | None:
        """The name of the file that ``attachment`` may mean, if it is there."""
        location = (attachment or {}).get("location")
        likely = [self._names[location]] if location in self._names else []
        for name in [*likely, *names_in(location)]:
            if name in self._stored | self._fresh:
                metadata = {"hash": _digest(self.files[name])}
                if may_be_same_file(attachment or {}, metadata):
                    return name
        return None

    def below(self, prefix: str) -> list[str]:
        """The URIs of the records there."""
        return [uri for uri in self.records if uri.startswith(prefix)]

    def delete(self, *uris: str) -> None:
        """Records were deleted, and somebody heard of it."""
        for uri in uris:
            self.records.pop(uri, None)
        for upload_id in [key for key, each in self.uploads.items() if each.uri in uris]:
            del self.uploads[upload_id]

    def flushed(self) -> None:
        """Everything was deleted, kept files too."""
        self.may_stay -= self.kept
        self.kept.clear()
        self.shows, self.records, self._settled = {}, {}, {}
        self.collections.clear()
        self.uploads.clear()
        # From here on, the store alone decides which names are free.
        self._given.clear()
        self._names.clear()
        self._known.clear()

    def settle(self) -> None:
        """Conclude what the last step has made of the files."""
        shows = {}
        for uri, attachment in self.records.items():
            unchanged = uri in self._settled and self._settled[uri] == attachment
            name = self.shows.get(uri) if unchanged else self.name_of(attachment)
            if name is not None:
                shows[uri] = name
        self.may_be_kept |= {name for uri, name in shows.items() if keeps_old_files(uri)}
        released = set(self.shows.values()) - set(shows.values()) - self.may_stay
        self.kept |= {
            name for uri, name in self.shows.items() if name in released and keeps_old_files(uri)
        }
        self.kept -= set(shows.values())
        self.shows, self._settled = shows, dict(self.records)
        self._fresh.clear()

    def check(self, stored: dict[str, bytes], needed: set[str]) -> None:
        """Assert that the right files are stored; ``needed`` are those of resumable uploads."""
        for uri, name in self.shows.items():
            assert name in stored, f"{uri} shows {name}, which is gone"
            assert stored[name] == self.files[name], f"{uri} shows {name}, which has changed"
        assert self.kept <= stored.keys()
        wanted = {*self.shows.values(), *self.kept, *needed, MARKER}
        orphans = stored.keys() - wanted
        assert orphans <= self.may_stay, f"nobody shows {orphans - self.may_stay}"
        self._stored = self.files.keys() & stored.keys()


def keeps_old_files(uri: str) -> bool:
    """Whether the collection of a record keeps the files that its records give up."""
    return "/kept/" in uri


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
