"""What the plugin takes of Kinto beyond what Kinto documents: each assumption by its name, why it
is needed, and a check that a Kinto which breaks it does not pass.

The checks run Kinto without the plugin. One that fails names the files of the plugin to look at.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import colander
import pytest
import transaction
from kinto.authorization import RouteFactory, _inherited_permissions
from kinto.core import Service, metrics
from kinto.core.authorization import DYNAMIC
from kinto.core.cornice.errors import Errors
from kinto.core.cornice.validators import colander_validator
from kinto.core.cornice_swagger.converters.schema import TypeConverter
from kinto.core.errors import json_error_handler, raise_invalid
from kinto.core.events import (
    ACTIONS,
    AfterResourceChanged,
    ResourceChanged,
    notify_resource_event,
)
from kinto.core.initialization import load_default_settings
from kinto.core.openapi import OpenAPI
from kinto.core.resource.model import Model
from kinto.core.resource.schema import HeaderSchema
from kinto.core.resource.viewset import ViewSet
from kinto.core.schema import HeaderQuotedInteger
from kinto.core.scripts import migrate
from kinto.core.storage import exceptions, memory
from kinto.core.utils import build_request, native_value, prefixed_principals, sqlalchemy
from kinto.core.views.openapi import openapi_view
from kinto.events import ServerFlushed
from kinto.plugins.default_bucket import create_bucket, create_collection
from kinto.plugins.prometheus import PrometheusService
from kinto.plugins.statsd import StatsDService
from kinto.views import raise_404_if_invalid_id, records
from pyramid.config import Configurator
from pyramid.events import BeforeRender, ContextFound
from pyramid.httpexceptions import HTTPBadRequest, HTTPForbidden, HTTPNotFound
from pyramid.request import Request
from pyramid.response import Response
from pyramid.scripting import prepare

from tests.conftest import KintoApp
from tests.support import probe
from tests.support.probe import listening

PACKAGE = Path(__file__).parents[1] / "kinto_attachment"

# Names that Kinto documents: https://docs.kinto-storage.org/en/latest/core/ and, for plugins,
# https://docs.kinto-storage.org/en/latest/tutorials/write-plugin.html
DOCUMENTED = {
    "kinto.core.Service",
    "kinto.core.errors.ERRORS",
    "kinto.core.errors.http_error",
    "kinto.core.events.ACTIONS",
    "kinto.core.events.ResourceChanged",
    "kinto.core.resource.schema.ErrorResponseSchema",
    "kinto.core.resource.schema.ResponseHeaderSchema",
    "kinto.core.storage.Filter",
    "kinto.core.storage.Sort",
    "kinto.core.storage.exceptions.BackendError",
    "kinto.core.storage.exceptions.IntegrityError",
    "kinto.core.storage.exceptions.ObjectNotFoundError",
    "kinto.core.utils.COMPARISON",
    "kinto.core.utils.instance_uri",
    "kinto.core.utils.json",
    "kinto.core.utils.msec_time",
}

COLLECTION = "/buckets/b/collections/c"
RECORD = f"{COLLECTION}/records/r"

CHECKED: dict[str, tuple[str, ...]] = {}
"""The assumptions by name, with the files of the package that make them."""

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"])
on_both_backends = pytest.mark.parametrize("backend", ["memory", "postgresql"])


def assumed(*names: str, by: str | tuple[str, ...], why: str) -> Callable[[Any], Any]:
    """The test checks what its docstring says of ``names``, which the files ``by`` need because
    ``why``."""
    files = (by,) if isinstance(by, str) else by
    CHECKED.update(dict.fromkeys(names, files))

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(check)
        def checked(*arguments: Any, **named: Any) -> None:
            try:
                check(*arguments, **named)
            except (Exception, pytest.fail.Exception) as error:
                raise AssertionError(
                    f"Kinto {version('kinto')} breaks what the plugin assumes of"
                    f" {', '.join(names)}: {inspect.cleandoc(check.__doc__ or '')}"
                    f" It is needed because {why}. Look at"
                    f" {', '.join(f'kinto_attachment/{name}' for name in files)}."
                ) from error

        return checked

    return decorate


@pytest.fixture
def backend() -> str:
    """Most of it is the same whatever the backend."""
    return "memory"


@pytest.fixture
def app(make_app: Callable[..., KintoApp]) -> KintoApp:
    """Kinto without the plugin, with a collection."""
    plugins = f"kinto.plugins.default_bucket kinto.plugins.flush {probe.__name__}"
    app = make_app(**{"kinto.includes": plugins})
    app.put_json("/v1/buckets/b", {})
    app.put_json(f"/v1{COLLECTION}", {})
    app.registry.probed.clear()
    return app


def within(app: KintoApp, look: Callable[[Any], Any]) -> Any:
    """What ``look(request)`` returns in a view below the record, which need not exist."""
    return probe.within(app, RECORD, look)


def records_in(request: Any) -> Any:
    storage = request.registry.storage
    return storage.list_all(resource_name="record", parent_id=COLLECTION)


# Writing a record


class Record(records.Record):
    """As attachments/record.py has it."""

    timestamp = None


class Context:
    """All that ``Record`` asks of its context for a PUT or PATCH."""

    resource_name = "record"
    shared_ids = None
    current_object: dict[str, Any] | None = None

    def get_permission_object_id(self, request: Any, object_id: str | None = None) -> str:
        return RECORD


# What the clone of a request is given, beside what build_request() takes over.
ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "authn_type": lambda request: request.authn_type,
    "selected_userid": lambda request: request.selected_userid,
    "matchdict": lambda request: dict(request.matchdict),
    "matched_route": lambda request: request.matched_route,
    "prefixed_principals": lambda request: request.prefixed_principals,
    "response": lambda request: request.response,
    "current_resource_name": lambda request: "record",
    "validated": lambda request: {},
    "info": lambda request: {},
    "errors": lambda request: Errors(),
}


def clone_of(request: Any, method: str, body: Any, without: str = "") -> Any:
    """A request of its own for ``Record``, made as attachments/record.py does."""
    headers = {"Response-Behavior": "full"}
    spec = {"method": method, "path": RECORD, "headers": headers, "body": body}
    clone = build_request(request, spec)
    for name, value in ATTRIBUTES.items():
        if name != without:
            setattr(clone, name, value(request))
    schema = ViewSet().get_view_arguments("object", records.Record, method)["schema"]
    parts = {"body": body, "header": dict(clone.headers), "querystring": {}}
    colander_validator(clone, schema=schema, deserializer=lambda clone: parts)
    return clone


def outcome_of(request: Any, without: str = "") -> list[Any]:
    """What a write and a refusal lead to, as far as a client or another plugin sees."""
    outcome: list[Any] = []
    try:
        clone = clone_of(request, "PUT", {"data": {"title": "new"}}, without)
        written = Record(clone, context=Context()).put()
        (event,) = request.get_resource_events()
        outcome += [written["permissions"], event.payload["user_id"], event.payload["record_id"]]
        outcome += [request.response.status_code, "ETag" in request.response.headers]
        # Refused later than the schema would: as Record.process_object() does.
        clone.headers["Origin"] = "https://example.org"
        raise_invalid(clone, name="data", description="refused")
    except HTTPBadRequest as refusal:
        return [*outcome, sorted(refusal.headers), refusal.json["message"]]
    except (AttributeError, TypeError) as error:
        return [*outcome, repr(error)]


@assumed(
    "kinto.views.records",
    "kinto.core.utils.build_request",
    by="attachments/record.py",
    why="a file's record is written by Kinto's own code, from a small request of its own",
)
def test_a_record_is_written_from_a_clone_with_ten_attributes(app):
    """Record(clone, context).put() writes as a PUT does, and tells the request's response."""
    *written, _, message = within(app, outcome_of)

    write = [app.userid]
    assert written == [{"write": write}, app.userid, "r", 201, True]
    assert message == "data in body: refused"
    assert app.get(f"/v1{RECORD}").json["data"]["title"] == "new"


