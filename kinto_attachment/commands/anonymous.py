"""Whether a stranger gets a private file: one is asked for without credentials, wherever a web
server, a bucket's policy or a CDN may publish it by mistake.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import transaction
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.links import Link, sign
from kinto_attachment.attachments.readers import everybody_may_read
from kinto_attachment.attachments.reading import ReadableFile
from kinto_attachment.commands.inventory import Inventory
from kinto_attachment.commands.site import Site
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.names import is_private

READABLE = "readable by anybody"
NOT_ASKED = "not asked"

_SECONDS = 5
_SAMPLE_BYTES = 64 * 1024
_REDIRECTS = 3
_CANDIDATES = 1000
_LINK_SECONDS = 60


def ask_anonymously(site: Site, inventory: Inventory) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a finding for each URL that serves a private file to anybody (``READABLE``), and for
    each that does not answer (``NOT_ASKED``).

    The URLs are that of the store itself, and those below the base URLs. After a link has fetched
    the file, they are asked again: a cache may have kept it.
    """
    name = _sample(site, inventory)
    if name is None:
        return
    try:
        with closing(site.files.read(name, 0, _SAMPLE_BYTES)) as chunks:
            content = b"".join(chunks)
        plain = site.files.plain_url(name)
    except (FileNotFoundError, StorageUnavailable):
        # What is missing, or cannot be read, is told elsewhere.
        return
    bases = [base for base in site.settings.base_urls if _is_http(base)]
    urls = [*([plain] if plain else ()), *(f"{base}{quote(name)}" for base in bases)]
    good, wrong = _links(site, name, bases)
    stranger = _Stranger(content, [*urls, *good])
    seen: set[str] = set()
    for asked in (urls, good, [*urls, *wrong] if good else []):
        for url in asked:
            problem = stranger.ask(url)
            # A link is made to be good for anybody.
            if problem is None or url in seen or (url in good and problem == READABLE):
                continue
            seen.add(url)
            # Nothing of a link: it would open the file.
            shown = _without_token(url)
            yield (
                f"{name} is {problem} at {shown}: {stranger.advice(problem)}",
                {"problem": problem, "name": name, "url": shown},
            )


def _sample(site: Site, inventory: Inventory) -> str | None:
    """Return the name of a private file that has bytes, and that not everybody may read."""
    private = (
        (name, [Holder.at(uri) for uri, _ in records])
        for name, records, size in inventory.stored()
        if is_private(name) and size
    )
    for name, holders in islice(private, _CANDIDATES):
        with transaction.manager:
            if not everybody_may_read(site.registry, holders):
                return name
    return None


def _links(site: Site, name: str, bases: list[str]) -> tuple[list[str], list[str]]:
    """Return links to the file, where Kinto is known to answer, and others that are not valid."""
    prefix = f"/{site.registry.route_prefix}/"
    roots = {
        f"{urlsplit(base).scheme}://{urlsplit(base).netloc}"
        for base in bases
        if urlsplit(base).path.startswith(prefix)
    }
    with site.references() as references:
        row = references.file(name)
    secrets = site.settings.download.secrets
    if row is None or not secrets:
        return [], []
    target = ReadableFile.of(name, row, "").target
    link = Link(int(time.time()) + _LINK_SECONDS, save=False)
    tokens = (sign(secrets[0], target, link), sign(f"not {secrets[0]}", target, link))
    good, wrong = (
        [f"{root}{prefix}attachments/~{token}/{quote(name)}" for root in sorted(roots)]
        for token in tokens
    )
    return good, wrong


class _Stranger:
    """Has no credentials, and follows redirections to the hosts alone that are asked anyway."""

    def __init__(self, content: bytes, urls: list[str]) -> None:
        """``content`` is how the file begins."""
        self._content = content
        self._hosts = {urlsplit(url).netloc for url in urls}
        self._pool = PoolManager(timeout=Timeout(total=_SECONDS), retries=False)
        self._error = ""

    def ask(self, url: str) -> str | None:
        """Return what is wrong with the answer."""
        try:
            return READABLE if self._gets_it(url) else None
        except (HTTPError, ValueError) as error:
            self._error = type(error).__name__
            return NOT_ASKED

    def advice(self, problem: str) -> str:
        """Return what to say of the problem of the last URL."""
        if problem == NOT_ASKED:
            return f"there is no answer ({self._error})"
        return "close the store to strangers, and let no cache keep what is private"

    def _gets_it(self, url: str) -> bool:
        for _ in range(_REDIRECTS):
            response = self._pool.request(
                "GET",
                url,
                redirect=False,
                preload_content=False,
                headers={"Accept-Encoding": "identity", "User-Agent": "kinto-attachment check"},
            )
            with closing(response):
                location = response.get_redirect_location()
                if not location:
                    found = response.status == 200
                    return found and response.read(len(self._content)) == self._content
                url = urljoin(url, location)
                if urlsplit(url).netloc not in self._hosts or not _is_http(url):
                    return False
        return False


def _is_http(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


def _without_token(url: str) -> str:
    head, tilde, tail = url.partition("/attachments/~")
    return f"{head}/attachments/~.../{tail.partition('/')[2]}" if tilde else url
