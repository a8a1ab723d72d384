"""What is uploaded to a site whose store fails, and what must hold then."""

from __future__ import annotations

from collections.abc import Collection

from tests.support.live.answers import check_that_storage_is_unavailable
from tests.support.live.client import KIB, MIB, Answer, uri_of
from tests.support.live.site import Site

FIRST = b"first"
# Goes up in one request, and in several.
SMALL = b"small"
LARGE = b"large---" * (6 * MIB // 8)
SENT = 5 * MIB + 512 * KIB
"""So much of ``LARGE`` makes the plugin begin to send it on."""

BUCKETS = ("b", "named")
"""Of the records. In the second one files keep their names."""


def prepare(site: Site) -> Site:
    """Create a record with a file in each bucket."""
    for bucket in BUCKETS:
        site.client.create_collections("c", bucket=bucket)
        site.client.attach(uri_of("c", bucket=bucket), FIRST).raise_for_status()
    return site


def check_that_nothing_happened(
    answer: Answer, site: Site, bucket: str, leftovers: Collection[str] = ()
) -> None:
    """Assert that an upload was refused, and that the record shows its previous file. Nothing but
    ``leftovers`` was left."""
    check_that_storage_is_unavailable(answer)
    site.assert_shows(uri_of("c", bucket=bucket), FIRST)
    site.assert_consistent(leftovers)
