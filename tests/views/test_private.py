"""Private files: where they are stored, and whose records may show them."""

from __future__ import annotations

from pathlib import Path

import pytest
import transaction

from kinto_attachment.attachments.lookup import FILES
from tests.support.batch import batch
from tests.support.inventory import Bucket
from tests.support.tus import begin

pytestmark = pytest.mark.both_storages

READ = {"read": ["system.Authenticated"]}


@pytest.fixture
def private_settings(stored):
    return {**stored.private_settings, "private": "true"}


@pytest.fixture
def make_private(make_record, private_settings):
    """``make_private(randomize="false")``: a record of a Kinto whose files are private."""

    def make(attachment=None, **settings):
        return make_record(attachment={**private_settings, **(attachment or {})}, **settings)

    return make


@pytest.fixture
def record(make_private):
    """A record with a private file, that only alice can read."""
    record = make_private()
    record.attach()
    return record


@pytest.fixture
def shared(record):
    """A collection where everybody may create records."""
    permissions = {"record:create": ["system.Everyone"]}
    record.app.put_json("/v1/buckets/b/collections/shared", {"permissions": permissions})
    return record.other("copy", "shared")


def metadata_of(record):
    return {"data": {"attachment": record.data["attachment"]}}


def name_of(record):
    return record.data["attachment"]["location"].removeprefix("https://files.example.org/")


class TestWhereItIsStored:
    def test_under_a_random_name_in_the_private_store(self, record, stored):
        (name,) = stored.names()

        assert name.startswith("_private/")
        assert name_of(record) == name
        assert record.content == b"content"

    def test_also_if_files_should_keep_their_names(self, make_private, stored):
        pattern = {"randomize": "false", "filename_pattern": "{rid}", "folder": "{bucket_id}"}
        record = make_private(pattern)

        record.attach(filename="plan.txt")

        (name,) = stored.names()
        assert name.startswith("_private/b/")
        assert "plan" not in name
        assert record.app.registry.attachment_settings.is_random(name)

    def test_a_pattern_keeps_its_random_part(self, make_private):
        record = make_private({"randomize": "false", "filename_pattern": "{rid}-{filename}"})

        record.attach()

        name = name_of(record)
        assert name.startswith("_private/r-")
        assert record.app.registry.attachment_settings.is_random(name)

    def test_in_several_requests(self, make_private, stored):
        record = make_private()
        upload = begin(record, 7)
        assert [name.startswith("_private/.") for name in stored.names()] == [True]
        upload.patch(0, b"con")
        upload.patch(3, b"tent")

        assert record.content == b"content"
        assert stored.names() == [name_of(record)]

    def test_a_collection_may_be_private_alone(self, make_record, private_settings, stored):
        attachment = {**private_settings, "private": "false", "resources.b.c.private": "true"}
        record = make_record(attachment=attachment)
        record.app.put_json("/v1/buckets/b/collections/public", {})
        public = record.other("r", "public")
        record.attach()
        public.attach()

        assert name_of(record).startswith("_private/")
        assert not name_of(public).startswith("_private/")

    def test_it_goes_as_a_public_one_does(self, record, stored):
        record.attach(b"new")
        assert len(stored.names()) == 1
        record.detach()
        assert stored.names() == []

    @pytest.mark.parametrize(("where", "backend"), [("moto", "memory")])
    def test_no_object_has_an_acl(self, record, moto):
        [key] = moto.keys(moto.private_bucket)

        acl = moto.admin.get_object_acl(Bucket=moto.private_bucket, Key=key)

        assert [each["Permission"] for each in acl["Grants"]] == ["FULL_CONTROL"]
        assert acl["Grants"][0]["Grantee"]["Type"] == "CanonicalUser"

    def test_its_row_says_so(self, record):
        (row,) = record.inventory._objects(FILES).values()
        assert row["private"] is True

    @pytest.mark.parametrize("backend", ["postgresql"])
    def test_the_capability_tells_how_names_begin(self, record, make_record):
        root = record.app.get("/v1/").json
        assert root["capabilities"]["attachments"]["private"] == "_private/"
        root = make_record().app.get("/v1/").json
        assert "private" not in root["capabilities"]["attachments"]

    @pytest.mark.parametrize("backend", ["postgresql"])
    def test_a_setting_that_changes_leaves_it_where_it_is(self, record, make_record, stored):
        record.attach()
        public = make_record(attachment=stored.private_settings)

        assert public.data["attachment"] == record.data["attachment"]
        public.attach(b"new")
        assert [name.startswith("_private/") for name in stored.names()] == [False]


