"""What schemathesis is to make up beside its own ideas: ids and fields that Kinto accepts often
enough to get further than to a refusal.

https://schemathesis.readthedocs.io/en/stable/guides/extending/
"""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_TEXTS = st.text(max_size=10)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda some: st.lists(some, max_size=3) | st.dictionaries(_TEXTS, some, max_size=3),
    max_leaves=5,
)
_NAMES = st.sampled_from(["id", "last_modified", "attachment", "schema", "title", "read", "write"])
_OBJECTS = st.dictionaries(
    _NAMES | _TEXTS, _VALUES | st.sampled_from([["system.Everyone"], "r", None]), max_size=4
).map(json.dumps)

_BUCKET = os.environ["TEST_BUCKET"]
_IDS = st.fixed_dictionaries(
    {
        "bucket_id": st.sampled_from([_BUCKET, _BUCKET, _BUCKET, "default", "nowhere"]),
        "collection_id": st.sampled_from(["c", "c", "c", "new"]),
        "id": st.sampled_from(["r", "r", "s", "not@valid"]),
    }
)


@schemathesis.hook
def before_generate_path_parameters(
    context: Any, strategy: SearchStrategy[Any]
) -> SearchStrategy[Any]:
    return strategy | _IDS | _IDS


@schemathesis.hook
def before_generate_body(context: Any, strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    fields = st.fixed_dictionaries({}, optional={"data": _OBJECTS, "permissions": _OBJECTS})
    return strategy | st.builds(_with_fields, strategy, fields)


def _with_fields(body: Any, fields: dict[str, str]) -> Any:
    return {**body, **fields} if isinstance(body, dict) else body
