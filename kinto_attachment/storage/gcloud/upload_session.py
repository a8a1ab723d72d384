"""An object that several requests send to Google Cloud Storage one after the other.

Google may keep less than was sent, and an answer may get lost: what was not kept is sent again,
and nothing else.

https://docs.cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import requests

from kinto_attachment.storage.gcloud.content import Body, Buffer, encoded
from kinto_attachment.storage.gcloud.session import GoogleError, Object, Session, object_of, pause

# The length of each request but the last is a multiple of this.
_UNIT = 256 * 1024
_RESUME_INCOMPLETE = 308
_EXPECTED = (200, 201, _RESUME_INCOMPLETE)
# What a session answers that is cancelled, or over.
_ENDED = (204, 404, 410, 499)


class UploadSession:
    """One upload to an object that does not exist until it is finished. Not for several threads.

    Its methods raise ``GoogleError``; ``ApiError`` 404 or 410 if Google has forgotten the upload.
    """

    def __init__(self, session: Session, uri: str) -> None:
        self._session = session
        self._uri = uri
        self._kept = 0  # bytes that Google has
        self._rest = b""  # what comes before the next chunk: too short for a request

    def send(self, chunk: Buffer) -> None:
        """Send a chunk that others follow."""
        self._send(chunk, None)

    def finish(self, chunk: Buffer, crc32c: int) -> Object | None:
        """Send the last chunk; ``crc32c`` is that of all bytes. Return the object, or ``None`` if
        only a later request says that there is one, which need not be true.

        Raises ``ApiError`` 412 if the name is taken, maybe by this very object, after an answer
        that was lost.
        """
        return self._send(chunk, crc32c)

    def cancel(self) -> None:
        """Have Google drop what it has. Does nothing if the session is over."""
        self._session.request("DELETE", self._uri, expected=_ENDED)

    def _send(self, chunk: Buffer, crc32c: int | None) -> Object | None:
        """Send the chunk; the last one if the CRC32C of all bytes is given."""
        begin, rest = self._kept, self._rest
        end = begin + len(rest) + len(chunk)
        failures, is_direct, asks = 0, True, False
        # Even after all bytes are kept, the last request is to be answered with the object.
        while crc32c is not None or end - self._kept >= _UNIT:
            stop = end if crc32c is not None else end - (end - self._kept) % _UNIT
            try:
                if asks:
                    answer = self._put("*/*")
                else:
                    body = _after(rest, chunk, self._kept - begin, stop - begin)
                    answer = self._put_bytes(body, stop, crc32c)
                if answer.status_code != _RESUME_INCOMPLETE:
                    if crc32c is None:
                        raise GoogleError("is finished before its last byte was sent")
                    return object_of(answer) if is_direct else None
                kept = _kept(answer)
                if not begin <= kept <= stop:
                    raise GoogleError(f"has kept {kept} bytes, of {begin} to {stop}")
                if not asks and kept <= self._kept:
                    raise _NothingKept("has kept nothing of what was sent")
            except GoogleError as error:
                error.may_have_happened |= not is_direct
                if failures == self._session.retries or not error.is_transient:
                    raise
                failures += 1
                is_direct, asks = False, True
                self._session.on_retry()
                pause(failures)
                continue
            if kept > self._kept:
                failures = 0
            self._kept, asks = kept, False
        self._rest = b"".join(_after(rest, chunk, self._kept - begin, end - begin))
        return None

    def _put_bytes(self, body: Body, stop: int, crc32c: int | None) -> requests.Response:
        total = "*" if crc32c is None else str(stop)
        span = f"{self._kept}-{stop - 1}" if len(body) else "*"
        headers = {} if crc32c is None else {"X-Goog-Hash": f"crc32c={encoded(crc32c)}"}
        return self._put(f"{span}/{total}", body if len(body) else None, headers)

    def _put(
        self, span: str, body: Body | None = None, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        return self._session.request(
            "PUT",
            self._uri,
            data=body,
            headers={"Content-Range": f"bytes {span}", **(headers or {})},
            expected=_EXPECTED,
            retries=0,
        )


class _NothingKept(GoogleError):
    is_transient = True


def _after(rest: bytes, chunk: Buffer, start: int, stop: int) -> Body:
    """Return the bytes ``start`` to ``stop`` of ``rest`` and ``chunk``."""
    skipped = len(rest)
    return Body(chunk, max(start - skipped, 0), max(stop - skipped, 0), head=rest[start:stop])


def _kept(answer: requests.Response) -> int:
    """Return how many bytes Google has; without a ``Range`` none."""
    found = re.fullmatch(r"bytes=0-(\d+)", answer.headers.get("Range", ""))
    return int(found[1]) + 1 if found else 0