@pytest.mark.parametrize("attribute", [name for name in ATTRIBUTES if "principals" not in name])
@assumed(
    "request.authn_type",
    "request.selected_userid",
    "request.matchdict",
    "request.matched_route",
    "request.response",
    "request.current_resource_name",
    "request.validated",
    "request.info",
    "request.errors",
    by="attachments/record.py",
    why="a clone that is never sent lacks what the router and cornice set",
)
def test_each_of_the_attributes_is_read(app, attribute):
    """Without one of them a write or its refusal is another (if not: it need not be set)."""
    whole = within(app, outcome_of)
    app.delete(f"/v1{RECORD}")

    assert within(app, functools.partial(outcome_of, without=attribute)) != whole


@assumed(
    "request.prefixed_principals",
    by=("attachments/record.py", "attachments/authorization.py"),
    why="the clone must not authenticate the user again",
)
def test_principals_that_are_set_are_those_of_the_model(app):
    """It can be set on a request, and Record hands it to its model."""

    def look(request: Any) -> Any:
        clone = clone_of(request, "PUT", {"data": {}})
        clone.prefixed_principals = ["somebody"]
        return Record(clone, context=Context()).model.prefixed_principals

    assert within(app, look) == ["somebody"]


@assumed(
    "kinto.views.records.Record.timestamp",
    by="attachments/record.py",
    why="the collection's timestamp is a write, which locks out other uploads to the collection",
)
def test_the_timestamp_is_an_attribute_that_only_the_constructor_reads(app):
    """It is asked for once, by the constructor, so that a subclass can leave it out."""
    asked = []

    class Watched(records.Record):
        @property
        def timestamp(self) -> None:
            asked.append(inspect.stack()[1].function)

    def look(request: Any) -> None:
        Watched(clone_of(request, "PUT", {"data": {}}), context=Context()).put()

    within(app, look)
    assert asked == ["__init__"]


@assumed(
    "kinto.core.resource.model.Model",
    "kinto.views.records.Record.default_model",
    by="attachments/record.py",
    why="an upload must not ask for the collection's timestamp, nor for permissions to answer",
)
@on_both_backends
def test_a_model_may_know_the_timestamp_and_leave_out_the_permissions(app):
    """Record makes its default_model; put() writes by create_object() and update_object(), the
    event has what timestamp() returns, and _annotate() adds the permissions to an answer only.
    Right after a write, the timestamp of the collection is that of the record."""

    class Watched(Model):
        def timestamp(self, parent_id: str | None = None) -> int:
            assert super().timestamp(parent_id) == self.written
            return 5

        def create_object(self, obj: Any, parent_id: str | None = None) -> Any:
            return self.remember(super().create_object(obj, parent_id))

        def update_object(self, obj: Any, parent_id: str | None = None) -> Any:
            return self.remember(super().update_object(obj, parent_id))

        def remember(self, written: Any) -> Any:
            self.written = written["last_modified"]
            return written

        def _annotate(self, obj: Any, perm_object_id: str) -> Any:
            return {**obj, self.permissions_field: {}}

    class WatchedRecord(Record):
        default_model = Watched

    def look(request: Any) -> Any:
        for number in range(2):
            clone = clone_of(request, "PUT", {"data": {"n": number}})
            answer = WatchedRecord(clone, context=Context()).put()
        permissions = request.registry.permission.get_object_permissions(RECORD)
        timestamps = [event.payload["timestamp"] for event in request.get_resource_events()]
        return answer["permissions"], permissions, timestamps

    assert within(app, look) == ({}, {"write": {app.userid}}, [5, 5])


@assumed(
    "kinto.views.records.Record._get_object_or_404",
    by="attachments/record.py",
    why="the record was read under a lock: another look would be a question to the database",
)
def test_the_existing_record_comes_from_one_method(app):
    """put() and patch() take from it the record that exists; its 404 means that there is none."""
    existing = {"id": "r", "last_modified": 5, "title": "from the method"}

    class Existing(Record):
        def _get_object_or_404(self, object_id: str) -> Any:
            return {**existing}

    class Missing(Record):
        def _get_object_or_404(self, object_id: str) -> Any:
            raise HTTPNotFound()

    def look(request: Any) -> Any:
        created = Missing(clone_of(request, "PUT", {"data": {"n": 1}}), context=Context()).put()
        request.response.status_code = 200
        clone = clone_of(request, "PATCH", {"data": {"n": 2}})
        return created, Existing(clone, context=Context()).patch()

    created, patched = within(app, look)
    assert created["data"]["n"] == 1
    assert (patched["data"]["title"], patched["data"]["n"]) == ("from the method", 2)


