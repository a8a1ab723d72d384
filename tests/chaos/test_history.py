"""What the chaos concludes from: which states of a record contradict what was acknowledged."""

from __future__ import annotations

import time

import pytest

from tests.chaos.history import ABSENT, NO_FILE, History


@pytest.fixture
def history():
    """Of a record with the file ``a``."""
    history = History("r")
    history.begin("a", "me", "upload").acknowledge()
    return history


def test_a_record_that_nobody_made_is_not_there():
    assert History("r").possible() == {ABSENT}


def test_what_was_acknowledged_is_there(history):
    assert history.possible() == {"a"}


def test_what_was_refused_changes_nothing(history):
    history.begin("b", "me", "upload").refuse()

    assert history.possible() == {"a"}


def test_what_was_not_answered_may_have_happened(history):
    history.begin("b", "me", "upload").lose()

    assert history.possible() == {"a", "b"}


def test_what_is_acknowledged_afterwards_settles_it(history):
    history.begin("b", "me", "upload").lose()
    history.begin(NO_FILE, "me", "detach").acknowledge()

    assert history.possible() == {NO_FILE}


def test_of_two_at_once_either_may_be_the_last(history):
    first = history.begin("b", "me", "upload")
    second = history.begin("c", "you", "upload")
    second.acknowledge()
    first.acknowledge()

    assert history.possible() == {"b", "c"}


def test_what_was_given_up_may_still_happen(history):
    history.begin("b", "me", "upload").give_up()
    history.begin("c", "me", "upload").acknowledge()

    assert history.possible() == {"b", "c"}


def test_a_reader_may_have_seen_what_was_there_when_it_began(history):
    since = time.monotonic()
    history.begin("b", "you", "upload").acknowledge()

    assert history.possible(since) == {"a", "b"}
    assert history.possible() == {"b"}
