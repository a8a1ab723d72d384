"""Resumable uploads: sessions, chunks, what is kept, and how they end."""

from __future__ import annotations

import os

import pytest

from tests.support.live.proxy import breaks_off, fails_inside
from tests.support.servers.gcs import answers_as, breaks_the_line, loses_the_answer
from tests.support.servers.gcs.errors import unavailable
from tests.support.servers.http import drops_the_upload
from tests.support.servers.http import first as happens_before
from tests.test_support.gcs.client import GRANULE, crc32c_of, reason

CONTENT = os.urandom(2 * GRANULE + 10)
LAST = f"{2 * GRANULE}-{2 * GRANULE + 9}/{len(CONTENT)}"


def first(client, uri, size=GRANULE):
    return client.send(uri, f"0-{size - 1}/*", CONTENT[:size])


class TestChunks:
    def test_an_upload_in_chunks(self, client, server):
        uri = client.start(
            "a/é",
            "predefinedAcl=publicRead",
            json={"contentType": "image/png", "cacheControl": "x", "metadata": {"a": "b"}},
        )
        assert [session.name for session in server.sessions()] == ["a/é"]

        answer = first(client, uri)
        assert (answer.status_code, answer.headers["Range"]) == (308, f"bytes=0-{GRANULE - 1}")
        client.send(uri, f"{GRANULE}-{2 * GRANULE - 1}/*", CONTENT[GRANULE : 2 * GRANULE])
        answer = client.send(uri, LAST, CONTENT[2 * GRANULE :])

        assert answer.status_code == 200
        stored = server.objects()["a/é"]
        assert answer.json()["generation"] == str(stored.generation)
        assert stored.content == CONTENT
        assert stored.crc32c == crc32c_of(CONTENT)
        assert (stored.content_type, stored.cache_control) == ("image/png", "x")
        assert (stored.metadata, stored.acl) == ({"a": "b"}, "publicRead")
        assert server.sessions() == []

    def test_there_is_no_range_where_nothing_is_kept(self, client):
        answer = client.send(client.start("a"), "*/*")

        assert answer.status_code == 308
        assert "Range" not in answer.headers

    def test_all_chunks_but_the_last_are_multiples_of_256_kib(self, client):
        uri = client.start("a")

        for size in (100, GRANULE + 1):
            answer = client.send(uri, f"0-{size - 1}/*", CONTENT[:size])
            assert reason(answer) == (400, "invalid")
        assert "Range" not in client.send(uri, "*/*").headers
        assert client.send(uri, "0-99/100", CONTENT[:100]).status_code == 200

    def test_a_chunk_past_what_is_kept_is_a_503(self, client):
        uri = client.start("a")
        first(client, uri)

        answer = client.send(uri, LAST, CONTENT[2 * GRANULE :])

        assert reason(answer) == (503, "backendError")
        assert client.send(uri, "*/*").headers["Range"] == f"bytes=0-{GRANULE - 1}"

    def test_a_chunk_that_is_sent_again_is_a_308(self, client):
        uri = client.start("a")

        assert first(client, uri).headers == first(client, uri).headers
        assert first(client, uri).status_code == 308

    def test_of_a_chunk_that_is_kept_in_part_the_rest_is_taken(self, client, server):
        uri = client.start("a")
        first(client, uri)

        answer = client.send(uri, f"0-{len(CONTENT) - 1}/{len(CONTENT)}", CONTENT)

        assert answer.status_code == 200
        assert server.objects()["a"].content == CONTENT

    @pytest.mark.parametrize("kept", [0, GRANULE])
    def test_less_than_was_sent_may_be_acknowledged(self, client, server, kept):
        server.acknowledges = lambda sent: min(sent, kept)
        uri = client.start("a")

        answer = first(client, uri, 2 * GRANULE)

        assert answer.status_code == 308
        assert answer.headers.get("Range") == (f"bytes=0-{kept - 1}" if kept else None)

    def test_what_is_acknowledged_may_be_less_than_the_server_reads_at_once(self, client, server):
        server.acknowledges = lambda sent: GRANULE
        uri = client.start("a")

        answer = client.send(uri, f"0-{16 * GRANULE - 1}/*", bytes(16 * GRANULE))

        assert (answer.status_code, answer.headers["Range"]) == (308, f"bytes=0-{GRANULE - 1}")

    def test_the_last_chunk_may_be_acknowledged_in_part_as_well(self, client, server):
        server.acknowledges = lambda sent: GRANULE
        uri = client.start("a")

        answer = client.send(uri, f"0-{len(CONTENT) - 1}/{len(CONTENT)}", CONTENT)
        assert (answer.status_code, answer.headers["Range"]) == (308, f"bytes=0-{GRANULE - 1}")
        server.acknowledges = None
        rest = f"{GRANULE}-{len(CONTENT) - 1}/{len(CONTENT)}"

        assert client.send(uri, rest, CONTENT[GRANULE:]).status_code == 200
        assert server.objects()["a"].content == CONTENT

    def test_all_can_be_sent_at_once(self, client, server):
        answer = client.call("PUT", client.start("a"), data=CONTENT)

        assert answer.status_code == 200
        assert server.objects()["a"].content == CONTENT

    def test_all_can_be_sent_at_once_without_saying_how_much_it_is(self, client, server):
        answer = client.call("PUT", client.start("a"), data=iter([CONTENT, CONTENT]))

        assert answer.status_code == 200
        assert server.objects()["a"].content == CONTENT * 2

    @pytest.mark.parametrize(
        ("content_range", "size"),
        [
            ("0-19/20", 10),
            ("0-9/5", 10),
            ("9-0/20", 10),
            ("0-9", 10),
            ("*/x", 0),
        ],
    )
    def test_a_content_range_that_cannot_be_is_a_400(self, client, content_range, size):
        answer = client.send(client.start("a"), content_range, CONTENT[:size])

        assert reason(answer) == (400, "invalid")

    def test_a_body_in_chunks_must_be_as_long_as_was_said(self, client):
        headers = {"Content-Range": "bytes 0-19/20"}

        answer = client.call("PUT", client.start("a"), data=iter([b"1234"]), headers=headers)

        assert reason(answer) == (400, "invalid")

    def test_the_total_is_said_once(self, client):
        uri = client.start("a", headers={"X-Upload-Content-Length": "20"})

        assert reason(client.send(uri, "0-9/10", CONTENT[:10])) == (400, "invalid")
        assert client.send(uri, "0-19/20", CONTENT[:20]).status_code == 200


