"""Attach files to the records of a Kinto collection.

    python3 scripts/upload.py --server=https://kinto.example.com/v1 --auth=token:mysecret \\
        --bucket=website --collection=assets README.rst pictures/*

Each file has a record of its own, whose id is made of the file's name (without its folder): the
next time, the same record gets the new content. Files that have not changed are skipped. The
bucket and the collection are created if they do not exist.

With --gzip, the files are compressed first, in a temporary file (in $TMPDIR), and the record's
attribute "original" describes the file as it was: filename, hash, mimetype and size.

A file above --resumable-over is sent in chunks, if the server can take it so: when the connection
breaks, or this program is killed, the upload goes on where it was, also in the next run.

The exit status is 0 if all the files are there, 1 if one of them failed, 2 if the command line
makes no sense, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import mimetypes
import os
import re
import stat
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote

from errors import Failed, Stopped, explain, refusal, status_of
from kinto_http.exceptions import KintoException
from resumable import ResumableUpload
from transfers import CHUNK_BYTES, Share, Transfers, options, parse, run
from urllib3.fields import RequestField

_COMPRESSION = 6
# What forms make of a line break or a quotation mark in a filename.
_LOOKS_ENCODED = re.compile("%(0A|0D|22)", re.IGNORECASE)


def main(arguments: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="A file to attach.")
    parser.add_argument("--gzip", action="store_true", help="Compress the files before.")
    parser.add_argument("--force", action="store_true", help="Send files that have not changed.")
    parser.add_argument(
        "--resumable-over",
        type=int,
        default=64,
        metavar="MIB",
        help="Send larger files so that they can be interrupted (64 MiB).",
    )
    parsed = parse(parser, arguments)
    paths = _distinct(parser, parsed.files)
    transfers = Transfers(parsed, "uploaded")
    files = _local_files(paths, transfers)
    resumable_over = None
    if files:
        try:
            if _create_parents(transfers):
                resumable_over = parsed.resumable_over * 1024 * 1024
        except Exception as error:
            print(f"Nothing was uploaded: {explain(error)}", file=sys.stderr)
            return 1
    transfers.report.start(sum(file.size for file in files))
    uploader = Uploader(
        transfers, gzip=parsed.gzip, force=parsed.force, resumable_over=resumable_over
    )
    try:
        transfers.each(files, uploader)
    finally:
        transfers.report.finish()
    return 1 if transfers.report.failed else 0


class LocalFile:
    """A file to upload, and the id of its record."""

    def __init__(self, path: Path, size: int) -> None:
        """Raises ``Failed`` if the file has a name that nobody else can read."""
        self.path = path
        self.size = size
        try:
            name = path.name.encode()
        except UnicodeEncodeError:
            raise Failed("its name is not in UTF-8; rename it") from None
        # The name of a record, not a secret.
        digest = hashlib.md5(name, usedforsecurity=False)
        self.record_id = str(uuid.UUID(digest.hexdigest()))

    @cached_property
    def sha256(self) -> str:
        """The hash of the content, which is read for that. Raises ``OSError``."""
        digest = hashlib.sha256()
        with self.path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def is_described_by(self, metadata: dict[str, Any]) -> bool:
        """Whether that is the size and the hash of the file. Raises ``OSError``."""
        return metadata.get("size") == self.size and metadata.get("hash") == self.sha256

    @property
    def mimetype(self) -> str | None:
        """What the file's extension stands for, if it is known here."""
        # Only the extensions, since guess_type() wants a URL; "a.csv.gz" is not a "text/csv".
        extensions = "".join(PurePosixPath(self.path.name).suffixes[-2:])
        guessed, encoding = mimetypes.guess_type(f"file{extensions}")
        return guessed if encoding is None else None


@dataclass(frozen=True)
class Content:
    """What is sent. ``original`` describes what it was before it was compressed."""

    stream: BinaryIO
    size: int
    filename: str
    mimetype: str | None
    original: dict[str, Any] | None = None