@pytest.mark.usefixtures("where")
class TestCopies:
    def test_whoever_may_read_the_record_may_copy_it(self, record, shared):
        metadata = metadata_of(record)
        record.app.patch_json(record.path, {"permissions": READ})
        bob = record.app.as_user("bob")

        bob.put_json(shared.path, metadata, status=201)

        record.detach()
        assert bob.get(shared.path).json == bob.get(shared.path).json
        assert len(record.files()) == 1

    @pytest.mark.parametrize("user", ["bob", None])
    @pytest.mark.parametrize("method", ["put", "post"])
    def test_nobody_else_does(self, record, shared, user, method):
        path = shared.path if method == "put" else shared.path.rpartition("/")[0]
        stranger = record.app.as_user(user)

        answer = getattr(stranger, f"{method}_json")(path, metadata_of(record), status="4*")

        assert answer.status_code == (401 if user is None else 403)
        assert "attachment" not in answer.text
        if method == "put":
            check_that_it_holds_nothing(shared)

    @pytest.mark.leaves("a record with plain data that names a file of ours")
    def test_metadata_that_differs_is_plain_data(self, record, shared):
        forged = {"data": {"attachment": {**record.data["attachment"], "hash": "0" * 64}}}

        record.app.as_user("bob").put_json(shared.path, forged, status=201)

        assert record.inventory._objects(FILES)[record_key(record)]["holders"] == [record.uri]

    def test_what_a_plugin_has_written_without_an_event_keeps_it_readable(self, record):
        attachment, other = record.data["attachment"], record.other()
        other.create()
        key = {"parent_id": "/buckets/b/collections/c", "object_id": "other"}
        with transaction.manager:
            storage = record.app.registry.storage
            storage.update(resource_name="record", **key, obj={"attachment": attachment})

        record.detach()

        assert other.app.get(other.endpoint).body == b"content"
        other.detach()
        assert record.files() == []

    @pytest.mark.leaves("a record with plain data that names a file of ours")
    def test_plain_data_keeps_it_and_reads_nothing(self, record, shared):
        """A former reader who knows all about it is no reader by a record of their own."""
        attachment = record.data["attachment"]
        name = name_of(record)
        elsewhere = {"data": {"attachment": {**attachment, "location": f"https://x.org/{name}"}}}
        bob = record.app.as_user("bob")
        bob.put_json(shared.path, elsewhere, status=201)

        record.detach()

        assert record.files() == [name]
        assert record.inventory.kept() == [name]
        bob.get(f"/v1/attachments/{name}", status=404)
        bob.get(shared.endpoint, status=404)

    def test_a_group_may_read_it(self, record, shared):
        metadata = metadata_of(record)
        bob = record.app.as_user("bob")
        record.app.put_json("/v1/buckets/b/groups/readers", {"data": {"members": [bob.userid]}})
        permissions = {"read": ["/buckets/b/groups/readers"]}
        record.app.patch_json("/v1/buckets/b/collections/c", {"permissions": permissions})

        bob.put_json(shared.path, metadata, status=201)

    def test_the_settings_may_let_somebody_read_every_record(self, make_private):
        record = make_private(**{"kinto.record_read_principals": "system.Authenticated"})
        record.attach()
        permissions = {"record:create": ["system.Authenticated"]}
        record.app.put_json("/v1/buckets/b/collections/shared", {"permissions": permissions})
        copy = record.other("copy", "shared")

        record.app.as_user("bob").put_json(copy.path, metadata_of(record), status=201)

    @pytest.mark.parametrize("delete_first", [True, False])
    def test_it_may_be_moved_in_a_batch(self, record, shared, delete_first):
        metadata = metadata_of(record)
        bob = record.app.as_user("bob")
        permissions = {"write": [bob.userid]}
        record.app.patch_json(record.path, {"permissions": permissions})
        requests = [
            ("DELETE", record.path),
            ("PUT", shared.path, metadata),
        ]

        answers = batch(bob, *(requests if delete_first else reversed(requests)))

        assert sorted(answers) == [200, 201]
        assert len(record.files()) == 1
        assert name_of(shared) == record.files()[0]

    def test_a_batch_that_only_reads_elsewhere_moves_nothing(self, record, shared):
        bob = record.app.as_user("bob")
        metadata = metadata_of(record)
        requests = [
            ("GET", record.path),
            ("PUT", shared.path, metadata),
        ]

        batch(bob, *requests, status=403)

        check_that_it_holds_nothing(shared)

    def test_a_publishing_plugin_is_not_asked(self, make_private):
        includes = "kinto.plugins.default_bucket kinto_attachment tests.plugins.publishing_records"
        record = make_private(**{"kinto.includes": includes})
        record.attach()
        permissions = {"record:create": ["system.Everyone"]}
        record.app.put_json("/v1/buckets/b/collections/shared", {"permissions": permissions})
        copy, bob = record.other("copy", "shared"), record.app.as_user("bob")

        bob.put_json(copy.path, metadata_of(record), headers={"Publish": "1"}, status=201)

    def test_a_plugin_that_publishes_in_its_own_name_keeps_that(self, make_private):
        """Who has sent the request is asked for. Asked for the principals of the plugin's request,
        Kinto would give it another user."""
        includes = "kinto_attachment tests.plugins.publishing_as_itself"
        record = make_private(**{"kinto.includes": includes})
        record.app.put_json("/v1/buckets/b/collections/published", {})
        record.attach()
        published = record.other("r", "published")
        assert published.data["attachment"] == record.data["attachment"]
        assert set(record.app.registry.published_by) == {("plugin:signer", "plugin:signer")}