@assumed(
    "Record.context.current_object",
    by="attachments/record.py",
    why="the record that was read under the lock is the one that is written",
)
def test_the_contexts_object_is_the_record_that_exists(app):
    """A current_object takes the place of a look into the storage."""

    def look(request: Any) -> Any:
        context = Context()
        context.current_object = {"id": "r", "last_modified": 5, "title": "from the context"}
        clone = clone_of(request, "PATCH", {"data": {"n": 2}})
        return Record(clone, context=context).patch()["data"]["title"]

    assert within(app, look) == "from the context"


@assumed(
    'request.bound_data["collections"]',
    by=("attachments/record.py", "attachments/authorization.py"),
    why="the collection was read under the lock, and what was remembered before may be old",
)
def test_record_takes_its_collection_from_bound_data(app):
    """Record validates with the collection that stands there under its URI, and asks no more."""

    def look(request: Any) -> None:
        schema = {"type": "object", "required": ["missing"]}
        request.bound_data["collections"] = {COLLECTION: {"id": "c", "schema": schema}}
        clone = clone_of(request, "PUT", {"data": {}})
        Record(clone, context=Context()).process_object({"title": "x"})

    with pytest.raises(HTTPBadRequest):
        within(app, look)


@assumed(
    "kinto.views.records.Record.process_object",
    by="attachments/record.py",
    why="a record that Kinto will refuse is refused before its file is received",
)
def test_process_object_writes_nothing(app):
    """It validates and returns the record, and leaves storage and events alone."""

    def look(request: Any) -> Any:
        resource = Record(clone_of(request, "PATCH", {"data": {}}), context=Context())
        return resource.process_object({"title": "x"}, None), [*request.get_resource_events()]

    assert within(app, look) == ({"title": "x"}, [])
    assert within(app, records_in) == []


@assumed(
    "kinto.core.resource.viewset.ViewSet",
    "kinto.core.cornice.validators.colander_validator",
    "kinto.core.cornice.errors.Errors",
    "kinto.core.errors.json_error_handler",
    by="attachments/record.py",
    why="data and permissions beside a file are validated as those of a PUT, without routing one",
)
def test_the_schema_of_a_record_is_had_from_the_viewset(app):
    """get_view_arguments("object", Record, method)["schema"] validates a request's parts into
    ``validated``; what is wrong is added to ``errors``, from which json_error_handler() makes a
    400."""

    def look(request: Any) -> Any:
        fine = clone_of(request, "PUT", {"data": {"a": 1}, "permissions": {"read": ["x"]}})
        wrong = clone_of(request, "PUT", {"permissions": {"fly": ["x"]}})
        return fine.errors, fine.validated, json_error_handler(wrong)

    errors, validated, refusal = within(app, look)
    assert not errors
    assert validated["body"] == {"data": {"a": 1}, "permissions": {"read": ["x"]}}
    assert validated["header"]["Response-Behavior"] == "full"
    assert validated["querystring"] == {}
    assert refusal.status_code == refusal.json["code"] == 400
    assert "fly" in refusal.json["message"]


@assumed(
    "kinto.core.utils.build_request (its environ)",
    "request.parent",
    "request.bound_data",
    by=("attachments/record.py", "views/default_bucket.py", "database/transactions.py"),
    why="a clone must not hold the upload, and what is remembered for a batch is shared with it",
)
def test_a_built_request_shares_nothing_of_the_body(app):
    """It has a body of its own, the original as ``parent``, and the original's ``bound_data``."""

    def look(request: Any) -> Any:
        clone = build_request(request, {"method": "PUT", "path": RECORD, "body": {"data": {}}})
        assert clone.environ["wsgi.input"] is not request.environ["wsgi.input"]
        assert clone.parent is request
        assert clone.bound_data is request.bound_data
        assert clone.headers["Authorization"] == request.headers["Authorization"]
        assert getattr(request, "parent", None) is None
        return clone.path, clone.json

    assert within(app, look) == (f"/v1{RECORD}", {"data": {}})


# Permissions


class WriteContext(RouteFactory):
    """As attachments/authorization.py has it."""

    resource_name = "record"
    permission_object_id = RECORD
    required_permission = "write"


@assumed(
    "kinto.authorization.RouteFactory",
    "kinto.core.authorization.DYNAMIC",
    by="attachments/authorization.py",
    why="an attachment needs the permissions of its record, and Kinto's own policy decides",
)
@pytest.mark.parametrize(
    ("required", "of_object", "allowed"),
    [
        ("write", RECORD, True),
        ("write", "/buckets/b/collections/other/records/r", True),
        ("write", "/buckets/other/collections/c/records/r", False),
        ("create", f"{COLLECTION}/records", True),
        ("create", "/buckets/other/collections/c/records", False),
        ("read", f"{COLLECTION}/records/none", True),
        ("read", "/buckets/other/collections/c/records/r", False),
    ],
)
def test_permission_follows_from_three_attributes_of_the_context(
    app, required, of_object, allowed
):
    """A context's resource_name, permission_object_id and required_permission are what the policy
    looks at, with what the parents grant; a service of its own sets none of them."""

    def look(request: Any) -> Any:
        context = WriteContext(request)
        context.required_permission, context.permission_object_id = required, of_object
        return bool(request.has_permission(DYNAMIC, context))

    assert within(app, look) is allowed