class TestTheEnd:
    def test_a_status_query_with_the_total_finishes(self, client, server):
        uri = client.start("a")
        first(client, uri)

        assert client.send(uri, f"*/{GRANULE}").status_code == 200
        assert server.objects()["a"].size == GRANULE

    def test_an_empty_file(self, client, server):
        assert client.send(client.start("a"), "*/0").status_code == 200
        assert server.objects()["a"].content == b""

    def test_afterwards_everything_is_answered_with_the_object(self, client):
        uri = client.start("a")
        done = client.send(uri, "0-9/10", CONTENT[:10]).json()

        assert client.send(uri, "*/*").json() == done
        assert client.send(uri, "0-9/10", CONTENT[:10]).json() == done

    def test_the_412_comes_after_the_last_byte_and_again_afterwards(self, client, server):
        uri = client.start("a", "ifGenerationMatch=0")
        client.put("a")

        assert first(client, uri).status_code == 308
        refused = client.send(uri, f"{GRANULE}-{GRANULE + 9}/{GRANULE + 10}", CONTENT[:10])
        assert reason(refused) == (412, "conditionNotMet")
        client.at("a", method="DELETE")

        assert reason(client.send(uri, "*/*")) == (412, "conditionNotMet")
        assert first(client, uri).status_code == 412
        assert not server.objects()
        assert server.sessions() == []

    @pytest.mark.parametrize("when", ["start", "end"])
    def test_a_wrong_crc32c_is_a_400(self, client, server, when):
        wrong = crc32c_of(b"other")
        uri = client.start("a", json={"crc32c": wrong} if when == "start" else {})
        headers = {"x-goog-hash": f"crc32c={wrong}"} if when == "end" else {}

        answer = client.send(uri, "0-9/10", CONTENT[:10], **headers)

        assert reason(answer) == (400, "invalid")
        assert client.send(uri, "*/*").status_code == 400
        assert not server.objects()

    def test_a_right_crc32c_is_taken(self, client):
        hashes = {"x-goog-hash": f"crc32c={crc32c_of(CONTENT[:10])}"}

        answer = client.send(client.start("a"), "0-9/10", CONTENT[:10], **hashes)

        assert answer.status_code == 200

    def test_a_429_can_be_tried_again(self, client, server):
        server.one_write_per_second = True
        client.put("a", b"")
        uri = client.start("a")

        assert client.send(uri, "0-9/10", CONTENT[:10]).status_code == 429
        server.one_write_per_second = False

        assert client.send(uri, "*/10").status_code == 200
        assert server.objects()["a"].content == CONTENT[:10]

    def test_a_cancelled_upload_is_a_499(self, client, server):
        uri = client.start("a")

        assert client.call("DELETE", uri).status_code == 499
        assert client.send(uri, "*/*").status_code == 499
        assert client.send(uri, "0-9/10", CONTENT[:10]).status_code == 499
        assert server.sessions() == []

    @pytest.mark.parametrize("status", [404, 410])
    def test_sessions_can_be_lost(self, client, server, status):
        uri = client.start("a")
        server.lose_sessions(status)

        assert first(client, uri).status_code == status
        assert server.sessions() == []

    def test_an_unknown_session_is_a_404(self, client):
        uri = client.start("a")

        assert client.send(f"{uri}x", "*/*").status_code == 404