class TestKeptFiles:
    """Nobody shows it any more: it comes back for those who may read where it was."""

    @pytest.fixture
    def metadata(self, make_private):
        self.record = make_private({"keep_old_files": "true"})
        self.record.attach()
        metadata = metadata_of(self.record)
        self.record.detach()
        return metadata

    def test_it_comes_back(self, metadata):
        self.record.app.patch_json(self.record.path, metadata)

        assert self.record.content == b"content"

    def test_it_comes_back_for_readers_of_its_collection_alone(self, metadata):
        bob = self.record.app.as_user("bob")
        create = {"record:create": [bob.userid]}
        self.record.app.put_json("/v1/buckets/b/collections/shared", {"permissions": create})
        copy = self.record.other("copy", "shared")
        bob.put_json(copy.path, metadata, status=403)

        permissions = {"read": [bob.userid]}
        self.record.app.patch_json("/v1/buckets/b/collections/c", {"permissions": permissions})

        copy = self.record.other("another", "shared")
        bob.put_json(copy.path, metadata, status=201)


def check_that_it_holds_nothing(record):
    """It does not exist, or has no attachment where nothing rolls back."""
    answer = record.app.get(record.path, status="*")
    assert answer.status_code == 404 or "attachment" not in answer.json["data"]


def record_key(record):
    ((key, _),) = record.inventory._objects(FILES).items()
    return key


def test_the_private_folder_is_made_by_the_first_upload(record, stored):
    if not isinstance(stored, Bucket):
        assert isinstance(stored.private, Path)
        assert stored.private.is_dir()