@assumed(
    "RouteFactory.get_prefixed_principals",
    "RouteFactory.check_permission",
    by="attachments/authorization.py",
    why="groups are asked for again after an upload, and a default bucket may be missing",
)
def test_a_context_answers_for_principals_and_permission(app):
    """The policy takes both from the context, and check_permission has the last word."""

    class Answering(WriteContext):
        def check_permission(self, principals: Any, bound_perms: Any) -> bool:
            self.asked = principals, bound_perms
            return True

    def look(request: Any) -> Any:
        context = Answering(request)
        context.permission_object_id = "/buckets/other/collections/c/records/r"
        context.get_prefixed_principals = lambda: ["somebody"]
        return request.has_permission(DYNAMIC, context), context.asked

    allowed, (principals, bound_perms) = within(app, look)
    assert allowed
    assert principals == ["somebody"]
    assert ("/buckets/other", "write") in bound_perms


@assumed(
    'request.bound_data["..._principals"]',
    "registry.permission.get_user_principals",
    by="attachments/authorization.py",
    why="whoever was taken out of a group during an upload may not write any more",
)
def test_groups_are_remembered_for_a_request(app):
    """The groups of a user stand there under the user's id, and are among the principals."""
    app.put_json("/v1/buckets/b/groups/g", {"data": {"members": [app.userid]}})

    def look(request: Any) -> Any:
        user_id = request.prefixed_userid
        return (
            set(request.bound_data[f"{user_id}_principals"]),
            set(request.registry.permission.get_user_principals(user_id)),
            set(request.prefixed_principals),
        )

    remembered, now, principals = within(app, look)
    assert remembered == now == {"/buckets/b/groups/g"}
    assert principals >= {"/buckets/b/groups/g", app.userid}


@assumed(
    "request.prefixed_userid (of nobody)",
    by=("attachments/authorization.py", "tus/views.py", "views/default_bucket.py"),
    why="an upload is its user's, be it nobody's",
)
def test_an_anonymous_user_has_no_id(app):
    """It is None, and a forbidden view's answer is a 401."""
    nobody = app.as_user(None)

    def refuse(request: Any) -> Any:
        raise HTTPForbidden()

    assert within(nobody, lambda request: request.prefixed_userid) is None
    app.registry.probe = refuse
    nobody.post(f"/v1{RECORD}/probe", status=401)
    app.post(f"/v1{RECORD}/probe", status=403)


@assumed(
    "kinto.views.raise_404_if_invalid_id",
    "registry.id_generators",
    by="attachments/authorization.py",
    why="an id becomes a part of a file's name",
)
def test_ids_are_matched_by_generators(app):
    """Each resource's generator, or that under an empty name, matches the ids that may be; so
    there is none with a NUL, which takes the place of a line break."""

    def look(request: Any) -> Any:
        generators = request.registry.id_generators
        assert generators.get("record", generators[""]).match("r")
        assert not generators.get("record", generators[""]).match("r\0")
        raise_404_if_invalid_id(request, "collection", "c")
        raise_404_if_invalid_id(request, "collection", "c\0")

    with pytest.raises(HTTPNotFound):
        within(app, look)


# The default bucket


@assumed(
    "kinto.plugins.default_bucket.create_bucket",
    "kinto.plugins.default_bucket.create_collection",
    'request.bound_data["buckets"]',
    "request.default_bucket_id",
    by=("views/default_bucket.py", "attachments/authorization.py"),
    why="bucket and collection of an upload are created once its file is there",
)
def test_bucket_and_collection_are_created_unless_they_are_remembered(app):
    """Both functions create what is neither there nor remembered, from ``matchdict["subpath"]``,
    and tell of it in events."""

    def look(event: Any) -> Any:
        request = event.request
        if request.matched_route.name != "default_bucket_collection":
            return None
        _ = request.authenticated_userid
        bucket_id = request.default_bucket_id
        request.bound_data["buckets"] = {bucket_id: {}}
        request.bound_data["collections"] = {f"/buckets/{bucket_id}/collections/c": {}}
        create_bucket(request, bucket_id)
        create_collection(request, bucket_id)
        assert [*request.get_resource_events()] == []
        request.bound_data.clear()
        create_bucket(request, bucket_id)
        create_collection(request, bucket_id)
        created = [
            (each.payload["resource_name"], each.payload["action"])
            for each in request.get_resource_events()
        ]
        return created, app.registry.storage.get("bucket", "", bucket_id)["id"] == bucket_id

    with listening(app, ContextFound, look) as seen:
        app.post_json("/v1/buckets/default/collections/c/records", {})

    assert seen[0] == ([("bucket", "create"), ("collection", "create")], True)


@assumed(
    'the route "default_bucket_collection"',
    'settings["includes"]',
    by="views/default_bucket.py",
    why="the plugin's own view of it streams, where Kinto's reads the whole body",
)
def test_the_alias_is_a_route_to_which_a_view_can_be_added(app):
    """What is below /buckets/default/ has that route, and the plugin stands among the includes."""
    with listening(app, ContextFound, lambda event: event.request.matched_route.name) as names:
        app.post_json("/v1/buckets/default/collections/c/records", {})

    assert names[0] == "default_bucket_collection"
    assert "kinto.plugins.default_bucket" in app.registry.settings["includes"]


# Events


@assumed(
    "ResourceChanged.payload",
    "ResourceChanged.impacted_objects",
    by="listeners/changes.py",
    why="an event says which records to look at",
)
@pytest.mark.parametrize(
    ("method", "path", "behaviour"),
    [
        ("PUT", RECORD, "full"),
        ("PATCH", RECORD, "full"),
        ("PATCH", RECORD, "light"),
        ("DELETE", RECORD, "full"),
        ("DELETE", f"{COLLECTION}/records", "full"),
    ],
)
def test_an_event_names_its_records(app, method, path, behaviour):
    """It has the ids of bucket and collection, and of each record in ``new`` or ``old``."""
    app.put_json(f"/v1{RECORD}", {"data": {"n": 1}})

    def hear(event: Any) -> Any:
        changes = event.impacted_objects
        ids = {(each.get("new") or {}).get("id") or each["old"]["id"] for each in changes}
        return event.payload["bucket_id"], event.payload["collection_id"], ids

    with listening(app, ResourceChanged, hear) as heard:
        app.request(
            f"/v1{path}",
            method=method,
            body=b"" if method == "DELETE" else b'{"data": {"n": 2}}',
            headers={"Response-Behavior": behaviour, "Content-Type": "application/json"},
        )

    assert heard == [("b", "c", {"r"})]


