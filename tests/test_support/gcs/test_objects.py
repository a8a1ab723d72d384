"""Objects: metadata, content, preconditions, compose, rewrite, list, delete."""

from __future__ import annotations

import gzip
import time
from datetime import timedelta

import pytest

from tests.support.servers.gcs.content import Content
from tests.test_support.gcs.client import crc32c_of, reason


def names(answer):
    return [item["name"] for item in answer.json().get("items", ())]


def sources(*names):
    return {"sourceObjects": [{"name": name} for name in names]}


class TestInsert:
    def test_metadata_and_acl_are_kept(self, client, server):
        answer = client.insert(
            {
                "name": "a/é",
                "contentType": "image/png",
                "cacheControl": "no-store",
                "metadata": {"sha256": "x"},
            },
            b"hello",
            "predefinedAcl=publicRead",
        )

        assert answer.status_code == 200
        stored = server.objects()["a/é"]
        assert stored.content == b"hello"
        assert stored.content_type == "image/png"
        assert stored.cache_control == "no-store"
        assert stored.metadata == {"sha256": "x"}
        assert stored.acl == "publicRead"
        assert stored.metageneration == 1
        assert answer.json()["generation"] == str(stored.generation)
        assert answer.json()["crc32c"] == stored.crc32c == crc32c_of(b"hello")
        assert answer.json()["size"] == "5"
        assert answer.json()["md5Hash"] == "XUFAKrxLKna5cZ2REBfFkg=="

    def test_the_part_has_the_content_type_if_the_metadata_has_none(self, client, server):
        client.insert({"name": "a"})

        assert server.objects()["a"].content_type == "text/plain"

    def test_a_boundary_inside_of_the_content_ends_nothing(self, client, server):
        content = b"--edge\r\n--edge-- \r\n--edge"

        assert client.insert({"name": "a"}, content).status_code == 200
        assert server.objects()["a"].content == content

    def test_a_taken_name_is_a_412(self, client):
        client.put("a")

        answer = client.put("a", b"other", "ifGenerationMatch=0")

        assert reason(answer) == (412, "conditionNotMet")

    @pytest.mark.parametrize("where", ["metadata", "header"])
    def test_a_wrong_crc32c_is_a_400(self, client, server, where):
        wrong = crc32c_of(b"other")
        metadata = {"name": "a", **({"crc32c": wrong} if where == "metadata" else {})}
        headers = {"x-goog-hash": f"crc32c={wrong}"} if where == "header" else {}

        answer = client.insert(metadata, b"hello", headers=headers)

        assert reason(answer) == (400, "invalid")
        assert "doesn't match calculated CRC32C" in answer.text
        assert not server.objects()

    def test_a_right_crc32c_is_taken(self, client):
        metadata = {"name": "a", "crc32c": crc32c_of(b"hello")}

        assert client.insert(metadata, b"hello").status_code == 200

    @pytest.mark.parametrize(
        "name", ["", "x" * 1025, "é" * 513, "a\nb", "a\rb", ".", "..", "\udc80"]
    )
    @pytest.mark.parametrize("upload_type", ["multipart", "resumable"])
    def test_what_cannot_be_a_name_is_a_400(self, client, name, upload_type):
        if upload_type == "multipart":
            answer = client.insert({"name": name})
        else:
            answer = client.upload("uploadType=resumable", json={"name": name})

        assert answer.status_code == 400

    def test_a_name_may_have_1024_bytes(self, client, server):
        assert client.put("é" * 512).status_code == 200
        assert list(server.objects()) == ["é" * 512]

    def test_two_names_are_a_400(self, client):
        assert reason(client.insert({"name": "a"}, query="name=b")) == (400, "invalid")

    def test_a_missing_bucket_is_a_404(self, client):
        client.bucket = "missing"

        answer = client.put("a")

        assert reason(answer) == (404, "notFound")
        assert answer.json()["error"]["message"] == "The specified bucket does not exist."

    @pytest.mark.parametrize(
        "metadata",
        [
            {"metadata": {"a": 1}},
            {"metadata": {"a": "x" * 9000}},
            {"metadata": "a"},
            {"cacheControl": "a\r\nSet-Cookie: b"},
            {"contentType": 1},
            {"customTime": "yesterday"},
        ],
    )
    def test_metadata_that_cannot_be_is_a_400(self, client, metadata):
        assert reason(client.insert({"name": "a", **metadata})) == (400, "invalid")

    @pytest.mark.parametrize("body", [b"", b"--edge\r\n\r\n{}\r\n--edge--", b"nonsense"])
    def test_a_malformed_body_is_a_400(self, client, body):
        headers = {"Content-Type": "multipart/related; boundary=edge"}

        answer = client.upload("uploadType=multipart&name=a", data=body, headers=headers)

        assert reason(answer) == (400, "badContent")

    @pytest.mark.parametrize(
        ("query", "content_type"),
        [
            ("uploadType=multipart", "application/json"),
            ("uploadType=media", "text/plain"),
            ("uploadType=other&name=a", "text/plain"),
        ],
    )
    def test_what_is_no_upload_is_a_400(self, client, query, content_type):
        answer = client.upload(query, data=b"x", headers={"Content-Type": content_type})

        assert answer.status_code == 400

    def test_a_body_in_chunks_is_read(self, client, server):
        client.upload("uploadType=media&name=a", data=iter([b"hel", b"lo"]))

        assert server.objects()["a"].content == b"hello"

    def test_content_may_be_larger_than_what_stays_in_memory(self, client, server):
        content = bytes(range(256)) * 4096 * 3

        client.put("a", content)

        assert server.objects()["a"].content == content
        assert client.at("a", "alt=media").content == content