class Uploader:
    """Brings files to their records."""

    def __init__(
        self, transfers: Transfers, *, gzip: bool, force: bool, resumable_over: int | None
    ) -> None:
        """``resumable_over`` is in bytes, ``None`` if the server has no resumable uploads."""
        self._transfers = transfers
        self._client = transfers.client
        self._gzip = gzip
        self._force = force
        self._resumable_over = resumable_over

    def __call__(self, file: LocalFile) -> None:
        """Upload the file if it is not there yet, and report what became of it."""
        report = self._transfers.report
        share = Share(report, file.size)
        try:
            sent = self._bring(file, share)
        except Stopped:
            return
        except Exception as error:
            report.fail(str(file.path), error)
        else:
            outcome = "unchanged" if sent is None else "uploaded"
            report.add(outcome, str(file.path), sent or 0)
        share.show(1, 1)

    def _bring(self, file: LocalFile, share: Share) -> int | None:
        """Return how many bytes the file took, ``None`` if its record had it already."""
        record = self._record(file)
        if not self._force and self._is_current(file, record):
            return None
        with self._content(file) as content:
            try:
                self._send(file, content, record, share)
            except KintoException as error:
                if status_of(error) != 412:
                    raise
                # Somebody else wrote the record meanwhile. Or we did, and the answer got lost.
                record = self._record(file)
                if not self._is_current(file, record):
                    self._send(file, content, record, share)
        return content.size

    def _record(self, file: LocalFile) -> dict[str, Any] | None:
        """The record as it is now: ``None`` if there is none, empty if we may not read it."""
        try:
            answer = self._transfers.retrying(
                lambda: self._client.get_record(id=file.record_id), str(file.path)
            )
        except KintoException as error:
            if status_of(error) == 404:
                return None
            if status_of(error) in (401, 403):
                return {}
            raise
        return answer["data"]

    def _is_current(self, file: LocalFile, record: dict[str, Any] | None) -> bool:
        """Whether the record has the file as we would send it."""
        if not record or not isinstance(record.get("attachment"), dict):
            return False
        attachment, original = record["attachment"], _original(record)
        if not self._gzip:
            return original is None and file.is_described_by(attachment)
        # Another client may have replaced the archive, and left its description there.
        is_archive = str(attachment.get("filename")).endswith(".gz")
        return is_archive and original is not None and file.is_described_by(original)

    @contextmanager
    def _content(self, file: LocalFile) -> Iterator[Content]:
        with file.path.open("rb") as source:
            if not self._gzip:
                size = os.fstat(source.fileno()).st_size
                yield Content(source, size, file.path.name, file.mimetype)
                return
            # It has no name: nothing is left of it, whatever happens to us.
            with tempfile.TemporaryFile() as compressed:
                original = self._compress(file, source, compressed)
                yield Content(
                    compressed,
                    compressed.tell(),
                    f"{file.path.name}.gz",
                    "application/gzip",
                    original,
                )

    def _compress(self, file: LocalFile, source: BinaryIO, target: BinaryIO) -> dict[str, Any]:
        """Compress ``source`` into ``target``, and return what to remember of it."""
        digest = hashlib.sha256()
        size = 0
        # Without a name and a time, the same content always becomes the same file.
        with gzip.GzipFile("", "wb", _COMPRESSION, target, mtime=0) as compressor:
            while chunk := source.read(CHUNK_BYTES):
                if self._transfers.stop.is_set():
                    raise Stopped
                digest.update(chunk)
                size += len(chunk)
                compressor.write(chunk)
        return {
            "filename": file.path.name,
            "hash": digest.hexdigest(),
            "mimetype": file.mimetype or "application/octet-stream",
            "size": size,
        }

    def _send(
        self, file: LocalFile, content: Content, record: dict[str, Any] | None, share: Share
    ) -> None:
        """Send the file, provided that the record is still the one that we know."""
        headers = {}
        if record is None:
            headers["If-None-Match"] = "*"
        elif "last_modified" in record:
            headers["If-Match"] = f'"{record["last_modified"]}"'
        attributes: dict[str, Any] = {}
        if content.original is not None:
            attributes["original"] = content.original
        elif record and _original(record) is not None:
            # It would describe a file that is no longer there.
            attributes["original"] = None

        def sent(size: int) -> None:
            if self._transfers.stop.is_set():
                raise Stopped
            share.show(size, content.size)

        if self._resumable_over is not None and content.size > self._resumable_over:
            self._send_resumably(file, content, attributes, headers, sent)
            return
        form = Form(content, attributes, sent)
        attachment = self._transfers.retrying(
            lambda: self._post(file, form, headers), str(file.path)
        )
        if attachment.get("hash") != form.sha256:
            raise Failed("the server has received something else; try again")

    def _send_resumably(
        self,
        file: LocalFile,
        content: Content,
        attributes: dict[str, Any],
        headers: dict[str, str],
        sent: Callable[[int], None],
    ) -> None:
        digest = hashlib.sha256()
        content.stream.seek(0)
        while chunk := content.stream.read(CHUNK_BYTES):
            if self._transfers.stop.is_set():
                raise Stopped
            digest.update(chunk)
        metadata = {"filename": content.filename, "sha256": digest.hexdigest()}
        if content.mimetype is not None:
            metadata["filetype"] = content.mimetype
        if attributes:
            metadata["data"] = json.dumps(attributes)
        endpoint = self._endpoint(file)
        upload = ResumableUpload(
            self._transfers, endpoint, content.stream, headers, metadata, str(file.path)
        )
        upload.send(sent)

    def _endpoint(self, file: LocalFile) -> str:
        """The URL of the attachment of the file's record."""
        server = (self._client.session.server_url or "").rstrip("/")
        return f"{server}{self._client.get_endpoint('attachment', id=file.record_id)}"

    def _post(self, file: LocalFile, form: Form, headers: dict[str, str]) -> dict[str, Any]:
        """Send the form, and return the ``attachment`` that the record has now."""
        # Not through kinto-http, which would hold the whole file in memory.
        response = self._transfers.connections.request(
            "POST",
            self._endpoint(file),
            data=form,
            headers={**headers, "Content-Type": form.content_type},
        )
        if response.status_code == 404:
            raise Failed("the collection does not exist, and you may not create it")
        if not response.ok:
            raise refusal(response)
        return response.json()


