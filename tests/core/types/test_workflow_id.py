"""`WorkflowId` is a `str` at run time."""

from __future__ import annotations

import json
import pickle
from typing import Any, Dict

import pytest

from flowmaestro_core.operation import endpoint, iterating_endpoint
from flowmaestro_core.resources import Workflows, typed_starts
from flowmaestro_core.types import WorkflowId

MADE: Any = [
    WorkflowId("wf 1"),
    WorkflowId[Dict[str, Any]]("wf 1"),
    WorkflowId[Dict[str, Any], Dict[str, Any]]("wf 1"),
]


@pytest.mark.parametrize("id", MADE)
def test_an_id_with_types_is_a_text(id: Any) -> None:
    assert isinstance(id, str)
    assert (id, f"{id}", repr(id), json.dumps(id)) == ("wf 1", "wf 1", "'wf 1'", '"wf 1"')
    assert {id: 1}["wf 1"] == 1
    assert pickle.loads(pickle.dumps(id)) == id
    assert id.isidentifier() is False


@pytest.mark.parametrize("id", MADE)
def test_an_id_with_types_is_sent_like_a_plain_one(id: Any) -> None:
    built, plain = (Workflows.execute(each, {"a": 1}) for each in (id, "wf 1"))
    assert (built.path, built.body) == (plain.path, plain.body)


def test_the_types_of_starts_cost_nothing_at_run_time() -> None:
    names = {name for name in vars(typed_starts) if not name.startswith("__")}
    assert names == {"annotations", "TYPE_CHECKING"}
    kinds = [type(vars(Workflows)[name]) for name in ("execute", "run", "run_many")]
    assert kinds == [endpoint, endpoint, iterating_endpoint]
