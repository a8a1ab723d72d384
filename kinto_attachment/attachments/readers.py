"""Who may read a private file: whoever may read a record that shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from kinto.authorization import _inherited_permissions
from kinto.core.events import ACTIONS
from kinto.core.utils import prefixed_principals
from pyramid.authorization import Everyone
from pyramid.settings import aslist

from kinto_attachment.attachments.holder import Holder
from kinto_attachment.database.transactions import outermost

# Pairs of an object and a permission in one question: each is two parameters of a statement.
_PAGE = 500


class Readers:
    """Asks Kinto's permissions, as the user who has sent the request.

    In a batch, that is the user of the batch: a plugin's own requests are not looked at, since
    Kinto would set their user.
    """

    def __init__(self, request: Any) -> None:
        self._request = outermost(request)

    def identify(self) -> Any:
        """Return the user's id, ``None`` for an anonymous one.

        To be called before anything is looked up. Whatever the answer, the user is known to
        Kinto's log from now on, and a request of a user who does not exist is answered alike.
        """
        return self._request.authenticated_userid

    def may_read(self, holders: Iterable[Holder]) -> bool:
        """Whether the user may read one of these records."""
        return self._has_one_of(_uri(each) for each in holders)

    def may_read_collection(self, uri: str) -> bool:
        """Whether the user may read all the records of a collection."""
        return self._has_one_of([f"{uri}/records"])

    def is_about_to_sync(self, holder: Holder) -> bool:
        """Whether this transaction has changed the record, in a way that is not followed yet.

        Kinto sends the events of a batch when all of it is done.
        """
        collector = self._request.bound_data.get("resource_events")
        events = {} if collector is None else collector.event_dict
        return any(
            resource_name == "record"
            and parent_id == holder.parent_id
            and action in (ACTIONS.UPDATE, ACTIONS.DELETE)
            and any(_is_about(holder, change) for change in impacted)
            for (_, resource_name, parent_id, action), (_, impacted, _) in events.items()
        )

    def _has_one_of(self, uris: Iterable[str]) -> bool:
        self.identify()
        return _may_one(self._request.registry, prefixed_principals(self._request), uris)


def everybody_may_read(registry: Any, holders: Iterable[Holder]) -> bool:
    """Whether users without credentials may read one of these records."""
    return _may_one(registry, [Everyone], (_uri(each) for each in holders))


def _may_one(registry: Any, principals: Sequence[str], uris: Iterable[str]) -> bool:
    """Whether the principals may read one of the objects."""
    if not principals or _may_read_all(registry.settings, principals):
        return bool(principals)
    check = registry.permission.check_permission
    return any(check(principals, pairs) for pairs in _pages(_granting(uris)))


def _may_read_all(settings: Mapping[str, Any], principals: Sequence[str]) -> bool:
    """Whether the settings let the user read every record."""
    return any(
        not set(principals).isdisjoint(aslist(settings.get(f"record_{each}_principals", "")))
        for each in ("read", "write")
    )


def _is_about(holder: Holder, change: dict[str, Any]) -> bool:
    # After a PATCH with "Response-Behavior: light", only the old object has an id.
    return any((each or {}).get("id") == holder.record_id for each in change.values())


def _uri(holder: Holder) -> str:
    # As in the path of a request.
    return f"{holder.parent_id}/records/{quote(holder.record_id)}"


def _granting(uris: Iterable[str]) -> list[tuple[str, str]]:
    """Return objects with the permissions that let somebody read one of ``uris``, the parents
    first: they are few."""
    pairs = {pair for uri in uris for pair in _inherited_permissions(uri, "read")}
    return sorted(pairs, key=lambda pair: (pair[0].count("/"), pair))


def _pages(pairs: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    iterator = iter(pairs)
    while page := list(islice(iterator, _PAGE)):
        yield page