@assumed(
    "the order of subscribers",
    by="listeners/changes.py",
    why="files of a deleted collection are found through its records, which Kinto removes",
)
@on_both_backends
def test_a_plugin_hears_of_a_deleted_collection_before_its_records_go(app):
    """A subscriber that a plugin adds is called before Kinto's own removes the children."""
    app.put_json(f"/v1{RECORD}", {"data": {}})

    app.delete(f"/v1{COLLECTION}")

    assert app.registry.probed == ["r"]
    app.put_json(f"/v1{COLLECTION}", {})
    assert app.get(f"/v1{COLLECTION}/records").json["data"] == []


@assumed(
    "kinto.core.events.notify_resource_event",
    "request.get_resource_events",
    'request.bound_data["resource_events"]',
    by="commands/edits.py",
    why="a command that changes records tells other plugins, as a request would",
)
def test_events_are_told_outside_of_a_request_from_a_client(app):
    """On a blank request events are collected; get_resource_events() yields each once before the
    commit, and once more with ``after_commit``."""
    request = Request.blank(f"/{app.registry.route_prefix}{COLLECTION}/records")
    request.matchdict = {}
    request.authn_type, request.selected_userid = "plugin", "kinto-attachment"
    record = {"id": "r", "last_modified": 5}
    with prepare(request, app.registry):
        notify_resource_event(
            request,
            COLLECTION,
            5,
            record,
            ACTIONS.UPDATE,
            old=record,
            resource_name="record",
            resource_data={"bucket_id": "b", "collection_id": "c"},
        )
        assert "resource_events" in request.bound_data
        (before,) = request.get_resource_events()
        (after,) = request.get_resource_events(after_commit=True)

    assert isinstance(before, ResourceChanged)
    assert isinstance(after, AfterResourceChanged)
    for event in (before, after):
        assert event.impacted_objects == [{"new": record, "old": record}]
        assert event.payload["user_id"] == "plugin:kinto-attachment"
        assert event.payload["bucket_id"] == "b"
    assert app.registry.route_prefix == "v1"


@assumed(
    'request.bound_data["resource_events"].event_dict',
    by="attachments/readers.py",
    why="a private file may be moved in a batch, whose events tell of the new record first",
)
def test_events_that_are_not_told_yet_can_be_looked_at(app):
    """The collector has them by level, resource, parent and action; what is told is taken out."""

    def collected(request: Any) -> list[Any]:
        Record(clone_of(request, "PUT", {"data": {}}), context=Context()).put()
        events = request.bound_data["resource_events"].event_dict
        ((_, *key),), ((_, impacted, _),) = events.keys(), events.values()
        first = next(request.get_resource_events())
        return [key, impacted[0]["new"]["id"], impacted == first.impacted_objects, len(events)]

    assert within(app, collected) == [["record", COLLECTION, ACTIONS.CREATE], "r", True, 0]


@assumed(
    "kinto.authorization._inherited_permissions",
    "kinto.core.utils.prefixed_principals",
    "registry.permission.check_permission",
    by="attachments/readers.py",
    why="a private file is for those who may read a record of it, without a request for each",
)
def test_what_grants_reading_a_record_is_known_without_a_request(app):
    """By its permissions and those of its parents, as Kinto's own policy asks for them."""
    granting = {
        (uri, permission)
        for uri in ("/buckets/b", COLLECTION, RECORD)
        for permission in ("read", "write")
    }
    assert set(_inherited_permissions(RECORD, "read")) == granting
    assert set(_inherited_permissions(f"{COLLECTION}/records", "read")) == {
        (uri, permission) for uri, permission in granting if uri != RECORD
    }

    def asked(request: Any) -> list[bool]:
        user, permission = prefixed_principals(request), request.registry.permission
        permission.add_principal_to_ace(RECORD, "read", "system.Authenticated")
        return [
            permission.check_permission(user, [(RECORD, "read")]),
            permission.check_permission(user, [(f"{RECORD}2", "read")]),
            permission.check_permission(["system.Everyone"], [(RECORD, "read")]),
        ]

    assert within(app, asked) == [True, False, False]


@assumed(
    "kinto.events.ServerFlushed",
    'the route "flush"',
    by="listeners/flush.py",
    why="the names of all files are written down before a flush, and the files deleted after it",
)
@on_both_backends
def test_a_flush_is_recognised_before_it_happens_and_told_after(app):
    """POST __flush__ has that route; objects are there when its context is found, and gone when
    ServerFlushed is told, with the same request."""
    found = []

    def before(event: Any) -> Any:
        if event.request.matched_route.name == "flush":
            found.append((event.request, len(records_in(event.request))))

    def after(event: Any) -> None:
        found.append((event.request, len(records_in(event.request))))

    app.put_json(f"/v1{RECORD}", {"data": {}})
    with listening(app, ContextFound, before), listening(app, ServerFlushed, after):
        app.post("/v1/__flush__", status=202)

    (request, count), (same_request, rest) = found
    assert request is same_request
    assert (count, rest) == (1, 0)


# Transactions


@assumed(
    "request.tm",
    'environ["tm.active"]',
    "Kinto's after-commit hook",
    by="database/transactions.py",
    why="no transaction is held while a body comes in, and AfterResourceChanged is told from it",
)
@on_both_backends
def test_a_request_goes_on_in_another_transaction_with_the_same_hooks(app):
    """Its transaction is that of the thread; it can be ended, and its hooks carried over to
    another one, from which Kinto tells AfterResourceChanged once."""

    def look(request: Any) -> None:
        assert request.environ["tm.active"]
        ended = request.tm.get()
        assert ended is transaction.get()
        hooks = [*ended.getAfterCommitHooks()]
        assert hooks
        request.tm.abort()
        begun = request.tm.begin()
        assert begun is transaction.get()
        for hook, arguments, named in hooks:
            begun.addAfterCommitHook(hook, arguments, named)
        Record(clone_of(request, "PUT", {"data": {}}), context=Context()).put()

    with listening(app, AfterResourceChanged, lambda event: event.payload["record_id"]) as heard:
        within(app, look)

    assert heard == ["r"]
    app.get(f"/v1{RECORD}")