class TestOneWritePerSecond:
    def test_a_second_write_of_a_name_is_a_429(self, client, server):
        server.one_write_per_second = True
        client.put("a")

        answer = client.put("a")

        assert reason(answer) == (429, "rateLimitExceeded")
        assert client.at("a", method="PATCH", json={}).status_code == 429
        assert client.at("a//compose", method="POST", json=sources("a")).status_code == 429
        assert client.put("b").status_code == 200

    def test_another_second_is_another_write(self, client, server):
        server.one_write_per_second = True
        client.put("a")
        time.sleep(1.01)

        assert client.put("a").status_code == 200


class TestGet:
    def test_only_the_fields_asked_for(self, client):
        client.put("a", b"hello")

        assert client.at("a", "fields=name,size").json() == {"name": "a", "size": "5"}
        assert len(client.at("a", "fields=*").json()) > 10
        assert client.at("a", "fields=a-b").status_code == 400
        assert client.list("fields=items/name").json() == {"items": [{"name": "a"}]}

    def test_an_overwritten_generation_is_not_found(self, client):
        generation = client.put("a", b"old").json()["generation"]
        client.put("a", b"new")

        assert reason(client.at("a", f"generation={generation}")) == (404, "notFound")
        assert client.at("a", f"alt=media&generation={generation}").status_code == 404

    def test_with_versioning_it_is_readable_until_it_is_deleted(self, client, server):
        server.versioning = True
        query = f"generation={client.put('a', b'old').json()['generation']}"
        client.put("a", b"new")

        assert client.at("a", f"alt=media&{query}").content == b"old"
        assert client.at("a", query, method="DELETE").status_code == 204
        assert client.at("a", query).status_code == 404
        assert client.at("a", "alt=media").content == b"new"

    def test_preconditions(self, client):
        generation = client.put("a").json()["generation"]

        assert client.at("a", f"ifGenerationMatch={generation}").status_code == 200
        assert reason(client.at("a", "ifGenerationMatch=5")) == (412, "conditionNotMet")
        assert client.at("a", "alt=media&ifGenerationMatch=5").status_code == 412
        assert client.at("a", "ifMetagenerationMatch=2").status_code == 412
        assert client.at("a", f"ifGenerationNotMatch={generation}").status_code == 304
        assert client.at("a", "ifGenerationMatch=x").status_code == 400

    @pytest.mark.parametrize(
        ("wanted", "content", "content_range"),
        [
            ("bytes=1-2", b"el", "bytes 1-2/5"),
            ("bytes=3-", b"lo", "bytes 3-4/5"),
            ("bytes=3-100", b"lo", "bytes 3-4/5"),
            ("bytes=-2", b"lo", "bytes 3-4/5"),
            ("bytes=3-1", b"hello", None),
            ("lines=1-2", b"hello", None),
        ],
    )
    def test_ranges(self, client, wanted, content, content_range):
        client.put("a", b"hello")

        answer = client.at("a", "alt=media", headers={"Range": wanted})

        assert answer.status_code == (206 if content_range else 200)
        assert answer.content == content
        assert answer.headers.get("Content-Range") == content_range
        assert answer.headers["x-goog-hash"].startswith(f"crc32c={crc32c_of(b'hello')}")

    @pytest.mark.parametrize(("content", "wanted"), [(b"hello", "5-"), (b"", "0-"), (b"", "-1")])
    def test_a_range_past_the_end_is_a_416(self, client, content, wanted):
        client.put("a", content)

        answer = client.at("a", "alt=media", headers={"Range": f"bytes={wanted}"})

        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{len(content)}"

    @pytest.mark.parametrize(
        ("accepted", "cache_control", "is_raw"),
        [("gzip", "", True), ("identity", "", False), ("identity", "no-transform", True)],
    )
    def test_what_is_compressed_is_decompressed_for_who_does_not_accept_it(
        self, client, accepted, cache_control, is_raw
    ):
        content = gzip.compress(b"hello")
        encoded = {"contentEncoding": "gzip", "cacheControl": cache_control}
        client.insert({"name": "a", **encoded}, content)

        answer = client.at(
            "a",
            "alt=media",
            headers={"Accept-Encoding": accepted, "Range": "bytes=0-0"},
            stream=True,
        )

        assert answer.raw.read(decode_content=False) == (content[:1] if is_raw else b"hello")
        assert answer.headers.get("Content-Encoding") == ("gzip" if is_raw else None)

    def test_an_error_of_the_media_is_a_sentence(self, client):
        answer = client.at("a", "alt=media")

        assert (answer.status_code, answer.text) == (404, "No such object: tests/a")

    def test_a_name_is_one_segment_of_the_path(self, client):
        client.put("a/b")

        assert client.call("GET", "/storage/v1/b/tests/o/a%2Fb").status_code == 200
        assert client.call("GET", "/storage/v1/b/tests/o/a/b").status_code == 404