class TestStart:
    def test_the_bucket_must_be_there(self, client):
        client.bucket = "missing"

        assert reason(client.upload("uploadType=resumable&name=a")) == (404, "notFound")

    def test_a_public_acl_is_refused_at_the_end_where_public_access_is_prevented(
        self, client, server
    ):
        server.public_access_prevention = True
        uri = client.start("a", "predefinedAcl=publicRead&ifGenerationMatch=0")

        answer = client.send(uri, "0-9/10", CONTENT[:10])

        assert reason(answer) == (412, "conditionNotMet")
        assert "public access prevention" in answer.text
        assert not server.objects()

    def test_an_acl_is_refused_at_the_start_where_access_is_uniform(self, client, server):
        server.uniform_access = True

        answer = client.upload("uploadType=resumable&name=a&predefinedAcl=publicRead")

        assert reason(answer) == (400, "invalid")


class TestFaults:
    def test_a_lost_answer(self, client, server):
        server.fail("chunk", loses_the_answer, times=1)
        uri = client.start("a")

        with pytest.raises(OSError):
            first(client, uri)

        assert client.send(uri, "*/*").headers["Range"] == f"bytes=0-{GRANULE - 1}"

    @pytest.mark.parametrize(("after", "kept"), [(1000, 0), (GRANULE + 1000, GRANULE)])
    def test_a_broken_line_keeps_whole_granules(self, client, server, after, kept):
        server.fail("chunk", breaks_the_line(after))
        uri = client.start("a")

        with pytest.raises(OSError):
            first(client, uri, 2 * GRANULE)

        assert client.send(uri, "*/*").headers.get("Range") == (
            f"bytes=0-{kept - 1}" if kept else None
        )
        assert server.requests[-2].received == after

    def test_a_broken_line_leaves_no_object(self, client, server):
        server.fail("insert", breaks_the_line(3))

        with pytest.raises(OSError):
            client.put("a")

        assert not server.objects()

    def test_requests_after_so_many(self, client, server):
        server.fail("chunk", answers_as(unavailable()), times=1, after=1)
        uri = client.start("a")

        assert [first(client, uri).status_code for _ in range(3)] == [308, 503, 308]
        assert [request.operation for request in server.requests] == ["start", *["chunk"] * 3]

    @pytest.mark.parametrize("fault", [breaks_off, drops_the_upload(GRANULE)])
    def test_a_connection_that_is_cut_before_the_server_reads_it(self, client, server, fault):
        server.fail("chunk", fault)
        uri = client.start("a")

        with pytest.raises(OSError):
            first(client, uri)

        assert "Range" not in client.send(uri, "*/*").headers

    def test_an_answer_of_ones_own_and_what_happens_before(self, client, server):
        server.fail("insert", fails_inside, times=1)
        server.fail("insert", happens_before(lambda: server.create_bucket("new")))
        client.bucket = "new"

        assert [client.put("a").status_code for _ in range(2)] == [500, 200]

    def test_any_request_and_chosen_ones(self, client, server):
        server.fail(lambda request: request.name == "b", answers_as(unavailable()))

        assert [client.at(name).status_code for name in "ab"] == [404, 503]
        server.heal()
        assert client.at("b").status_code == 404
        server.fail("*", answers_as(unavailable()))
        assert client.list().status_code == 503