@assumed(
    "the transaction of a batch",
    by=("database/transactions.py", "views/heartbeat.py"),
    why="the transaction of a batch is not ended for one of its requests, and operators' requests"
    " are refused in one",
)
def test_the_requests_of_a_batch_have_a_parent(app):
    """Each of them has the batch's request as ``parent``."""
    seen = []
    app.registry.probe = lambda request: seen.append(request.parent.path) or {}

    path = f"/v1{RECORD}/probe"
    app.post_json("/v1/batch", {"requests": [{"method": "POST", "path": path}]})

    assert seen == ["/v1/batch"]


# The database


@assumed(
    "storage.client",
    "storage.client.commit_manually",
    by=("database/objects.py", "database/scan.py"),
    why="what can be rolled back is decided by it, as is whether SQL can be executed at all",
)
@pytest.mark.parametrize(
    ("backend", "per_request", "transactional"),
    [("memory", "true", None), ("postgresql", "true", True), ("postgresql", "false", False)],
)
def test_a_storage_with_a_client_is_postgresql(make_app, per_request, transactional):
    """Only PostgreSQL has a client, which commits by itself unless a request is a transaction."""
    storage = make_app(
        **{"kinto.includes": "", "kinto.transaction_per_request": per_request}
    ).registry.storage

    client = getattr(storage, "client", None)
    assert (None if client is None else not client.commit_manually) is transactional


@assumed(
    "storage.client.connect",
    "kinto.core.utils.sqlalchemy",
    by=("database/objects.py", "database/rows.py", "database/scan.py"),
    why="rows are locked and read together by SQL of the plugin's own",
)
@on_postgresql
def test_sql_is_executed_in_the_transaction_of_the_request(app):
    """connect() gives the session of the current transaction, and makes a BackendError of what
    SQLAlchemy raises."""
    assert isinstance(sqlalchemy, ModuleType)

    def look(request: Any) -> Any:
        client = request.registry.storage.client
        ids = sqlalchemy.text("SELECT txid_current()")
        with client.connect() as session, client.connect(readonly=True) as same:
            assert session.execute(ids).scalar() == same.execute(ids).scalar()
        with pytest.raises(exceptions.BackendError), client.connect() as session:
            session.execute(sqlalchemy.text("SELECT nothing"))
        transaction.abort()

    within(app, look)


@assumed(
    "storage.client.session_factory",
    by=("database/scan.py", "migrations/__init__.py"),
    why="a snapshot of the whole database needs a connection of its own",
)
@on_postgresql
def test_the_engine_is_that_of_the_session(app):
    """session_factory().get_bind() is an engine with the URL of the database, password included,
    and session_factory.get_bind() is the same."""
    factory = app.registry.storage.client.session_factory
    engine = factory().get_bind()

    assert engine is factory.get_bind()
    with sqlalchemy.create_engine(engine.url).connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1


@assumed(
    "the table objects",
    "the function as_epoch",
    by=("database/objects.py", "database/rows.py", "database/scan.py", "migrations/sql.py"),
    why="rows and records are read, locked and written by SQL",
)
@on_postgresql
def test_a_record_is_a_row_of_objects(app, kinto_database):
    """id, parent_id (the collection's URI), resource_name, last_modified, data (JSONB without id
    and timestamp) and deleted; as_epoch() makes milliseconds of the timestamp."""
    created = app.put_json(f"/v1{RECORD}", {"data": {"title": "x", "deep": {"n": [1]}}})
    columns = "id, parent_id, resource_name, as_epoch(last_modified), data, deleted"
    query = f"SELECT {columns}, pg_typeof(data)::text FROM objects WHERE id = 'r'"  # noqa: S608

    modified = created.json["data"]["last_modified"]
    data = {"title": "x", "deep": {"n": [1]}}
    assert kinto_database.execute(query) == [
        ("r", COLLECTION, "record", modified, data, False, "jsonb")
    ]
    app.delete(f"/v1{RECORD}")
    assert [row[5] for row in kinto_database.execute(query)] == [True]


@assumed(
    "the trigger of the table objects",
    by=("database/rows.py", "migrations/sql.py"),
    why="rows that the plugin writes by SQL get their timestamp from it",
)
@on_postgresql
def test_rows_get_their_timestamp_from_a_trigger(app, kinto_database):
    """A row that is inserted, or updated, without last_modified gets a later one; id, parent_id
    and resource_name are unique."""
    insert = """
        INSERT INTO objects (id, parent_id, resource_name, data, deleted)
        VALUES ('row', '__probe__', 'probe', '{}', FALSE)
        ON CONFLICT (id, parent_id, resource_name) DO UPDATE SET data = '{"again": true}'
        RETURNING as_epoch(last_modified), data
    """
    update = """
        UPDATE objects SET data = '{"n": 1}', last_modified = NULL WHERE parent_id = '__probe__'
        RETURNING as_epoch(last_modified), data
    """
    ((first, _),) = kinto_database.execute(insert)
    ((_, again),) = kinto_database.execute(insert)
    ((last, data),) = kinto_database.execute(update)

    assert again == {"again": True}
    assert data == {"n": 1}
    assert last > first


@assumed(
    "storage.update(), its answer",
    by="tus/store.py",
    why="the timestamp of an upload's row tells whether another request has written it",
)
@on_both_backends
def test_an_object_that_is_written_gets_a_later_timestamp(app):
    """Each write of an object answers with a later timestamp, which is that of the object."""
    storage = app.app.registry.storage
    with transaction.manager:
        written = [storage.update("probe", "/probe", "x", {"n": 1}) for _ in range(3)]
        read = storage.get("probe", "/probe", "x")

    timestamps = [each["last_modified"] for each in written]
    assert timestamps == sorted(set(timestamps))
    assert read["last_modified"] == timestamps[-1]


