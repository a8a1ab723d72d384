"""Who may do what: tokens, ACLs, buckets, anonymous readers, signed URLs."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from google.auth import crypt, jwt
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from tests.support.servers.gcs import answers_as
from tests.support.servers.gcs.errors import unauthorized
from tests.test_support.gcs.client import reason

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"


@pytest.fixture
def credentials(server):
    return service_account.Credentials.from_service_account_file(
        str(server.credentials_file), scopes=[SCOPE]
    )


@pytest.fixture
def session(credentials):
    with AuthorizedSession(credentials) as session:
        yield session


class TestTokens:
    def test_a_service_account_is_given_one(self, server, session):
        server.anonymous = False

        answer = session.get(f"{server.endpoint_url}/storage/v1/b/tests/o")

        assert answer.status_code == 200
        assert [request.operation for request in server.requests] == ["token", "list"]

    def test_without_one_it_is_a_401(self, server, client):
        server.anonymous = False

        assert reason(client.list()) == (401, "required")

    def test_one_that_was_not_issued_is_a_401(self, client):
        answer = client.at("a", headers={"Authorization": "Bearer made-up"})

        assert answer.status_code == 401
        answer = client.call(
            "GET", "/storage/v1/b/tests/o", headers={"Authorization": "Bearer made-up"}
        )
        assert reason(answer) == (401, "authError")

    def test_one_that_has_expired_is_a_401_once(self, server, session):
        url = f"{server.endpoint_url}/storage/v1/b/tests/o"
        session.get(url)
        server.expire_tokens()

        assert session.get(url).status_code == 200
        operations = [request.operation for request in server.requests]
        assert operations == ["token", "list", "list", "token", "list"]

    def test_a_401_once_can_also_be_a_fault(self, server, client):
        server.fail("list", answers_as(unauthorized()), times=1)

        assert [client.list().status_code for _ in range(2)] == [401, 200]

    def test_the_uri_of_a_session_needs_none(self, server, client):
        uri = client.start("a")
        server.anonymous = False

        assert client.send(uri, "0-3/4", b"1234").status_code == 200
        assert client.list().status_code == 401

    @pytest.mark.parametrize(
        "wrong",
        [
            {"iss": "somebody@else"},
            {"aud": "https://elsewhere.invalid"},
            {"scope": ""},
            {"exp": 1},
            {"exp": time.time() + 10_000},
            {"iat": time.time() + 1000},
        ],
    )
    def test_claims_that_cannot_be_are_a_400(self, server, client, wrong):
        assert self.ask(server, client, {}).status_code == 200
        answer = self.ask(server, client, wrong)

        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_grant"

    def test_another_key_is_a_400(self, server, client):
        answer = self.ask(server, client, {}, tamper=lambda token: token[:-8] + b"AAAAAAAA")

        assert answer.json()["error_description"] == "Invalid JWT Signature."

    def test_another_grant_is_a_400(self, client):
        answer = client.call("POST", "/token", data={"grant_type": "password"})

        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")

    def ask(self, server, client, wrong, tamper=lambda token: token):
        account = json.loads(server.credentials_file.read_text())
        now = int(time.time())
        claims = {
            "iss": account["client_email"],
            "aud": account["token_uri"],
            "scope": SCOPE,
            "iat": now,
            "exp": now + 3600,
        }
        signer = crypt.RSASigner.from_service_account_info(account)
        token = tamper(jwt.encode(signer, {**claims, **wrong}))
        return client.call("POST", "/token", data={"grant_type": GRANT, "assertion": token})


class TestBuckets:
    def create(self, client, query="project=p", **bucket):
        return client.call("POST", f"/storage/v1/b?{query}", json={"name": "new", **bucket})

    def test_a_bucket_is_created_once(self, client, server):
        assert self.create(client, "project=p&predefinedAcl=projectPrivate").status_code == 200
        assert server.buckets["new"].acl == "projectPrivate"
        assert reason(self.create(client)) == (409, "conflict")

    def test_a_bucket_with_uniform_access_has_no_acls(self, client):
        uniform = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}

        assert reason(self.create(client, "project=p&predefinedAcl=private", **uniform)) == (
            400,
            "invalid",
        )
        assert self.create(client, **uniform).status_code == 200
        client.bucket = "new"
        answer = client.put("a", query="predefinedAcl=publicRead")
        assert reason(answer) == (400, "invalid")
        assert "uniform bucket-level access" in answer.text
        assert client.put("a").status_code == 200

    def test_project_and_name_are_needed(self, client):
        assert reason(self.create(client, "")) == (400, "required")
        assert reason(self.create(client, name="A B")) == (400, "invalid")

    def test_asking_for_a_bucket_is_always_a_403(self, client):
        for bucket in ("tests", "missing"):
            answer = client.call("GET", f"/storage/v1/b/{bucket}")
            assert reason(answer) == (403, "forbidden")
            assert "storage.buckets.get" in answer.text

    def test_if_it_is_allowed_the_bucket_is_shown(self, client, server):
        server.allows_get_bucket = True

        assert client.call("GET", "/storage/v1/b/tests").json()["name"] == "tests"
        assert client.call("GET", "/storage/v1/b/missing").status_code == 404

    def test_permissions(self, client, server):
        def ask(*permissions, bucket="tests"):
            query = "&".join(f"permissions={permission}" for permission in permissions)
            return client.call("GET", f"/storage/v1/b/{bucket}/iam/testPermissions?{query}")

        assert ask("a", "b").json()["permissions"] == ["a", "b"]
        server.permissions = {"b", "c"}
        assert ask("a", "b").json()["permissions"] == ["b"]
        assert "permissions" not in ask("a").json()
        assert ask().status_code == 400
        assert reason(ask("a", bucket="missing")) == (404, "notFound")

    def test_a_bucket_can_be_dropped(self, client, server):
        client.put("a")
        server.drop_bucket()

        assert client.at("a").status_code == 404
        assert client.at("a", "alt=media").text == "The specified bucket does not exist."


class TestAcls:
    def test_one_that_does_not_exist_is_a_400(self, client):
        assert reason(client.put("a", query="predefinedAcl=public")) == (400, "invalid")

    def test_one_is_a_400_where_access_is_uniform(self, client, server):
        client.put("source")
        server.uniform_access = True
        body = {"sourceObjects": [{"name": "source"}]}
        query = "destinationPredefinedAcl=publicRead"

        assert reason(client.put("a", query="predefinedAcl=private")) == (400, "invalid")
        assert client.at("a//compose", query, method="POST", json=body).status_code == 400
        assert client.at("a//compose", method="POST", json=body).status_code == 200

    def test_a_public_one_is_a_412_where_public_access_is_prevented(self, client, server):
        server.public_access_prevention = True

        answer = client.put("a", query="predefinedAcl=publicRead&ifGenerationMatch=0")

        assert reason(answer) == (412, "conditionNotMet")
        assert "public access prevention is enforced" in answer.text
        assert client.at("a").status_code == 404
        assert client.put("a", query="predefinedAcl=private").status_code == 200

    def test_full_metadata_has_the_acl(self, client):
        client.put("a", query="predefinedAcl=publicRead")

        entities = [entry["entity"] for entry in client.at("a", "projection=full").json()["acl"]]
        assert "allUsers" in entities
        assert "acl" not in client.at("a").json()


class TestReaders:
    def test_everybody_may_read_what_the_acl_says(self, client):
        client.insert(
            {"name": "a/é", "cacheControl": "max-age=5"}, b"hello", "predefinedAcl=publicRead"
        )

        answer = client.read("a/é")

        assert (answer.status_code, answer.content) == (200, b"hello")
        assert answer.headers["Content-Type"] == "text/plain"
        assert answer.headers["Cache-Control"] == "max-age=5"
        assert client.read("a/é", headers={"Range": "bytes=1-"}).content == b"ello"
        etag = answer.headers["ETag"]
        assert client.read("a/é", headers={"If-None-Match": etag}).status_code == 304
        assert client.read("a/é", headers={"If-Match": '"other"'}).status_code == 412
        changed = {"If-Range": '"other"', "Range": "bytes=1-"}
        assert client.read("a/é", headers=changed).status_code == 200
        head = client.call("HEAD", "/tests/a/%C3%A9")
        assert (head.headers["Content-Length"], head.content) == ("5", b"")

    def test_what_they_may_not_read_is_a_403(self, client, server):
        client.put("a")

        for name in ("a", "missing"):
            answer = client.read(name)
            assert answer.status_code == 403
            assert "<Code>AccessDenied</Code>" in answer.text

    @pytest.mark.parametrize("switch", ["uniform_access", "public_access_prevention"])
    def test_an_acl_is_nothing_where_it_does_not_count(self, client, server, switch):
        client.put("a", query="predefinedAcl=publicRead")
        setattr(server, switch, True)

        assert client.read("a").status_code == 403

    def test_everything_can_be_public_but_not_in_other_buckets(self, client, server):
        server.public_bucket = True
        server.create_bucket("other")
        client.put("a")

        assert client.read("a").status_code == 200
        assert "NoSuchKey" in client.read("missing").text
        client.bucket = "other"
        client.put("a")
        assert client.read("a").status_code == 403

    def test_a_missing_bucket_is_a_404(self, client):
        client.bucket = "missing"

        answer = client.read("a")

        assert (answer.status_code, "NoSuchBucket" in answer.text) == (404, True)

    def test_who_has_a_token_may_read_everything(self, client, server, session):
        client.put("a")

        assert session.get(f"{server.endpoint_url}/tests/a").content == b"content"


class TestSignedUrls:
    @pytest.fixture
    def sign(self, server, credentials, monkeypatch):
        monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        from google.cloud import storage

        library = storage.Client(project=server.project, credentials=credentials)

        def sign(name, seconds=60, **options):
            return (
                library.bucket("tests")
                .blob(name)
                .generate_signed_url(
                    version="v4",
                    expiration=timedelta(seconds=seconds),
                    api_access_endpoint=server.endpoint_url,
                    **options,
                )
            )

        yield sign
        library.close()

    def test_one_reads_what_nobody_else_may(self, client, sign):
        client.put("a/é b", b"hello")

        answer = client.call(
            "GET",
            sign(
                "a/é b",
                response_type="text/x",
                response_disposition='attachment; filename="a b"',
                query_parameters={"response-cache-control": "private, no-store"},
            ),
        )

        assert (answer.status_code, answer.content) == (200, b"hello")
        assert answer.headers["Content-Type"] == "text/x"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="a b"'
        assert answer.headers["Cache-Control"] == "private, no-store"

    def test_ranges_and_conditions(self, client, sign):
        client.put("a", b"hello")
        url = sign("a")
        etag = client.call("GET", url).headers["ETag"]

        assert client.call("GET", url, headers={"Range": "bytes=1-"}).content == b"ello"
        assert client.call("GET", url, headers={"If-None-Match": etag}).status_code == 304

    def test_one_that_has_expired_is_a_400(self, client, sign):
        client.put("a")
        url = sign("a", seconds=1)
        time.sleep(1.1)

        answer = client.call("GET", url)

        assert (answer.status_code, "<Code>ExpiredToken</Code>" in answer.text) == (400, True)

    @pytest.mark.parametrize(
        ("said", "changed"),
        [
            ("X-Goog-Expires=60", "X-Goog-Expires=61"),
            ("/tests/a", "/tests/b"),
            ("response-content-type=text%2Fx", "response-content-type=text%2Fhtml"),
            ("X-Goog-Signature=", "X-Goog-Signature=00"),
        ],
    )
    def test_whatever_is_changed_is_a_403(self, client, sign, said, changed):
        for name in "ab":
            client.put(name)
        url = sign("a", response_type="text/x")
        assert said in url

        answer = client.call("GET", url.replace(said, changed))

        assert answer.status_code == 403
        assert "<Code>SignatureDoesNotMatch</Code>" in answer.text

    def test_the_method_is_signed(self, client, sign):
        client.put("a")

        assert client.call("HEAD", sign("a")).status_code == 403
        assert client.call("HEAD", sign("a", method="HEAD")).status_code == 200

    @pytest.mark.parametrize(
        ("said", "changed"),
        [
            ("X-Goog-Expires=60", "X-Goog-Expires=604801"),
            ("X-Goog-Expires=60", ""),
            ("GOOG4-RSA-SHA256", "GOOG4-HMAC-SHA256"),
            ("goog4_request", "aws4_request"),
        ],
    )
    def test_what_is_malformed_is_a_400(self, client, sign, said, changed):
        client.put("a")

        answer = client.call("GET", sign("a").replace(said, changed))

        assert answer.status_code == 400

    def test_a_missing_object_is_a_404(self, client, sign):
        answer = client.call("GET", sign("a"))

        assert (answer.status_code, "<Code>NoSuchKey</Code>" in answer.text) == (404, True)
