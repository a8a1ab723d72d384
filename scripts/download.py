"""Download the attachments of a Kinto collection into a folder.

    python3 scripts/download.py --server=https://kinto.example.com/v1 --auth=token:mysecret \\
        --bucket=website --collection=assets --folder=assets

Files get the name that their record has for them; of several records with the same one, all but
the first get the record's id too, as in "photo-b3c1f0.png". A name that begins with a dot, or
that is a device on Windows ("nul.txt"), gets a "_" in front. Where a record has an attribute
"original", the file is decompressed. What was received is compared with the record's size and
hash before it gets its name. What is left of an interrupted download, hidden in the folder, is
continued the next time.

A file is replaced only if an earlier run wrote it as it is. Whatever else has its name stays, and
counts as a failure, unless its content is the right one already. --replace replaces that, too.

The file ".last_sync" in the folder tells the next run which records it has seen, and what it has
written; that one looks only at records that have changed since. To have it look at all of them,
remove ".last_sync", and use --replace. The timestamp in it stays if a file failed. Local files
stay when their records are deleted.

--auth is for the server of Kinto alone: other servers that records name get no credentials. A
private file is asked for at Kinto, as the attachment of its record.

The exit status is 0 if all the files are there, 1 if one of them failed, 2 if the command line
makes no sense, and 130 after Ctrl-C.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import requests
from errors import Failed, Passing, Stopped, explain, refusal
from folder import Folder, LastSync, Part
from transfers import CHUNK_BYTES, Share, Transfers, options, parse, run
from urllib3.exceptions import HTTPError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-")


def main(arguments: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument(
        *("-f", "--folder"), type=Path, default=Path(), help="Where to (the current folder)."
    )
    parser.add_argument(
        "--replace", action="store_true", help="Replace files that no earlier run wrote, too."
    )
    parsed = parse(parser, arguments)
    transfers = Transfers(parsed, "downloaded")
    try:
        with Folder(parsed.folder) as folder:
            return _synchronize(transfers, folder, parsed.replace)
    except Exception as error:
        print(f"Nothing was downloaded: {explain(error)}", file=sys.stderr)
        return 1


def _synchronize(transfers: Transfers, folder: Folder, replace: bool) -> int:
    """Bring what has changed since the last run; return the exit status."""
    collection = Collection(transfers)
    last = LastSync(folder, collection.url, collection.user)
    changes = collection.changes(last.timestamp)
    attachments = _attachments(changes.records, transfers)
    filenames = {attachment.record_id: attachment.local.filename for attachment in attachments}
    listed = None if changes.since is None else [record["id"] for record in changes.records]
    last.timestamp = changes.since
    last.name_files(filenames, listed)
    hashes = {last.names[each.record_id]: each.local.sha256 for each in attachments}
    last.announce(hashes, replace)
    # The next run uses the same names, and knows what is its own, however this one ends.
    last.save()
    transfers.report.start(sum(attachment.size for attachment in attachments))
    try:
        downloader = Downloader(transfers, folder, collection, last, replace)
        transfers.each(attachments, downloader)
    finally:
        transfers.report.finish()
    if transfers.report.failed:
        return 1
    last.complete(changes.timestamp)
    folder.clean()
    return 0


@dataclass(frozen=True)
class Plain:
    """The file as it was before it was compressed."""

    filename: Any
    sha256: str
    size: int


@dataclass(frozen=True)
class Attachment:
    """What a record says of its file. ``plain`` is there if it has to be decompressed."""

    record_id: str
    location: str
    sha256: str
    size: int
    filename: Any
    plain: Plain | None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Attachment:
        """Raises ``Failed`` if the record does not say enough."""
        attachment = record["attachment"]
        location = attachment.get("location")
        if not location or not isinstance(location, str):
            raise Failed("its attachment has no location")
        sha256, size = _identity(attachment)
        original = record.get("original")
        plain = None
        # Without a hash, it is something else.
        if isinstance(original, dict) and "hash" in original:
            plain = Plain(original.get("filename"), *_identity(original))
        return cls(record["id"], location, sha256, size, attachment.get("filename"), plain)

    @property
    def local(self) -> Attachment | Plain:
        """What the file will be in the folder."""
        return self if self.plain is None else self.plain

    @property
    def key(self) -> str:
        """A name for what is left of this download if it is interrupted."""
        return hashlib.sha256(f"{self.record_id} {self.sha256}".encode()).hexdigest()[:32]


def _identity(metadata: Mapping[str, Any]) -> tuple[str, int]:
    """The hash and the size of a file. Raises ``Failed``."""
    sha256, size = metadata.get("hash"), metadata.get("size")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise Failed("its record has no SHA-256 of it")
    if type(size) is not int or size < 0:
        raise Failed("its record does not know its size")
    return sha256, size


def _attachments(records: Iterable[dict[str, Any]], transfers: Transfers) -> list[Attachment]:
    """The attachments of those records that have one; if one makes no sense, it is reported."""
    attachments = []
    for record in records:
        # A collection may use the name for something else, or not at all.
        if isinstance(record.get("attachment"), dict):
            try:
                attachments.append(Attachment.of(record))
            except Failed as error:
                transfers.report.fail(f"record {record['id']}", error)
    return attachments


@dataclass(frozen=True)
class Changes:
    """The records of a collection, and its ``timestamp``.

    If ``since`` is a timestamp, only those that have changed since then, and tombstones.
    """

    records: list[dict[str, Any]]
    timestamp: str
    since: str | None = None


class Collection:
    """The records, and where their files are."""

    def __init__(self, transfers: Transfers) -> None:
        """Raises ``Failed`` if the server does not support attachments."""
        self._transfers = transfers
        client = transfers.client
        self._server = client.session.server_url or ""
        info = transfers.retrying(client.server_info)
        capability = info.get("capabilities", {}).get("attachments")
        if capability is None:
            raise Failed("the server does not support attachments")
        self._base_url = capability.get("base_url") or ""
        # How the names of private files begin.
        self._private = capability.get("private")
        user = info.get("user", {})
        # Others may see other records.
        self.user = user.get("id", "")
        bucket = client.bucket_name
        if bucket == "default":
            # The alias stands for another bucket for everybody.
            bucket = user.get("bucket", bucket)
        endpoint = client.get_endpoint("collection", bucket=bucket)
        self.url = f"{self._server.rstrip('/')}{endpoint}"

    def changes(self, since: str | None) -> Changes:
        """What has changed since that timestamp, or all there is."""
        if since is None:
            return self._list({})
        changes = self._list({"_since": f'"{since}"'})
        if int(changes.timestamp) < int(since):
            # Somebody has deleted the collection, and created another one.
            return self._list({})
        return replace(changes, since=since)

    def _list(self, filters: dict[str, str]) -> Changes:
        client = self._transfers.client
        endpoint = client.get_endpoint("records")
        parameters: dict[str, str] | None = {"_fields": "attachment,original", **filters}
        page = endpoint
        records = []
        timestamp: str | None = None
        # kinto-http follows the pages recursively, which ends at a few hundred.
        while True:
            body, headers = self._transfers.retrying(
                lambda: client.session.request("get", page, params=parameters)  # noqa: B023
            )
            records += body["data"]
            if timestamp is None:
                # What changes after the first page is for the next run.
                timestamp = headers["ETag"].strip('"')
            following = headers.get("Next-Page")
            if following is None:
                return Changes(records, timestamp)
            # Behind a proxy, the server may not know its own name.
            page, parameters = f"{endpoint}?{urlsplit(following).query}", None

    def is_private(self, attachment: Attachment) -> bool:
        """Whether the file is for those alone who may read the record."""
        return bool(self._private) and f"/{self._private}" in f"/{attachment.location}"

    def url_of(self, attachment: Attachment) -> str:
        """The URL of a file. Raises ``Failed`` if it cannot be known."""
        location = attachment.location
        if self.is_private(attachment):
            # Its location may be on a server that knows no users.
            return f"{self.url}/records/{quote(attachment.record_id)}/attachment"
        if re.match(r"https?://", location, re.IGNORECASE):
            return location
        if not self._base_url:
            raise Failed("the server does not tell where its files are")
        base = urljoin(f"{self._server}/", self._base_url)
        return f"{base.rstrip('/')}/{location.lstrip('/')}"


class Downloader:
    """Brings files into the folder."""

    def __init__(
        self,
        transfers: Transfers,
        folder: Folder,
        collection: Collection,
        last: LastSync,
        replace: bool,
    ) -> None:
        """``replace`` also what no run has written."""
        self._transfers = transfers
        self._folder = folder
        self._collection = collection
        self._names = last.names
        self._written = last.written
        self._replace = replace

    def __call__(self, attachment: Attachment) -> None:
        """Download the file if it is not there yet, and report what became of it."""
        report = self._transfers.report
        name = self._names[attachment.record_id]
        share = Share(report, attachment.size)
        try:
            received = self._bring(attachment, name, share)
        except Stopped:
            return
        except Exception as error:
            report.fail(name, error)
        else:
            report.add("unchanged" if received is None else "downloaded", name, received or 0)
        share.show(1, 1)

    def _bring(self, attachment: Attachment, name: str, share: Share) -> int | None:
        """Return how many bytes had to come for it, ``None`` if the file was there."""
        local = attachment.local
        if self._folder.has(name, local.sha256, local.size):
            return None
        written = None if self._replace else self._written.get(name, [])
        self._folder.may_replace(name, written)
        with Part(self._folder, attachment.key) as part:
            try:
                self._receive_right(attachment, part, name, share)
                if attachment.plain is None:
                    part.become(name, written)
                else:
                    self._decompress(attachment.plain, attachment.key, part, name, written)
                    part.remove()
            except Failed:
                # It will not get better by going on.
                part.remove()
                raise
            return part.received

    def _receive_right(self, attachment: Attachment, part: Part, name: str, share: Share) -> None:
        """Receive the file, and compare it with its record. Raises ``Failed``."""

        def receive() -> None:
            self._receive(attachment, part, share)

        self._transfers.retrying(receive, name)
        if part.sha256 != attachment.sha256 and part.is_resumed:
            # The pieces may be of different files.
            part.clear()
            self._transfers.retrying(receive, name)
        if part.sha256 != attachment.sha256:
            raise Failed("its content is not what its record says")

    def _receive(self, attachment: Attachment, part: Part, share: Share) -> None:
        """Receive what is missing. Raises ``Passing`` if some of it still is."""
        if part.size > attachment.size:
            part.clear()
        if part.size == attachment.size:
            return
        with self._get(attachment, part) as response:
            start, total = _extent(response, attachment.size)
            if (start, total) != (part.size, attachment.size):
                if not part.size:
                    raise Failed(f"it has {total} bytes, and {attachment.size} in its record")
                # The server does not continue, or it has another file by now.
                part.clear()
                self._receive(attachment, part, share)
                return
            part.etag = response.headers.get("ETag", "")
            part.is_resumed = part.is_resumed or start > 0
            for chunk in _chunks(response):
                if self._transfers.stop.is_set():
                    raise Stopped
                if part.size + len(chunk) > attachment.size:
                    raise Failed("it is larger than its record says")
                part.append(chunk)
                share.show(part.size, attachment.size)
        if part.size < attachment.size:
            raise Passing("the file ended too early")

    def _get(self, attachment: Attachment, part: Part) -> requests.Response:
        """Ask for the file, or for the rest of it."""
        url = self._collection.url_of(attachment)
        # As it is stored: what the hash is of.
        headers = {"Accept-Encoding": "identity"}
        if part.size:
            headers["Range"] = f"bytes={part.size}-"
            etag = part.etag
            # Of a private file it may be that of the storage that Kinto has redirected to.
            if etag is not None and not self._collection.is_private(attachment):
                headers["If-Range"] = etag
        return self._transfers.connections.get(url, headers)

    def _decompress(
        self, plain: Plain, key: str, part: Part, name: str, written: list[str] | None
    ) -> None:
        """Decompress ``part`` into the file. Raises ``Failed`` if it is not what it should be."""
        with Part(self._folder, key, "plain") as target:
            target.clear()
            try:
                for chunk in self._decompressed(part):
                    if target.size + len(chunk) > plain.size:
                        raise Failed("it decompresses to more than its record says")
                    target.append(chunk)
                if (target.size, target.sha256) != (plain.size, plain.sha256):
                    raise Failed("it does not decompress to what its record says")
                target.become(name, written)
            except BaseException:
                target.remove()
                raise

    def _decompressed(self, part: Part) -> Iterator[bytes]:
        """What is in the archive, in chunks of a limited size. Raises ``Failed``."""
        part.stream.seek(0)
        with gzip.GzipFile(fileobj=part.stream, mode="rb") as archive:
            while True:
                if self._transfers.stop.is_set():
                    raise Stopped
                try:
                    chunk = archive.read(CHUNK_BYTES)
                except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                    raise Failed(f"it cannot be decompressed, {error}") from error
                if not chunk:
                    return
                yield chunk


def _extent(response: requests.Response, expected: int) -> tuple[int, int]:
    """Where the bytes of an answer start, and where the file ends (``expected``, if it does not
    say so). Raises what kinto-http does if the server refuses."""
    if response.status_code == 416 and "Range" in response.request.headers:
        # Nothing from there on: whatever it is, it is not the file that we began with.
        return expected, -1
    if not response.ok:
        raise refusal(response)
    start = 0
    if response.status_code == 206:
        match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        if match is None:
            return expected, -1
        start = int(match[1])
    length = response.headers.get("Content-Length", "")
    return start, start + int(length) if length.isdecimal() else expected


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The bytes as they are on the wire. Raises ``Passing``."""
    while True:
        try:
            # Whatever has come is written, so that it is not asked for again.
            chunk = response.raw.read1(CHUNK_BYTES, decode_content=False)
        except HTTPError as error:
            raise Passing from error
        if not chunk:
            return
        yield chunk


if __name__ == "__main__":
    sys.exit(run(main))