class Form:
    """A ``multipart/form-data`` body (RFC 7578), read from the disk while it is sent.

    Can be sent several times. ``sha256`` is the hash of the file as it was sent the last time.
    """

    def __init__(
        self, content: Content, attributes: dict[str, Any], sent: Callable[[int], None]
    ) -> None:
        """``attributes`` are for the record; ``sent`` is told how much of the file is gone."""
        self._content = content
        self._sent = sent
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        head = ""
        if attributes:
            data = RequestField("data", b"")
            data.make_multipart()
            head += f"--{boundary}\r\n{data.render_headers()}{json.dumps(attributes)}\r\n"
        attachment = RequestField("attachment", b"", content.filename)
        attachment.make_multipart(content_type=content.mimetype)
        if _LOOKS_ENCODED.search(content.filename):
            # Of the plain parameter, a server could not know whether we have encoded something.
            filename = f"filename*=utf-8''{quote(content.filename, safe='')}"
            attachment.headers["Content-Disposition"] = f'form-data; name="attachment"; {filename}'
        head += f"--{boundary}\r\n{attachment.render_headers()}"
        self._head = head.encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.sha256 = ""

    def __len__(self) -> int:
        return len(self._head) + self._content.size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        yield from self._chunks()
        yield self._tail

    def _chunks(self) -> Iterator[bytes]:
        content = self._content
        digest = hashlib.sha256()
        done = 0
        self._read(content.stream.seek, 0)
        while done < content.size:
            chunk = self._read(content.stream.read, min(CHUNK_BYTES, content.size - done))
            if not chunk:
                raise Failed("it got shorter while it was sent; try again")
            digest.update(chunk)
            yield chunk
            done += len(chunk)
            self._sent(done)
        self.sha256 = digest.hexdigest()

    @staticmethod
    def _read(method: Callable[[int], Any], argument: int) -> Any:
        """Call a method of the file. An ``OSError`` in here would pass for the connection's."""
        try:
            return method(argument)
        except OSError as error:
            raise Failed(f"cannot be read: {explain(error)}") from error


def _original(record: dict[str, Any]) -> dict[str, Any] | None:
    """The description of the file before it was compressed, if the record has one."""
    original = record.get("original")
    return original if isinstance(original, dict) and "hash" in original else None


def _distinct(parser: argparse.ArgumentParser, paths: list[Path]) -> list[Path]:
    """The files without repetitions. Exits with status 2 if two would share a record."""
    by_name: dict[str, Path] = {}
    for path in paths:
        other = by_name.setdefault(path.name, path)
        if other.absolute() != path.absolute():
            parser.error(f"{str(other)!r} and {str(path)!r} have the same name, thus one record")
    return list(by_name.values())


def _local_files(paths: list[Path], transfers: Transfers) -> list[LocalFile]:
    """Those files that can be uploaded; the others are reported."""
    files = []
    for path in paths:
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise Failed("it is a folder; name the files in it")
            if not stat.S_ISREG(status.st_mode):
                raise Failed("it is not a file")
            files.append(LocalFile(path, status.st_size))
        except (OSError, Failed) as error:
            transfers.report.fail(str(path), error)
    return files


def _create_parents(transfers: Transfers) -> bool:
    """Create the bucket and the collection, or go on without where that is not allowed.

    Returns whether uploads can be resumed. Raises ``Failed`` if files cannot be attached there.
    """
    client = transfers.client
    info = transfers.retrying(client.server_info)
    capability = info.get("capabilities", {}).get("attachments")
    if capability is None:
        raise Failed("the server does not support attachments")
    resumable = capability.get("resumable") or {}
    for create in (client.create_bucket, client.create_collection):
        try:
            transfers.retrying(create)
        except KintoException as error:
            # It exists, or it may exist.
            if status_of(error) not in (401, 403, 412):
                raise
    return (resumable.get("protocol"), resumable.get("version")) == ("tus", "1.0.0")


if __name__ == "__main__":
    sys.exit(run(main))