@assumed(
    "kinto.core.storage.postgresql.PostgreSQLPluginMigration",
    "the table metadata",
    by="migrations/__init__.py",
    why="kinto migrate takes over what earlier versions left, once",
)
@on_postgresql
def test_a_migration_is_run_with_a_client_and_remembers_its_version(app, kinto_database):
    """Its version is 1 until metadata has another under the migration's name; kinto migrate calls
    initialize_schema(client, dry_run), and force_commit commits."""
    environment = {"registry": app.registry}
    try:
        migrate(environment)
        migrate(environment, dry_run=True)
    finally:
        kinto_database.execute("DELETE FROM metadata WHERE name = 'probe_schema_version'")

    assert app.registry.probed == [(False, 1), (True, 3)]


@assumed(
    'parent_id="...*"',
    by=("tus/store.py", "listeners/flush.py", "database/scan.py"),
    why="uploads below a collection are listed by a pattern",
)
@on_both_backends
def test_a_star_in_a_parent_stands_for_any_characters(app):
    """list_all() with a "*" in parent_id lists what is below."""
    storage = app.registry.storage

    def look(request: Any) -> Any:
        for parent in ("/probe/a", "/probe/b", "/other"):
            storage.update("probe", parent, "x", {"parent": parent})
        found = storage.list_all(resource_name="probe", parent_id="/probe/*")
        return sorted(row["parent"] for row in found)

    assert within(app, look) == ["/probe/a", "/probe/b"]


@assumed(
    "kinto.core.storage.memory",
    "memory.Storage._store",
    by="database/scan.py",
    why="list_all() goes through all parents to list the objects of one",
)
def test_the_memory_backend_has_objects_by_parent_and_resource():
    """``_store`` is a mapping of parents to mappings of resource names to objects."""
    storage = memory.Storage()
    storage.update("probe", "/probe", "x", {"title": "here"})

    assert storage._store.get("/probe", {}).get("probe")
    assert not storage._store.get("/other", {}).get("probe")
    assert "/other" not in storage._store


# Settings, registry and what Kinto tells of itself


@assumed(
    "kinto.core.utils.native_value",
    "settings with their prefix",
    by="settings/__init__.py",
    why="a bucket called 2024 is a text, though Kinto takes it for a number",
)
def test_settings_are_kept_as_they_were_written(make_app):
    """A setting is there under its own name, read as JSON, and as text under the name that has
    the prefix, which ``settings_prefix`` is."""
    settings = make_app(**{"kinto.includes": "", "kinto.probe.bucket": "2024"}).registry.settings

    assert settings["settings_prefix"] == "kinto"
    assert settings["kinto.probe.bucket"] == "2024"
    assert settings["probe.bucket"] == native_value("2024") == 2024
    assert native_value("b") == "b"


@assumed(
    "kinto.core.initialization.load_default_settings",
    by="commands/ini.py",
    why="the storage of another ini file is opened without a second server",
)
def test_settings_are_read_without_a_server(monkeypatch):
    """It reads an ini file's settings into the configuration, as a server does at its start,
    environment variables included."""
    written = {"settings_prefix": "kinto", "kinto.probe.bucket": "2024", "kinto.probe.path": "a"}
    monkeypatch.setenv("KINTO_PROBE_PATH", "b")
    config = Configurator(settings=written)

    load_default_settings(config, {})

    settings = config.get_settings()
    assert (settings["probe.bucket"], settings["kinto.probe.bucket"]) == (2024, "2024")
    assert settings["probe.path"] == "b"
    with pytest.raises(ValueError, match="in conflict"):
        load_default_settings(Configurator(settings={**written, "probe.path": "c"}), {})


@on_postgresql
@assumed(
    "storage_backend.load_from_config",
    by="commands/ini.py",
    why="preflight reads the records of a server that does not start",
)
def test_a_storage_backend_is_opened_without_a_server(backend, kinto_settings):
    """Its module makes it from a configuration that has three settings beside its own."""
    own = {name: value for name, value in kinto_settings.items() if ".storage_" in name}
    config = Configurator(settings={"settings_prefix": "kinto", **own})
    needed = {"storage_max_fetch_size": 1, "transaction_per_request": True}
    load_default_settings(config, needed)

    module = config.maybe_dotted(config.get_settings()["storage_backend"])

    assert module.load_from_config(config).list_all("bucket", "") == []


@assumed(
    "registry.heartbeats",
    "registry.public_settings",
    by=("views/heartbeat.py", "__init__.py"),
    why="the server tells whether files can be stored, and what their base URL is",
)
def test_the_registry_has_heartbeats_and_public_settings(app):
    """__heartbeat__ calls each function there with the request; the root shows the settings that
    are named there."""
    assert app.get("/v1/__heartbeat__").json["probe"] is True
    assert app.get("/v1/").json["settings"]["probe.public"] == "told"


@assumed(
    "kinto.core.metrics.IMetricsService",
    "kinto.core.metrics.NoOpMetricsService",
    by=("__init__.py", "metrics.py"),
    why="without a metrics plugin, nothing is counted",
)
def test_a_service_that_does_nothing_is_registered(app):
    """Without a metrics plugin, the registry has a service of that very class."""
    assert type(app.registry.queryUtility(metrics.IMetricsService)) is metrics.NoOpMetricsService


@assumed(
    "kinto.plugins.statsd.StatsDService",
    "the arguments of IMetricsService",
    by="metrics.py",
    why="files and requests are counted, and the storage is timed",
)
def test_a_service_takes_numbers_and_labels():
    """Counters take a number and labels, times seconds and labels, observations a number. StatsD
    gets a set in place of a counter with labels."""
    sent = []

    class Client:
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments, **named: sent.append((name, *arguments, *named.values()))

    service = StatsDService.__new__(StatsDService)
    service._client = Client()

    service.count("a", 2)
    service.count("b", 2, [("label", "x")])
    service.timer("c", 1.5, [("label", "x")])
    service.observe("d", 7)

    assert sent == [
        ("incr", "a", 2),
        ("set", "b", "label.x"),
        ("timing", "c.label.x", timedelta(seconds=1.5)),
        ("gauge", "d", 7),
    ]
    for method in ("count", "timer", "observe"):
        of_both = [
            len(inspect.signature(getattr(each, method)).parameters)
            for each in (StatsDService, PrometheusService)
        ]
        assert of_both[0] == of_both[1]