class TestPatch:
    def test_what_is_null_goes(self, client, server):
        client.insert({"name": "a", "cacheControl": "no-store", "metadata": {"a": "1", "b": "2"}})

        answer = client.at(
            "a", method="PATCH", json={"cacheControl": None, "metadata": {"a": None, "c": "3"}}
        )

        assert answer.json()["metageneration"] == "2"
        assert server.objects()["a"].cache_control is None
        assert server.objects()["a"].metadata == {"b": "2", "c": "3"}

    def test_a_custom_time_never_goes_back(self, client):
        client.put("a")
        for moment, status in (("2026-02-01", 200), ("2026-01-01", 400), ("2026-03-01", 200)):
            answer = client.at("a", method="PATCH", json={"customTime": f"{moment}T00:00:00Z"})
            assert answer.status_code == status

        assert client.at("a", method="PATCH", json={"customTime": None}).status_code == 400

    def test_all_metadata_can_be_removed(self, client, server):
        client.insert({"name": "a", "metadata": {"a": "1"}})

        client.at("a", method="PATCH", json={"metadata": None})

        assert server.objects()["a"].metadata == {}

    def test_a_precondition_that_does_not_hold_is_a_412(self, client):
        client.put("a")

        answer = client.at("a", "ifMetagenerationMatch=2", method="PATCH", json={})

        assert reason(answer) == (412, "conditionNotMet")

    def test_a_body_that_is_no_json_is_a_400(self, client):
        client.put("a")

        assert reason(client.at("a", method="PATCH", data=b"{")) == (400, "parseError")
        assert reason(client.at("a", method="PATCH", data=b"[]")) == (400, "parseError")


