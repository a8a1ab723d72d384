"""Eight requests at a time.

What plain Kinto answers in the same races is allowed: 409 where two writes of a collection take
the same timestamp, and 503 where PostgreSQL ends a deadlock of a DELETE and another write. Files
must be right whatever the answer.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.support.live.client import Answer, at_once, uri_of
from tests.support.live.site import Site
from tests.support.live.stops import Stop

CLIENTS = range(8)
ROUNDS = range(4)


def check_answers(site: Site, answers: list[Answer], *allowed: int) -> None:
    """One at least succeeds; the others do, or fail as they may."""
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {*allowed, 409, 503}, [answer.text for answer in answers]
    assert statuses & {*allowed}
    if 503 in statuses:
        assert "deadlock detected" in site.log()


def content_of(number: int, client: int) -> bytes:
    return f"round {number}, client {client}".encode()


def test_replacing_one_record(site):
    uri = uri_of("c")
    site.client.create_collections("c")
    site.client.attach(uri, b"first")

    for number in ROUNDS:
        contents = [content_of(number, client) for client in CLIENTS]
        answers = at_once(*(partial(site.client.attach, uri, each) for each in contents))

        check_answers(site, answers, 200)
        attachment = site.client.record(uri)["attachment"]
        assert attachment in [answer.json() for answer in answers if answer.ok]
    site.assert_consistent()


def test_creating_one_record(site):
    site.client.create_collections("c")

    for number in ROUNDS:
        uri = uri_of("c", f"r{number}")
        contents = [content_of(number, client) for client in CLIENTS]
        answers = at_once(*(partial(site.client.attach, uri, each) for each in contents))

        check_answers(site, answers, 200, 201)
        attachment = site.client.record(uri)["attachment"]
        assert attachment in [answer.json() for answer in answers if answer.ok]
    site.assert_consistent()


@pytest.mark.parametrize("deleted", ["", "/attachment"], ids=["record", "attachment"])
def test_replacing_and_deleting(site, deleted):
    uri = uri_of("c")
    site.client.create_collections("c")
    delete = partial(site.client.request, "DELETE", uri + deleted)

    for number in ROUNDS:
        attach = [
            partial(site.client.attach, uri, content_of(number, client)) for client in CLIENTS[:5]
        ]
        answers = at_once(*attach, delete, delete, delete)

        check_answers(site, answers, 200, 201, 204, 404)
        site.assert_consistent()


def until_it_works(site: Site, uri: str, content: bytes) -> Answer:
    """What a client does that is told to try again."""
    answer = site.client.attach(uri, content, "same.txt")
    while answer.status_code in (409, 503):
        answer = site.client.attach(uri, content, "same.txt")
    return answer


@pytest.mark.parametrize("collections", [1, 8])
def test_the_same_filename(site, collections):
    names = [f"c{client % collections}" for client in CLIENTS]
    uris = [uri_of(name, f"r{client}", "named") for client, name in enumerate(names)]
    site.client.create_collections(*set(names), bucket="named")

    for number in range(2):
        answers = at_once(
            *(
                partial(until_it_works, site, uri, content_of(number, client))
                for client, uri in enumerate(uris)
            )
        )

        assert {answer.status_code for answer in answers} == {200 if number else 201}
        for client, uri in enumerate(uris):
            site.assert_shows(uri, content_of(number, client))
    site.assert_consistent()


def test_nothing_fails_because_of_another_collection(site):
    uris = [uri_of(f"c{client}") for client in CLIENTS]
    site.client.create_collections(*(f"c{client}" for client in CLIENTS))

    def write(uri: str) -> list[Answer]:
        return [
            site.client.attach(uri, b"first"),
            site.client.attach(uri, b"second"),
            site.client.request("PATCH", uri, {"data": {"title": "new"}}),
            site.client.request("DELETE", f"{uri}/attachment"),
            site.client.attach(uri, b"third"),
            site.client.request("DELETE", uri),
            site.client.attach(uri, b"fourth"),
        ]

    answers = at_once(*(partial(write, uri) for uri in uris))

    statuses = [[answer.status_code for answer in written] for written in answers]
    assert statuses == [[201, 200, 200, 204, 200, 200, 201]] * len(uris)
    site.assert_consistent()


def test_nothing_waits_for_another_collection(site):
    uris = [uri_of(f"c{client}") for client in CLIENTS]
    site.client.create_collections(*(f"c{client}" for client in CLIENTS))

    with Stop("written") as stop:
        slow = partial(site.client.attach, uris[0], b"slow", headers=stop.headers)

        def others() -> list[Answer]:
            stop.wait()
            answers = at_once(*(partial(site.client.attach, uri, b"quick") for uri in uris[1:]))
            stop.go_on()
            return answers

        slow_answer, answers = at_once(slow, others)

    assert [answer.status_code for answer in [slow_answer, *answers]] == [201] * len(uris)
    site.assert_consistent()


def test_two_records_that_swap_their_files(site):
    uris = [uri_of("c0"), uri_of("c1")]
    site.client.create_collections("c0", "c1", "copies")
    attachments = [site.client.attach(uri, uri.encode()).json() for uri in uris]
    for number, attachment in enumerate(attachments):
        # With another holder, each file is there for whoever takes it later.
        copy = uri_of("copies", f"r{number}")
        site.client.request("PUT", copy, {"data": {"attachment": attachment}})

    for _ in ROUNDS:
        attachments.reverse()
        answers = at_once(
            *(
                partial(site.client.request, "PATCH", uri, {"data": {"attachment": attachment}})
                for uri, attachment in zip(uris, attachments, strict=True)
            )
        )

        assert [answer.status_code for answer in answers] == [200, 200]
    site.assert_consistent()