# HTTP


@assumed(
    "kinto.core.cornice.cors.get_cors_preflight_view",
    by="tus/views.py",
    why="OPTIONS answers clients that speak tus as well as browsers",
)
def test_the_preflight_view_of_a_service_can_be_called_from_another(app):
    """A service may have a view for OPTIONS; that function makes the view that it would have."""
    headers = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    answer = app.as_user(None).options(f"/v1{RECORD}/probe", headers=headers)

    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@assumed(
    "the response of a Service's view",
    by=("views/attachment.py", "views/files.py"),
    why="a script of another origin may read a file, and the reason why it may not",
)
@pytest.mark.parametrize("fails", [False, True])
def test_a_response_of_ones_own_gets_its_cors_headers(app, fails):
    """A view returns or raises any response, and Kinto adds the headers."""

    def view(request: Any) -> Any:
        if fails:
            raise HTTPNotFound()
        return Response(status=404, app_iter=iter([b"of its own"]))

    app.registry.probe = view
    headers = {"Origin": "https://example.org"}
    answer = app.post(f"/v1{RECORD}/probe", headers=headers, status=404)

    assert (answer.body == b"of its own") is not fails
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@assumed(
    "kinto.core.resource.schema.HeaderSchema",
    "kinto.core.schema.HeaderQuotedInteger",
    by="http/preconditions.py",
    why="If-Match and If-None-Match mean what they mean for records",
)
def test_preconditions_are_read_from_headers(app):
    """The schema makes a number of a quoted timestamp, leaves "*", and refuses all else with
    Invalid or ValueError."""

    def read(value: str) -> Any:
        return HeaderSchema().deserialize({"If-Match": value})["If-Match"]

    assert read('"123"') == 123
    assert HeaderSchema().deserialize({"If-None-Match": "*"})["If-None-Match"] == "*"
    for wrong in ("abc", '*"1"', '"1'):
        with pytest.raises((colander.Invalid, ValueError)):
            read(wrong)
    assert isinstance(HeaderQuotedInteger.error_message, str)


@assumed(
    'the route "record-object"',
    by=("views/attachment.py", "tus/views.py"),
    why="Location is the URL of the record",
)
def test_the_url_of_a_record_is_that_of_a_route(app):
    """The route of a record has that name, and bucket_id, collection_id and id."""

    def look(request: Any) -> Any:
        return request.route_url("record-object", **request.matchdict)

    assert within(app, look) == f"http://localhost/v1{RECORD}"


# OpenAPI


class Part(colander.String):
    """A part of a form."""


class PartConverter(TypeConverter):
    type = "string"

    def convert_type(self, schema_node: Any) -> Any:
        return {**super().convert_type(schema_node), "in": "formData"}


class Described(colander.MappingSchema):
    headers = colander.MappingSchema(
        children=[colander.SchemaNode(Part(), name="attachment", description="The file.")]
    )


@assumed(
    "kinto.core.openapi.OpenAPI",
    "kinto.core.openapi.OpenAPI.ignore_methods",
    "kinto.core.cornice_swagger.converters.schema.TypeConverter",
    "Service.definitions",
    by=("http/openapi.py", "tus/openapi.py"),
    why="Kinto describes no forms and no HEAD, which the plugin's endpoints have",
)
def test_a_description_is_made_from_the_services_definitions(app, monkeypatch):
    """What is added to a registered service's definitions is described, with types of one's own,
    and methods unless they stand in ``ignore_methods``."""
    converters = {**OpenAPI.custom_type_converters, Part: PartConverter}
    monkeypatch.setattr(OpenAPI, "custom_type_converters", converters)

    class WithOptions(OpenAPI):
        ignore_methods = ("HEAD",)

    service = Service(name="described", path="/described")
    service.add_view("POST", lambda request: {})
    service.add_view("OPTIONS", lambda request: {})
    ((_, _, arguments), _) = service.definitions
    arguments.update(schema=Described, content_type="multipart/form-data")

    def look(request: Any) -> Any:
        return [kind([service], request).generate() for kind in (OpenAPI, WithOptions)]

    usual, with_options = within(app, look)
    methods = usual["paths"]["/described"]
    parameters = {each["name"]: each for each in methods["post"]["parameters"]}
    assert parameters["attachment"] == {
        "name": "attachment",
        "in": "formData",
        "type": "string",
        "required": True,
        "description": "The file.",
    }
    assert methods["post"]["consumes"] == ["multipart/form-data"]
    assert "options" not in methods
    assert "options" in with_options["paths"]["/described"]


@assumed(
    'the route "openapi"',
    by="tus/openapi.py",
    why="HEAD is added to what Kinto has generated, before it is rendered",
)
def test_the_description_is_rendered_from_a_mapping(app, monkeypatch):
    """The view of that route returns the document, which has ``paths``."""
    # It is made once in a process.
    monkeypatch.setattr(openapi_view, "__json__", {"paths": {}}, raising=False)

    def hear(event: Any) -> Any:
        is_it = event["request"].matched_route.name == "openapi"
        return "paths" in event.rendering_val if is_it else None

    with listening(app, BeforeRender, hear) as heard:
        app.get("/v1/__api__")

    assert heard == [True]


# The list itself


def imported() -> dict[str, set[str]]:
    """What the package imports from Kinto, with the files that do."""
    names: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kinto":
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    names.setdefault(name, set()).add(str(path.relative_to(PACKAGE)))
    return names


def test_all_that_is_imported_from_kinto_is_documented_or_checked_here():
    unknown = imported().keys() - DOCUMENTED - CHECKED.keys()

    assert not unknown, "Add a check for each of these, or name it in DOCUMENTED."


def test_nothing_is_checked_in_vain():
    absent = {
        file for files in CHECKED.values() for file in files if not (PACKAGE / file).exists()
    }

    assert not absent, "These files have another name by now: see `by` of the checks."
    assert not DOCUMENTED - imported().keys(), "These are not imported any more."