class TestCompose:
    def compose(self, client, sources, query="", name="new", **destination):
        body = {**sources, "destination": destination}
        return client.at(f"{name}//compose", query, method="POST", json=body)

    def test_contents_are_concatenated(self, client, server):
        for name in "abc":
            client.insert({"name": name, "cacheControl": "no-store", "metadata": {"a": "b"}})

        answer = self.compose(client, sources("a", "b", "c"), contentType="image/png")

        stored = server.objects()["new"]
        assert stored.content == b"content" * 3
        assert stored.content_type == "image/png"
        assert stored.crc32c == crc32c_of(b"content" * 3)
        assert answer.json()["componentCount"] == 3
        assert "md5Hash" not in answer.json()

    def test_neither_acl_nor_metadata_of_the_sources_are_taken_over(self, client, server):
        client.insert(
            {"name": "a", "cacheControl": "x", "metadata": {"a": "b"}},
            query="predefinedAcl=publicRead",
        )

        self.compose(client, sources("a"))

        stored = server.objects()["new"]
        assert (stored.acl, stored.cache_control, stored.metadata) == (None, None, {})
        assert client.read("new").status_code == 403

    def test_the_acl_has_a_parameter_of_its_own(self, client, server):
        client.put("a")

        self.compose(client, sources("a"), "destinationPredefinedAcl=publicRead")

        assert server.objects()["new"].acl == "publicRead"

    @pytest.mark.parametrize(("count", "status"), [(0, 400), (1, 200), (32, 200), (33, 400)])
    def test_1_to_32_sources(self, client, count, status):
        client.put("a")

        assert self.compose(client, sources(*["a"] * count)).status_code == status

    def test_composed_objects_can_be_composed(self, client, server):
        client.put("a", b"a")
        self.compose(client, sources("a", "a"), name="b")

        answer = self.compose(client, sources("b", "a", "b"))

        assert server.objects()["new"].content == b"aaaaa"
        assert answer.json()["componentCount"] == 5
        assert server.objects()["new"].crc32c == crc32c_of(b"aaaaa")

    def test_a_source_that_is_missing_is_a_404(self, client):
        assert reason(self.compose(client, sources("a"))) == (404, "notFound")

    def test_sources_may_name_a_generation(self, client):
        generation = client.put("a").json()["generation"]

        def compose(**source):
            answer = self.compose(client, {"sourceObjects": [{"name": "a", **source}]})
            return answer.status_code

        assert compose(generation=generation) == 200
        assert compose(generation="5") == 404
        assert compose(objectPreconditions={"ifGenerationMatch": generation}) == 200
        assert compose(objectPreconditions={"ifGenerationMatch": "5"}) == 412

    def test_a_taken_name_is_a_412(self, client):
        client.put("a")

        answer = self.compose(client, sources("a"), "ifGenerationMatch=0", name="a")

        assert reason(answer) == (412, "conditionNotMet")

    def test_the_sources_may_go_afterwards(self, client, server):
        client.put("a", b"x" * 2_000_000)
        self.compose(client, sources("a"))

        client.at("a", method="DELETE")

        assert server.objects()["new"].content == b"x" * 2_000_000

    @pytest.mark.parametrize("name", ["a\nb", "x" * 1025])
    def test_the_name_must_be_possible(self, client, name):
        client.put("a")

        assert reason(self.compose(client, sources("a"), name=name)) == (400, "invalid")

    @pytest.mark.parametrize("wrong", [None, "a", [{}], ["a"]])
    def test_sources_that_are_none(self, client, wrong):
        assert self.compose(client, {"sourceObjects": wrong}).status_code == 400


class TestRewrite:
    def test_everything_but_the_acl_is_taken_over(self, client, server):
        server.create_bucket("other")
        client.insert({"name": "a", "cacheControl": "x"}, query="predefinedAcl=publicRead")

        answer = client.at("a//rewriteTo/b/other/o/b%2Fc", method="POST")

        assert answer.json()["done"] is True
        assert answer.json()["resource"]["name"] == "b/c"
        stored = server.objects("other")["b/c"]
        assert (stored.content, stored.cache_control, stored.acl) == (b"content", "x", None)

    def test_metadata_that_is_sent_replaces_it(self, client, server):
        client.insert({"name": "a", "cacheControl": "x"})

        client.at(
            "a//rewriteTo/b/tests/o/b",
            "destinationPredefinedAcl=publicRead",
            method="POST",
            json={"contentType": "image/png"},
        )

        stored = server.objects()["b"]
        assert (stored.content_type, stored.cache_control) == ("image/png", None)
        assert stored.acl == "publicRead"

    def test_preconditions(self, client):
        client.put("a")

        def rewrite(query):
            return client.at("a//rewriteTo/b/tests/o/b", query, method="POST").status_code

        assert rewrite("ifSourceGenerationMatch=5") == 412
        assert rewrite("ifGenerationMatch=0") == 200
        assert rewrite("ifGenerationMatch=0") == 412
        assert rewrite("sourceGeneration=5") == 404


class TestList:
    @pytest.fixture(autouse=True)
    def fill(self, client):
        for name in ("b", "a/1", "a/2", "a/3/4", "é"):
            client.put(name)

    def test_names_are_in_the_order_of_their_bytes(self, client):
        assert names(client.list()) == ["a/1", "a/2", "a/3/4", "b", "é"]

    def test_prefix_delimiter_and_offsets(self, client):
        assert names(client.list("prefix=a/")) == ["a/1", "a/2", "a/3/4"]
        assert client.list("delimiter=/").json()["prefixes"] == ["a/"]
        assert names(client.list("delimiter=/")) == ["b", "é"]
        assert names(client.list("delimiter=/&prefix=a/")) == ["a/1", "a/2"]
        assert client.list("delimiter=/&prefix=a/").json()["prefixes"] == ["a/3/"]
        assert names(client.list("startOffset=a/2&endOffset=b")) == ["a/2", "a/3/4"]

    @pytest.mark.parametrize("delimiter", ["", "/"])
    def test_pages(self, client, delimiter):
        query, found = f"maxResults=1&delimiter={delimiter}", []
        while True:
            page = client.list(query).json()
            found += [item["name"] for item in page.get("items", ())] + page.get("prefixes", [])
            if "nextPageToken" not in page:
                break
            query = f"maxResults=1&delimiter={delimiter}&pageToken={page['nextPageToken']}"

        assert found == (["a/", "b", "é"] if delimiter else ["a/1", "a/2", "a/3/4", "b", "é"])

    def test_a_page_has_at_most_1000_entries(self, client, server):
        content = Content.of(b"")
        for number in range(1001):
            server.buckets["tests"].put(f"many/{number:04}", content, {}, None, {})

        page = client.list("maxResults=5000&prefix=many/&fields=items(name),nextPageToken").json()

        assert len(page["items"]) == 1000
        assert page["items"][0] == {"name": "many/0000"}
        assert page["nextPageToken"]

    def test_nothing_found_has_no_items(self, client):
        assert client.list("prefix=x&maxResults=1").json() == {"kind": "storage#objects"}

    def test_a_missing_bucket_is_a_404(self, client):
        client.bucket = "missing"

        assert reason(client.list("prefix=x&maxResults=1")) == (404, "notFound")

    def test_parameters_that_are_no_numbers_are_a_400(self, client):
        assert client.list("maxResults=x").status_code == 400
        assert client.list("pageToken=x").status_code == 400


class TestDelete:
    def test_an_object_is_deleted_once(self, client):
        client.put("a")

        assert client.at("a", method="DELETE").status_code == 204
        answer = client.at("a", method="DELETE")
        assert reason(answer) == (404, "notFound")
        assert answer.json()["error"]["message"] == "No such object: tests/a"

    def test_a_generation_that_was_overwritten_is_not_found(self, client, server):
        old = client.put("a").json()["generation"]
        new = client.put("a").json()["generation"]

        assert client.at("a", f"generation={old}", method="DELETE").status_code == 404
        assert client.at("a", f"ifGenerationMatch={old}", method="DELETE").status_code == 412
        assert client.at("a", f"generation={new}", method="DELETE").status_code == 204
        assert not server.objects()

    def test_what_is_deleted_may_stay_readable(self, client, server):
        server.versioning = True
        generation = client.put("a").json()["generation"]

        client.at("a", method="DELETE")

        assert client.at("a").status_code == 404
        assert client.at("a", f"generation={generation}").status_code == 200

    @pytest.mark.parametrize("hold", ["temporaryHold", "eventBasedHold"])
    def test_a_hold_is_a_403(self, client, hold):
        client.put("a")
        client.at("a", method="PATCH", json={hold: True})

        assert reason(client.at("a", method="DELETE")) == (403, "forbidden")
        answer = client.put("a")
        assert reason(answer) == (403, "forbidden")
        assert "cannot be deleted, overwritten or archived until hold is removed" in answer.text

        client.at("a", method="PATCH", json={hold: False})
        assert client.at("a", method="DELETE").status_code == 204

    def test_retention_is_a_403(self, client, server):
        client.put("a")
        server.retention = timedelta(hours=1)

        answer = client.at("a", method="DELETE")

        assert reason(answer) == (403, "retentionPolicyNotMet")
        assert "retention policy" in answer.json()["error"]["message"]
        server.retention = timedelta(0)
        assert client.at("a", method="DELETE").status_code == 204
